"""The ledger appends, tells, and shows when somebody has changed it."""

import sqlite3
import threading

import pytest
import sqlalchemy as sa

from pipeline.accounts.roi import roi
from pipeline.accounts.statement import Terms
from pipeline.errors import LedgerError
from pipeline.ledger import costs
from pipeline.ledger.events import StepEnded, StepStarted
from pipeline.ledger.metering import metered
from pipeline.ledger.package_of_version import PackageOfVersion
from pipeline.ledger.rollout_events import AbortAsked, RolledBack, RolloutEnded
from pipeline.ledger.store import EVENTS, Ledger
from pipeline.ledger.timeline import (
    live_at,
    number_is_its_own_since,
    rolled_back_versions,
    timeline,
    trusted_predecessor,
)
from pipeline.settings.accounts import Baseline, Prices
from tests.support.ledger import filled

PRICES = Prices(currency="EUR", cpu_core_hour=3600.0, memory_gb_hour=3600.0, engineer_hour=100.0)


def test_events_come_back_in_order(ledger):
    """Events come back in the order in which they were written."""
    assert [e.body["reason"] for e in filled(ledger).events()] == ["0", "1", "2", "3", "4"]
    assert filled(ledger).verify() == (10, None)


def path_of(ledger):
    return ledger.url.removeprefix("sqlite:///")


@pytest.mark.parametrize(
    "tamper",
    [
        "UPDATE events SET body = '{\"i\":9}' WHERE seq = 3",
        "UPDATE events SET at = '2020-01-01T00:00:00.000Z' WHERE seq = 3",
        "DELETE FROM events WHERE seq = 3",
        "UPDATE events SET seq = 99 WHERE seq = 3",
        "UPDATE events SET body = CAST(x'7b22ff227d' AS TEXT) WHERE seq = 3",
        "UPDATE events SET body = x'7b22ff227d' WHERE seq = 3",
        "UPDATE events SET kind = CAST(x'ff' AS TEXT) WHERE seq = 3",
        "UPDATE events SET body = 'no JSON' WHERE seq = 3",
    ],
)
def test_a_changed_or_missing_row_breaks_the_chain(ledger, tamper):
    """An event that was changed, deleted, renumbered or made unreadable breaks the chain at its number."""
    filled(ledger)
    with sqlite3.connect(path_of(ledger)) as connection:
        connection.execute(tamper)
    assert ledger.verify()[1] == (3 if "UPDATE" in tamper and "seq = 99" not in tamper else 4)


@pytest.mark.parametrize("content", ["CAST(x'7b22ff227d' AS TEXT)", "'no JSON'", "'[1]'"])
def test_an_unreadable_body_stops_only_who_needs_that_event(ledger, content):
    """An event with an unreadable body is one line for who reads it, and no obstacle for other models."""
    for model in ("m", "other"):
        ledger.append(RolloutEnded(version="1", slot="blue"), model)
    with sqlite3.connect(path_of(ledger)) as connection:
        connection.execute(f"UPDATE events SET body = {content} WHERE seq = 1")
    assert live_at(ledger, "other").version == "1"
    assert [entry.model for entry in ledger.events(RolloutEnded)] == ["m", "other"]
    with pytest.raises(LedgerError, match=r"event 1: its body is no JSON.*; run `perennial verify`"):
        live_at(ledger, "m")


def test_half_a_surrogate_pair_is_written_and_read_back(ledger):
    """A text that UTF-8 cannot write, such as a file's name, is written with an escape and read back unchanged."""
    ledger.append(AbortAsked(reason="a\udcff"), "m")
    assert ledger.events()[0].event.reason == "a\udcff"
    assert ledger.verify() == (1, None)


def test_the_order_is_that_of_the_numbers_when_a_clock_is_set_back(ledger):
    """A clock that was set back two days makes no later version live before an earlier one, and is marked."""
    for version, at in (("1", "01-01"), ("2", "01-10"), ("3", "01-08"), ("4", "01-12")):
        ledger.append(RolloutEnded(version=version, slot="blue"), "m", at=f"2024-{at}T00:00:00.000Z")
    live = {day: live_at(ledger, "m", f"2024-01-{day}T00:00:00.000Z") for day in ("05", "09", "11", "12")}
    assert {day: move.version for day, move in live.items()} == {"05": "1", "09": "1", "11": "3", "12": "4"}
    assert live_at(ledger, "m").version == "4"
    marked = {event.what.split()[1]: event.earlier for event in timeline(ledger, "m") if event.earlier}
    assert marked == {"3": "2024-01-10T00:00:00.000Z"}
    assert [step.seq for step in ledger.clock_steps()] == [3]


def test_clocks_of_several_machines_are_not_marked(ledger):
    """Times that differ by milliseconds, as those of several machines do, are not marked."""
    for at in ("00:00:01.500", "00:00:01.480", "00:00:02.000"):
        ledger.append(AbortAsked(reason="r"), "m", at=f"2024-01-01T{at}Z")
    assert ledger.clock_steps() == []


