"""Events for a ledger, and two processes that want its lease at once, on whichever database it is."""

from __future__ import annotations

import multiprocessing

from harness.ledgers import ledger_of
from pipeline.errors import LeaseBusy
from pipeline.ledger.rollout_events import AbortAsked, RolloutEnded, RolloutStarted
from pipeline.ledger.store import Ledger
from pipeline.rollout.context import RolloutContext
from pipeline.rollout.routing import route_file
from pipeline.rollout.routing.route import Route, RoutedSlot
from pipeline.settings.environment import Environment

RACES = 200


def filled(ledger: Ledger, count: int = 5) -> Ledger:
    """`ledger` with `count` more events."""
    for i in range(count):
        ledger.append(AbortAsked(reason=str(i)), "m", "r", f"s{i}")
    return ledger


def _races(home, begin, tried, outcomes):
    """One of two processes that deploy at once, again and again: what it may do, it does as a rollout does."""
    context = RolloutContext.of(Environment(home).at(home, home), ledger_of(home))
    for number in range(RACES):
        begin.wait(60)
        try:
            with context.leased("churn") as leased:
                leased.record(RolloutStarted(version=str(number)), "churn")
                route_file.write(
                    home, Route("churn", RoutedSlot("blue", str(number), "http://127.0.0.1:1")), leased.token
                )
                tried.wait(60)
                leased.record(RolloutEnded(version=str(number)), "churn")
                outcomes.put((number, leased.token))
        except LeaseBusy:
            tried.wait(60)
            outcomes.put((number, None))


def raced(home):
    context = multiprocessing.get_context("fork")
    begin, tried, outcomes = context.Barrier(2), context.Barrier(2), context.Queue()
    racers = [context.Process(target=_races, args=(home, begin, tried, outcomes)) for _ in range(2)]
    for racer in racers:
        racer.start()
    results = [outcomes.get(timeout=60) for _ in range(2 * RACES)]
    for racer in racers:
        racer.join(60)
        assert racer.exitcode == 0
    winners = sorted((number, token) for number, token in results if token is not None)
    assert [number for number, _ in winners] == list(range(RACES))
    assert [token for _, token in winners] == list(range(1, RACES + 1))
    assert route_file.token_of(home, "churn") == RACES
    ledger = ledger_of(home)
    assert [e.kind for e in ledger.events()] == ["rollout_started", "rollout_ended"] * RACES
    assert ledger.verify()[1] is None
