"""A slot that dies comes back by itself on both engines, and leaves an event with its last output; one that was ended does not."""

from __future__ import annotations

import os
import signal
import time

import pytest

from harness.project import ROOT
from pipeline.ledger.rollout_events import SlotDied
from pipeline.ledger.store import Ledger
from pipeline.rollout.engines.base import EngineSettings, SlotSpec
from pipeline.rollout.engines.process import ProcessEngine
from pipeline.rollout.probe import answering_version
from pipeline.rollout.routing import route_file
from pipeline.rollout.routing.route import Route, RoutedSlot
from pipeline.rollout.slots import routed_slot
from pipeline.services import slot_keeper
from pipeline.services.slot_keeper import SlotKeeper
from pipeline.settings.environment import Environment

LIMIT_S = 120


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


@pytest.fixture
def engine(home):
    engine = ProcessEngine(EngineSettings(home, ROOT))
    yield engine
    for slot in ("blue", "green"):
        engine.stop("churn", slot, 0)


@pytest.fixture
def live(engine, home, churn_package):
    """A version that is live in blue."""
    running = engine.start(SlotSpec("churn", "blue", "3", churn_package, home / "predictions" / "churn", 0))
    route_file.write(home, Route("churn", routed_slot(running)))
    until_it_answers(running)
    return running


@pytest.fixture
def keeper(home):
    return SlotKeeper(Environment.read({}).at(ROOT, home))


def until_it_answers(running):
    until = time.monotonic() + LIMIT_S
    while answering_version(running.address) != running.version:
        assert time.monotonic() < until
        time.sleep(0.05)


def died(keeper, home):
    """The deaths in the ledger, once the keeper has noted what it saw."""
    until = time.monotonic() + LIMIT_S
    keeper.look()
    while keeper._deaths:
        assert time.monotonic() < until
        time.sleep(0.05)
        keeper.look()
    return [entry.event for entry in Ledger(f"sqlite:///{home / 'ledger.db'}").events(SlotDied, model="churn")]


def kill(engine, slot="blue"):
    identity = engine.identity("churn", slot)
    os.kill(identity.pid, signal.SIGKILL)
    until = time.monotonic() + LIMIT_S
    while identity.is_running():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_slot_that_is_killed_comes_back_as_it_was(live, engine, keeper, home):
    """It answers again at its address with the same settings, and the ledger says that it died."""
    keeper.look()
    before = engine._state("churn", "blue")
    kill(engine)
    keeper.look()
    until_it_answers(live)
    assert engine.find("churn", "blue") == live
    after = engine._state("churn", "blue")
    assert {k: v for k, v in after.items() if k not in ("pid", "born")} == {
        k: v for k, v in before.items() if k not in ("pid", "born")
    }
    (event,) = died(keeper, home)
    assert (event.version, event.slot, event.engine, event.times) == ("3", "blue", "process", 1)
    assert "MB when last seen" in event.cause
    kill(engine)
    keeper.look()
    assert [event.cause.partition(",")[0] for event in died(keeper, home)][1:] == ["killed by signal 9"]


def test_one_that_the_kernel_kills_for_memory_says_so(live, engine, keeper, home, monkeypatch):
    """The kernel's count of such kills rose when it died: the event names memory, and how much it held."""
    keeper.look()
    count = slot_keeper.kills_for_memory()
    monkeypatch.setattr(slot_keeper, "kills_for_memory", lambda: count + 1)
    kill(engine)
    keeper.look()
    until_it_answers(live)
    assert died(keeper, home)[0].cause.startswith("killed for memory by the kernel, ")


def test_one_that_was_ended_or_gets_no_traffic_stays_down(live, engine, keeper, home, churn_package):
    """Neither a slot that was ended, nor a candidate, nor one that no route names is started again."""
    green = engine.start(SlotSpec("churn", "green", "4", churn_package, home / "predictions" / "churn", 0))
    route_file.write(home, Route("churn", routed_slot(live), candidate=routed_slot(green), percent=5))
    keeper.look()
    kill(engine, "green")
    keeper.look()
    assert engine.find("churn", "green") is None
    route_file.write(home, Route("churn", routed_slot(live), previous=routed_slot(green)))
    keeper.look()
    assert engine.find("churn", "green") == green
    engine.stop("churn", "green", 0)
    engine.stop("churn", "blue", 0)
    keeper.look()
    assert engine.all() == []


def test_one_that_dies_at_once_is_tried_after_longer_pauses(engine, keeper, home, tmp_path):
    """A slot whose package is gone is started again and again, ever more seldom, and the ledger gets few of its deaths."""
    running = engine.start(SlotSpec("churn", "blue", "3", tmp_path / "none", home / "log", 0))
    route_file.write(home, Route("churn", RoutedSlot("blue", "3", running.address)))
    until = time.monotonic() + LIMIT_S
    while len(events := died(keeper, home)) < 3:
        assert time.monotonic() < until
        time.sleep(0.1)
    assert [event.times for event in events] == [1, 2, 4]
    assert events[-1].output


def test_a_full_disk_delays_it_only(live, engine, keeper, home, monkeypatch):
    """A server that cannot be written down does not run unknown, with the port taken; it is started as soon as there is room."""
    keeper.look()
    kill(engine)
    with monkeypatch.context() as full:
        full.setattr(ProcessEngine, "_write", _no_room)
        keeper.look()
        assert engine._marked("churn-blue") is None
    time.sleep(slot_keeper.PAUSE_S)
    keeper.look()
    until_it_answers(live)


def _no_room(*_):
    raise OSError(28, "No space left on device")