def test_many_writers_make_one_chain(ledger):
    """Four threads that write at once make one chain without a lost event."""
    threads = [threading.Thread(target=filled, args=(Ledger(ledger.url), 25)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ledger.verify() == (100, None)


def test_sqlite_is_durable(ledger):
    """An SQLite ledger uses WAL and synchronous = FULL."""
    with ledger._engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
    assert [c.name for c in sa.inspect(EVENTS).primary_key] == ["seq"]


def test_a_ledger_that_cannot_be_opened_is_one_line_without_the_password():
    """A ledger that cannot be opened gives one line without its password."""
    with pytest.raises(LedgerError) as refused:
        Ledger("postgresql+psycopg2://u:secret@127.0.0.1:1/none")
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_step_is_metered_whatever_way_it_ends(ledger):
    """A step's time, processor time and memory are recorded, whether it succeeds or fails."""
    with metered(ledger, "r", "m", "good"):
        sum(i * i for i in range(300_000))
    with pytest.raises(ZeroDivisionError), metered(ledger, "r", "m", "bad"):
        1 / 0
    good, bad = (e.body for e in ledger.events(StepEnded))
    assert good["state"] == "success"
    assert good["cpu_s"] > 0
    assert good["wall_s"] > 0
    assert good["peak_mb"] > 1
    assert (bad["state"], bad["error"]) == ("failed", "division by zero")


def test_costs_follow_the_formula_and_show_what_never_ended(ledger):
    """Costs follow the documented formula, and a step without an end is shown as such."""
    ledger.append(StepStarted(), "m", "r", "train")
    ledger.append(StepEnded(state="success", wall_s=2.0, cpu_s=3.0, peak_mb=512.0), "m", "r", "train")
    ledger.append(StepStarted(), "m", "r", "killed")
    (run,) = costs.run_costs(ledger, PRICES)
    assert run.cost == pytest.approx(3.0 + 0.5 * 2.0)
    assert [s.state for s in run.steps] == ["success", "no end recorded"]


def test_roi_says_what_is_measured_and_what_is_claimed(ledger):
    """ROI tells measured counts from claimed hours and names the baseline's source."""
    baseline = Baseline(
        source="a study", manual_engineer_hours_per_deployment=(8, 16), automated_engineer_hours_per_deployment=(0.5, 2)
    )
    ledger.append(RolloutEnded(version="1", slot="blue", switch_s=0.1), "m", "r")
    told = roi(ledger, Terms(PRICES), baseline, model="m").as_dict()
    assert (told["deployments"], told["engineer_hours_saved_low"], told["engineer_hours_saved_high"]) == (1, 6.0, 15.5)
    assert told["baseline_source"] == "a study"
    assert "net_low" in told["claimed"]


def test_the_timeline_knows_what_was_live_when(ledger):
    """The timeline gives the version that was live at a time."""
    one = ledger.append(RolloutEnded(version="1", slot="blue", switch_s=0.1), "m", "r", at="2024-01-01T00:00:00.000Z")
    ledger.append(RolloutEnded(version="2", slot="green", switch_s=0.1), "m", "r", at="2024-02-01T00:00:00.000Z")
    assert live_at(ledger, "m").version == "2"
    assert live_at(ledger, "m", "2024-01-15T00:00:00.000Z").version == "1"
    assert live_at(ledger, "m", "2023-01-15T00:00:00.000Z") is None
    assert [e.what for e in timeline(ledger, "m", one.at)] == ["version 1 live in blue, switched in 0.10 s"]


@pytest.mark.parametrize(
    ("moves", "before"),
    [
        ([("1", ""), ("2", "")], {"2": "1", "1": "2"}),
        ([("1", ""), ("2", ""), ("1", "2")], {"1": None}),
        ([("1", ""), ("2", ""), ("3", ""), ("2", "3")], {"2": "1"}),
        ([("1", ""), ("2", ""), ("1", "2"), ("3", "")], {"3": "1"}),
        ([("1", ""), ("2", ""), ("1", "2"), ("2", ""), ("3", "")], {"3": "2"}),
    ],
)
def test_what_was_rolled_back_is_nobodys_predecessor_until_it_is_deployed_again(ledger, moves, before):
    """A version that was rolled back is no predecessor until it is deployed again."""
    for version, left in moves:
        moved = (
            RolledBack(version=version, slot="blue", left=left) if left else RolloutEnded(version=version, slot="blue")
        )
        ledger.append(moved, "m")
    found = {version: trusted_predecessor(ledger, "m", PackageOfVersion(version)) for version in before}
    assert {version: package and package.version for version, package in found.items()} == before


def test_a_number_that_names_two_packages_is_two_versions(ledger):
    """A model that was made again counts from 1 again: its new version 1 has the old one among its predecessors, by digest."""
    old, two, new = PackageOfVersion("1", "a"), PackageOfVersion("2", "b"), PackageOfVersion("1", "c")
    for package in (old, two, new):
        ledger.append(RolloutEnded(version=package.version, digest=package.digest), "m")
    moves = ledger.events(RolloutEnded)
    assert trusted_predecessor(ledger, "m", new) == two
    assert trusted_predecessor(ledger, "m", new, "1") == old
    assert number_is_its_own_since(ledger, "m", new) == moves[1].at
    assert number_is_its_own_since(ledger, "m", two) == ""
    ledger.append(RolledBack(version="2", digest="b", left="1", left_digest="c"), "m")
    assert trusted_predecessor(ledger, "m", two) == old
    assert rolled_back_versions(ledger, "m") == [new]
    ledger.append(RolledBack(version="1", digest="a", left="2"), "m")
    assert trusted_predecessor(ledger, "m", old) is None
