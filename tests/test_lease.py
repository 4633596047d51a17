"""One holder at a time; one that sleeps through its lease is refused; one that is killed is not waited for long."""

import multiprocessing
import time

import pytest

from pipeline.errors import LeaseBusy, RolloutError
from pipeline.ledger import lease
from pipeline.ledger.rollout_events import RolloutEnded, RolloutStarted
from pipeline.rollout.context import RolloutContext
from pipeline.rollout.routing import route_file
from pipeline.rollout.routing.route import Route, Share
from pipeline.settings.environment import Environment
from tests.support.ledgers import ledger_of
from tests.support.world import world_folder  # noqa: F401


def test_one_holder_at_a_time_and_each_has_a_larger_number(ledger):
    with lease.held(ledger, "churn") as first:
        assert lease.take(ledger, "churn", "another") is None
        with lease.held(ledger, "loyal"):
            pass
        first.check()
    with lease.held(ledger, "churn") as second:
        assert second.token == first.token + 1
        with pytest.raises(RolloutError, match=r"overtaken by process \d+ from "):
            first.check()
        assert not first.renew()
        first.release()
        second.check()


def test_it_is_waited_for(ledger):
    with lease.held(ledger, "churn"), pytest.raises(RolloutError, match="another rollout of it is going on"):
        start = time.monotonic()
        with lease.held(ledger, "churn", wait_s=0.4):
            pass
    assert time.monotonic() - start >= 0.4


def test_it_outlives_its_time_while_it_is_renewed(ledger, monkeypatch):
    monkeypatch.setattr(lease, "HELD_S", 0.3)
    with lease.held(ledger, "churn") as mine:
        time.sleep(1.0)
        assert lease.take(ledger, "churn", "another") is None
        mine.check()


def test_one_that_is_not_renewed_falls_to_the_next(ledger, monkeypatch):
    monkeypatch.setattr(lease, "HELD_S", 0.2)
    asleep = lease.take(ledger, "churn", "asleep")
    time.sleep(0.3)
    with lease.held(ledger, "churn") as awake:
        assert awake.token == asleep.token + 1
        with pytest.raises(RolloutError, match="overtaken"):
            asleep.check()


RACES = 200


def _races(home, begin, tried, told):
    """One of two processes that deploy at once, again and again: what it may do, it does as a rollout does."""
    site = RolloutContext.of(Environment.read().at(home, home), ledger_of(home))
    for number in range(RACES):
        begin.wait(30)
        try:
            with site.alone("churn") as alone:
                alone.record(RolloutStarted(version=str(number)), "churn")
                route_file.write(home, Route("churn", Share("blue", str(number), "http://127.0.0.1:1")), alone.token)
                tried.wait(30)
                alone.record(RolloutEnded(version=str(number)), "churn")
                told.put((number, alone.token))
        except LeaseBusy:
            tried.wait(30)
            told.put((number, None))


def test_of_two_hundred_races_of_two_processes_each_has_one_winner(world_folder):  # noqa: F811
    """The other is refused; what the winner writes stands, and no two rollouts ever overlap."""
    raced(world_folder)


def raced(home):
    context = multiprocessing.get_context("fork")
    begin, tried, told = context.Barrier(2), context.Barrier(2), context.Queue()
    racers = [context.Process(target=_races, args=(home, begin, tried, told)) for _ in range(2)]
    for racer in racers:
        racer.start()
    results = [told.get(timeout=60) for _ in range(2 * RACES)]
    for racer in racers:
        racer.join(30)
        assert racer.exitcode == 0
    winners = sorted((number, token) for number, token in results if token is not None)
    assert [number for number, _ in winners] == list(range(RACES))
    assert [token for _, token in winners] == list(range(1, RACES + 1))
    assert route_file.token_of(home, "churn") == RACES
    ledger = ledger_of(home)
    assert [e.kind for e in ledger.events()] == ["rollout_started", "rollout_ended"] * RACES
    assert ledger.verify()[1] is None
