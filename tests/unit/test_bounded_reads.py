"""What pages and `status` read of a ledger does not grow with it, and slots are asked side by side."""

from __future__ import annotations

import socket

import pytest
import sqlalchemy as sa

from pipeline.deployer.asking import LATE, NOTHING, ask
from pipeline.ledger import store
from pipeline.ledger.events import StepEnded, StepStarted
from pipeline.ledger.rollout_events import MOVES, RolledBack, RolloutEnded
from pipeline.ledger.store import Ledger
from pipeline.ledger.timeline import live_at, timeline, trusted_predecessor
from pipeline.pages import overview
from pipeline.rollout.routing.route import Route, RoutedSlot
from pipeline.settings.accounts import Prices

PRICES = Prices(cpu_core_hour=3.6, memory_gb_hour=0, engineer_hour=60)


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    return Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")


def run(ledger: Ledger, name: str) -> None:
    for event in (StepStarted(), StepEnded(state="success", wall_s=1.0, cpu_s=1000.0, peak_mb=1.0)):
        ledger.append(event, "m", name, "train")


def counted(monkeypatch, of) -> int:
    """How many events are read while `of` is done."""
    read = []
    with monkeypatch.context() as counting:
        counting.setattr(store, "Entry", lambda *row: read.append(row) or ENTRY(*row))
        of()
    return len(read)


ENTRY = store.Entry


def test_the_overview_reads_the_newest_runs_however_many_there_are(ledger, monkeypatch):
    """With twice as many runs as it shows it reads as many events as with just those, and shows the newest first."""
    for number in range(overview.RUNS_SHOWN):
        run(ledger, f"r{number}")
    few = counted(monkeypatch, lambda: overview._runs(ledger, PRICES))
    for number in range(overview.RUNS_SHOWN, 2 * overview.RUNS_SHOWN):
        run(ledger, f"r{number}")
    assert counted(monkeypatch, lambda: overview._runs(ledger, PRICES)) == few == 2 * overview.RUNS_SHOWN
    assert overview._runs(ledger, PRICES)[0]["run"] == f"r{2 * overview.RUNS_SHOWN - 1}"
    assert overview._runs(ledger, PRICES)[0]["cost"] == pytest.approx(1.0)


def test_models_that_are_asked_about_together_take_one_query(ledger):
    """In a block for several models what is live of each is read at once; outside it each is read by itself, with the same answer."""
    names = [f"m{number}" for number in range(5)]
    for number, name in enumerate(names):
        ledger.append(RolloutEnded(version="0", slot="blue"), name)
        ledger.append(RolloutEnded(version=str(number), slot="green"), name)
    alone = [live_at(ledger, name) for name in names]
    queries = []
    sa.event.listen(ledger._engine, "after_cursor_execute", lambda *of: queries.append(of))
    with ledger.reading(names):
        assert [live_at(ledger, name) for name in names] == alone
        assert live_at(ledger, "nothing") is None
    assert [each.version for each in alone] == ["0", "1", "2", "3", "4"] and len(queries) == 2


def test_the_events_of_many_models_are_read_in_one_query(ledger):
    """All events of some kinds are read of each model of a block at the first question; what is asked for otherwise is read by itself."""
    names = [f"m{number}" for number in range(5)]
    for name in [*names, "other", *names]:
        ledger.append(RolloutEnded(version="1", slot="blue"), name)
        ledger.append(RolledBack(version="1", slot="blue"), name)
    alone = [ledger.events(RolloutEnded, model=name) for name in (*names, "other")]
    queries = []
    sa.event.listen(ledger._engine, "after_cursor_execute", lambda *of: queries.append(of))
    with ledger.reading(names):
        assert [ledger.events(RolloutEnded, model=name) for name in names] == alone[:-1] and len(queries) == 1
        assert ledger.events(RolloutEnded, model="other") == alone[-1]
        assert ledger.events(RolloutEnded, model="m1", after=3) == alone[1][1:]
        assert len(ledger.events(RolledBack, model="m0")) == 2 and len(ledger.events(RolloutEnded)) == 11


def test_a_predecessor_is_found_behind_many_moves_of_the_live_version(ledger):
    """The newest moves are read first; where they have none that may come back, all are read, and what was rolled back stays left."""
    ledger.append(RolloutEnded(version="1", slot="blue", digest="d1"), "m")
    ledger.append(RolloutEnded(version="2", slot="green", digest="d2"), "m")
    ledger.append(RolledBack(version="1", slot="blue", digest="d1", left="2", left_digest="d2"), "m")
    for _ in range(30):
        ledger.append(RolloutEnded(version="3", slot="blue", digest="d3"), "m")
    live = live_at(ledger, "m").package
    assert trusted_predecessor(ledger, "m", live).version == "1"
    assert trusted_predecessor(ledger, "m", live, "2") is None
    assert len(ledger.last(*MOVES, model="m", count=20)) == 20


def test_a_timeline_of_the_newest_events_marks_a_clock_that_was_set_back(ledger):
    """The events that are left out count all the same for what was set back."""
    for version, day in (("1", "10"), ("2", "08"), ("3", "12")):
        ledger.append(RolloutEnded(version=version, slot="blue"), "m", at=f"2024-01-{day}T00:00:00.000Z")
    assert [event.earlier for event in timeline(ledger, "m")] == ["", "2024-01-10T00:00:00.000Z", ""]
    assert timeline(ledger, "m", last=2) == timeline(ledger, "m")[1:]
    assert timeline(ledger, "m", until="2024-01-10T00:00:00.000Z", last=1) == timeline(ledger, "m")[1:2]


def test_slots_that_hang_are_waited_for_together(monkeypatch):
    """Twenty that take the connection and say nothing are called late at one deadline; a router that refuses is asked once."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        slot = RoutedSlot("blue", "1", address)
        routes = {f"m{number}": Route(f"m{number}", slot) for number in range(20)}
        monkeypatch.setattr("pipeline.deployer.asking.TIMEOUT_S", 0.05)
        late = ask(address, routes, deadline_s=0.0)
        assert late.at(f"{address}/m0") == NOTHING and late.at(f"{address}/m19") == LATE
    refused = ask(address, routes)
    assert {refused.at(f"{address}/{name}") for name in routes} == {NOTHING}
    assert refused.found.keys() == {f"{address}/{name}" for name in routes}


def test_a_few_events_of_several_kinds_are_found_without_reading_all_that_a_model_has(ledger):
    """SQLite searches the index of kinds and models, not that of models, whatever order is asked for."""
    asked = []
    sa.event.listen(ledger._engine, "before_cursor_execute", lambda *given: asked.append(given[2:4]))
    ledger.events(*MOVES, model="m")
    statement, values = asked[-1]
    with ledger._engine.connect() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values).all()
    assert "ix_events_kind_model_seq" in plan[0][-1]
