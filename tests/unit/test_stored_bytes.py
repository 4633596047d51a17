"""Bytes outside the DVC remote: from the disk into the ledger by model and place, and from there into the bill."""

from __future__ import annotations

import os
import time

import pytest

from pipeline.accounts.money import cents
from pipeline.accounts.statement import statement
from pipeline.cli import account_table
from pipeline.errors import RegistryError
from pipeline.ledger.events import DataLanded, VersionRegistered
from pipeline.ledger.landed_events import LandedProfiled
from pipeline.ledger.prune_events import Pruned
from pipeline.ledger.store import Ledger
from pipeline.ledger.usage_events import BytesStored
from pipeline.reliability import stored_bytes
from pipeline.reliability.stored_bytes import StoredBytes, on_disk
from tests.support.accounts import TERMS, UNTIL, worked_by_hand

NOW = 1_800_000_000.0
GB = 10**9


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    return Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")


def write(folder, path, size):
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"x" * size)
    return file


def test_each_file_is_of_its_model_and_place_and_counts_once(tmp_path):
    """Own folders and Dags' logs are a model's; DVC's cache, which workspaces share, counts once, and the DVC remote not at all."""
    project, home = tmp_path / "p", tmp_path / "p" / ".perennial"
    config = "[core]\n    remote = store\n['remote \"store\"']\n    url = ../.perennial/remote\n"
    write(project, ".dvc/config", 0).write_text(config)
    cached = write(project, ".dvc/cache/files/md5/ab/c", 100)
    write(home, "workspaces/r/rows", 0).unlink()
    os.link(cached, home / "workspaces/r/rows")
    write(home, "remote/files/md5/ab/c", 100)
    for path, size in (
        *(("predictions/a/x.parquet", 7), ("predictions/a/shadow/y.parquet", 5), ("versions/b/1/model.onnx", 11)),
        *(("mlflow/artifacts/a/run/model.onnx", 13), ("profiles/b.db", 17), ("reports/gone/page.html", 19)),
        *(("airflow/logs/dag_id=retrain__a/run_id=1/t.log", 23), ("ledger.db-wal", 29), ("services.log", 31)),
    ):
        write(home, path, size)
    os.symlink(home / "services.log", home / "versions/b/link")
    assert on_disk(home, project, {"a", "b"}) == {
        "": {"DVC's cache": 100, "pages of looks": 19, "the ledger": 29, "services": 31},
        "a": {"prediction log": 12, "MLflow's artifacts": 13, "Airflow's logs": 23},
        "b": {"packages": 11, "profiles": 17},
    }


def test_what_all_have_is_shared_and_only_what_changed_is_noted(ledger, tmp_path, monkeypatch):
    """Each model has its own bytes, an even share of the rest, and of another machine's; a look that says the same is not noted."""
    home = tmp_path / "home"
    write(home, "predictions/a/x.parquet", 1000)
    write(home, "services.log", 500)
    looks = StoredBytes(home, tmp_path, ledger, lambda: {"": {"the ledger": 50}, "b": {"MLflow's artifacts": 7}})
    for _ in range(2):
        looks.note({"a", "b"}, time.time())
    assert {entry.model: dict(entry.event.places) for entry in ledger.events(BytesStored)} == {
        "a": {"prediction log": 1000, "services": 250, "the ledger": 25},
        "b": {"MLflow's artifacts": 7, "services": 250, "the ledger": 25},
    }
    monkeypatch.setattr(stored_bytes, "CHANGED", 100)
    write(home, "predictions/a/y.parquet", 100)
    looks.note({"a", "b"}, time.time())
    assert [entry.model for entry in ledger.events(BytesStored)] == ["a", "b", "a"]


def test_a_look_is_made_daily_and_again_soon_after_one_that_failed(ledger, tmp_path):
    """The first comes some minutes after the start, another start does not repeat it, and one that failed is tried again."""
    made, fails = [], [True]

    def elsewhere():
        made.append(1)
        if fails:
            raise RegistryError("experiments", "is away", "start it")
        return {}

    looks = StoredBytes(tmp_path, tmp_path, ledger, elsewhere)
    for second in (0, stored_bytes.FIRST_S, stored_bytes.FIRST_S + 60, stored_bytes.FIRST_S + stored_bytes.AGAIN_S):
        looks.look({"a"}, NOW + second)
        if looks._thread is not None:
            looks._thread.join()
        if made:
            fails.clear()
    assert (len(made), len(ledger.events(BytesStored))) == (2, 1)
    other = StoredBytes(tmp_path, tmp_path, ledger, elsewhere)
    at = stored_bytes.ms_of(ledger.events(BytesStored)[0].at) / 1000
    for second in (1, stored_bytes.FIRST_S + 2, stored_bytes.EVERY_S - 1):
        other.look({"a"}, at + second)
    assert other._thread is None


