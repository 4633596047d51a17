"""Which files of data `prune` takes, and whose they are, when models share some and one of them was pruned before."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from pipeline.errors import DataError, RemoteError
from pipeline.ledger.events import DataLanded, RunSettled, VersionRegistered
from pipeline.ledger.landed_events import LandedProfiled
from pipeline.ledger.prune_events import Pruned
from pipeline.ledger.store import Ledger
from pipeline.runs.pruning import data, files
from pipeline.runs.pruning import run as pruning
from pipeline.runs.pruning.kept import Versions
from pipeline.settings.keep import Keep
from pipeline.workspaces.whole_files import Kept

KEEP = Keep(versions=1, versions_days=1)


@pytest.fixture
def context(tmp_path):
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    return SimpleNamespace(
        ledger=ledger,
        clock=lambda: datetime.now(UTC) + timedelta(days=400),
        project=tmp_path,
        params=SimpleNamespace(keep=KEEP),
    )


def trained(context, model, data_version, md5s, pushed):
    """A run that landed the files and registered version 1."""
    landed = {f"{md5}.parquet": {"md5": md5} for md5 in md5s}
    of = {"data_version": data_version, "as_of": "2024-03-01"}
    for event in (
        DataLanded(**of, partitions=len(md5s), landed=landed, remote="/r", pushed_bytes=pushed),
        VersionRegistered(**of, version="1", mlflow_run="x"),
        RunSettled(),
    ):
        context.ledger.append(event, model, f"run of {model}")


def all_go(context, *models):
    return {
        model: Versions(
            {"1": context.ledger.events(VersionRegistered, model=model)[-1].event},
            {},
            frozenset(v for entry in context.ledger.events(Pruned, model=model) for v in entry.event.versions),
        )
        for model in models
    }


def test_a_shared_file_is_of_the_model_that_sent_it_also_when_that_was_pruned_first(context, monkeypatch):
    """`a` sent what both have and is pruned, with what was counted for its run: the rest stays for `b`. When `b` goes, the shared file is still of `a`, which pays for it."""
    trained(context, "a", "A.dir", ["own", "shared"], 10)
    of = {"snapshot": "A.dir", "quarantine": "q", "edges": "e", "partitions": ["1"], "rows": 9}
    context.ledger.append(LandedProfiled(**of, profiles="counted"), "a", "run of a")
    trained(context, "b", "B.dir", ["shared", "more"], 5)
    trained(context, "c", "C.dir", ["third"], 5)
    lists = {"A.dir": {"1": "own", "2": "shared"}, "B.dir": {"2": "shared", "3": "more"}, "C.dir": {"4": "third"}}
    monkeypatch.setattr(data.dvc_remote, "listings", lambda _, versions: {v: lists.get(v) for v in versions})
    assert data.removable(context, all_go(context, "a"), KEEP) == {"A.dir": "a", "own": "a", "counted": "a"}
    context.ledger.append(Pruned(removed={}, bytes=0, versions=["1"], rules={}), "a")
    del lists["A.dir"]
    assert data.removable(context, all_go(context, "b"), KEEP) == {"B.dir": "b", "shared": "a", "more": "b"}
    trained(context, "a", "D.dir", ["anew"], 5)
    lists["D.dir"] = {"5": "anew"}
    assert "anew" not in data.removable(context, all_go(context, "b"), KEEP), "version 1 of a is another one now"
    del lists["C.dir"]
    with pytest.raises(DataError, match=r"data version C\.dir: is needed"):
        data.removable(context, all_go(context, "b"), KEEP)


def test_what_went_before_the_remote_broke_off_is_noted(context, monkeypatch):
    """Each model's event has its own bytes of the remote, with those of a model that nobody asked about; a cached file is none of them."""

    def removed(_, hashes):
        yield Kept("own", 7, True)
        yield Kept("cached", 3, False)
        yield Kept("shared", 5, True)
        raise RemoteError("remote s3://x", "a file could not be removed: away", "check its address and its keys")

    of = {"own": "b", "cached": "b", "shared": "a", "later": "b"}
    monkeypatch.setattr(pruning, "versions_of", lambda *_: Versions({}, {}, frozenset()))
    monkeypatch.setattr(pruning, "_model", lambda context, run, model, *_: pruning.PrunedModel(model))
    monkeypatch.setattr(pruning.data, "removable", lambda *_: of)
    monkeypatch.setattr(pruning.dvc_remote, "remove", removed)
    with pytest.raises(RemoteError):
        pruning.prune(context, "t", ["b"])
    noted = {entry.model: entry.event for entry in context.ledger.events(Pruned)}
    assert {
        model: (event.removed["files of data"], event.bytes, event.remote_bytes) for model, event in noted.items()
    } == {
        "a": (1, 5, 5),
        "b": (2, 10, 7),
    }


def test_logs_of_old_runs_go_with_their_own_model(tmp_path):
    """A run's logs go when nothing in them is young; another model's stay, also where one name ends with the other, and all without a rule."""
    now = datetime.now(UTC)
    logs, old = tmp_path / "airflow" / "logs", (now - timedelta(days=200)).timestamp()
    for dag, young in (("retrain__b", ""), ("monitor__b", "attempt=2.log"), ("retrain__a_b", ""), ("x__a__b", "")):
        task = logs / f"dag_id={dag}" / "run_id=1" / "task_id=t"
        task.mkdir(parents=True)
        for name in ("attempt=1.log", "attempt=2.log"):
            (task / name).write_bytes(b"x" * 5)
        for path in (task / "attempt=1.log", task / "attempt=2.log", task, task.parent):
            if path.name != young:
                os.utime(path, (old, old))
    context = SimpleNamespace(home=tmp_path, clock=lambda: now)
    assert files.task_logs(context, "b", Keep(logs_days=100)) == [
        files.Removable("logs of runs", logs / "dag_id=retrain__b" / "run_id=1", 10)
    ]
    assert files.task_logs(context, "a__b", Keep(logs_days=100))[0].path.parent.name == "dag_id=x__a__b"
    assert files.task_logs(context, "b", Keep(logs_days=300)) == files.task_logs(context, "b", Keep()) == []


def test_a_file_that_goes_meanwhile_stops_no_other_model(context, monkeypatch):
    """A slot merges its log while it is looked through: a line, and the other model is pruned."""

    def model(context, run, name, *_):
        if name == "a":
            raise FileNotFoundError(2, "No such file", "x.parquet")
        return pruning.PrunedModel(name, versions=["1"])

    monkeypatch.setattr(pruning, "versions_of", lambda *_: Versions({}, {}, frozenset()))
    monkeypatch.setattr(pruning, "_model", model)
    monkeypatch.setattr(
        pruning.data, "removable", lambda context, of_models, keep: {} if [*of_models] == ["b"] else None
    )
    done = pruning.prune(context, "t", ["a", "b"])
    assert [entry.model for entry in context.ledger.events(Pruned)] == ["b"]
    assert done.notes == ("a was left alone: [Errno 2] No such file: 'x.parquet'",)