def test_bytes_that_a_prune_removed_from_the_remote_cost_no_more_from_then_on(ledger):
    """Worked by hand: 2 GB from 22 January, 1.5 of them gone from 1 February, the rest and more than it from 6 February."""

    def prune(at, **gone):
        event = Pruned(removed={"files of data": 1}, bytes=9 * GB, versions=(), rules={}, **gone)
        ledger.append(event, "m", "op", at=f"2026-02-{at}T00:00:00.000Z")

    before = statement(worked_by_hand(ledger), TERMS, until=UNTIL)
    prune("01")
    assert statement(ledger, TERMS, until=UNTIL).total == before.total, "an older prune does not say of which model"
    prune("01", remote_bytes=3 * GB // 2)
    prune("06", remote_bytes=GB)
    prune("07", remote_bytes=0)
    bill = statement(ledger, TERMS, until=UNTIL)
    # 2 GB of 10 of 31 days; half a GB of 5 of 28 days; nothing from then on. A GB-month costs 0.31.
    (january, february) = bill.by_part()["storage"]
    assert (january.month, cents(january.amount)) == ("2026-01", 20)
    assert (february.month, february.quantity, cents(february.amount)) == ("2026-02", 0.5 * 5 / 28, 3)
    (was,) = (line for line in before.by_part()["storage"] if line.month == "2026-02")
    assert bill.total == before.total - was.amount + february.amount
    assert bill.by_part()["transfer"] == before.by_part()["transfer"], "what was moved was moved"
    assert statement(ledger, TERMS, until=UNTIL, month="2026-02").by_part()["storage"] == [february]
    of = {"snapshot": "e", "quarantine": "q", "edges": "x", "profiles": "p", "partitions": ["1"], "rows": 1}
    for landed in (
        DataLanded(data_version="e", as_of="2026-02-09", partitions=1, remote="/r", pushed_bytes=GB),
        LandedProfiled(**of, pushed_bytes=GB),
    ):
        ledger.append(landed, "m", "r4", at="2026-02-09T00:00:00.000Z")
    (*_, february) = statement(ledger, TERMS, until=UNTIL).by_part()["storage"]
    assert february.quantity == pytest.approx(0.5 * 5 / 28 + 2 * 2 / 28), "what lands later costs from then on"


def test_what_is_logged_to_mlflow_is_moved_and_does_not_lie_in_the_remote(ledger):
    """Of a version with half a GB of artifacts the transfer is billed; where it lies is what a look finds."""
    before = statement(worked_by_hand(ledger), TERMS, until=UNTIL)
    registered = VersionRegistered(
        version="3", mlflow_run="x", data_version="d", as_of="2026-02-05", logged_bytes=GB // 2
    )
    ledger.append(registered, "m", "r5", at="2026-02-05T00:00:00.000Z")
    bill = statement(ledger, TERMS, until=UNTIL)
    assert [(line.run, line.quantity, cents(line.amount)) for line in bill.by_part()["transfer"]] == [
        ("r1", 2.0, 100),
        ("r5", 0.5, 25),
    ]
    assert bill.by_part()["storage"] == before.by_part()["storage"]


def test_bytes_outside_the_remote_cost_from_look_to_look(ledger):
    """Worked by hand over two months: 31 GB from 22 January, 56 GB from 1 February; the parts still add up to the total."""
    before = statement(worked_by_hand(ledger), TERMS, until=UNTIL)
    assert before.not_measured[0] == "bytes outside the DVC remote of any time: nobody looked yet"
    assert "other storage" not in before.by_part()
    ledger.append(BytesStored(places={"packages": 30 * GB, "the ledger": GB}), "m", at="2026-01-22T00:00:00.000Z")
    ledger.append(BytesStored(places={"packages": 56 * GB}), "m", at="2026-02-01T00:00:00.000Z")
    bill = statement(ledger, TERMS, until=UNTIL)
    # 31 GB of 10 of 31 days are 10 GB-months; 56 GB of 10 of 28 days 20; a GB-month costs 0.31.
    (january, february) = bill.by_part()["other storage"]
    assert (january.month, january.quantity, cents(january.amount)) == ("2026-01", 10.0, 310)
    assert (february.month, february.quantity, cents(february.amount)) == ("2026-02", 20.0, 620)
    assert bill.total == before.total + january.amount + february.amount
    months = [statement(ledger, TERMS, until=UNTIL, month=month).total for month in ("2026-01", "2026-02")]
    assert sum(months) == bill.total
    assert bill.as_dict()["places"] == {"packages": 56 * GB}
    assert statement(ledger, TERMS, until=UNTIL, run="r1").places == {}, "a run has no storage of its own"
    said = account_table.costs(bill, [], "")
    assert "other storage, as last seen: packages 56.000 GB" in said
    assert "bytes outside the DVC remote before 2026-01-22T00:00Z" in said
