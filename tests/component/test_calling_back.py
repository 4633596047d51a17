"""A rollout is called back by a note in the ledger, and `rollback` with its version makes sure that the version has no traffic."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from pipeline.errors import LeaseBusy, RolloutError
from pipeline.ledger.rollout_events import AbortAsked, RolledBack, RolloutFailed, RouteMoved
from pipeline.policy.canary import Judgement, Look
from pipeline.rollout import calling_back, newest_look, rollback, slots
from pipeline.rollout.opened import open_rollout
from tests.support.accidents import agreed, deploy
from tests.support.world import SETTINGS

HELD = Judgement("hold", "9 requests, at least 100 required", (Look("churn", 0.1, 0.0, 0.4, 0.2, 9, "hold", "why"),))


def back(context, only):
    return rollback.rollback(context, "churn", SETTINGS, "it harms", only)


@pytest.fixture
def rolling(lived):
    """Version 1 is live, and version 2 is held in its canary until it is called back: (world, context, ended)."""
    world, context = lived
    deploy(context, "1")
    looked, errors = threading.Event(), []

    def judge(*_):
        looked.set()
        return lambda: HELD

    def roll_out():
        try:
            deploy(replace(context, judge=judge), "2", "canary")
        except RolloutError as error:
            errors.append(str(error))

    thread = threading.Thread(target=roll_out)
    thread.start()
    assert looked.wait(60)

    def ended():
        thread.join(60)
        return errors

    yield world, context, ended
    calling_back.note(context.ledger, "churn", "2", "the test is over", "")
    thread.join(60)


def test_a_note_ends_the_rollout_and_names_who_asked(rolling):
    """The champion has all traffic again; a second note of the same rollout is the first one, and one of another version is none."""
    world, context, ended = rolling
    assert calling_back.note(context.ledger, "churn", "3", "of another version", "bea") is None
    first = calling_back.note(context.ledger, "churn", "2", "it harms", "anna")
    assert ended() == ["model churn: was called back by hand; look at its timeline"]
    assert calling_back.note(context.ledger, "churn", "2", "again", "bea") is None, "none goes on any more"
    (noted,) = context.ledger.events(AbortAsked)
    assert (noted.seq, noted.event.sentence()) == (first.seq, "called back by anna: it harms")
    assert agreed(world, context) == "1"
    assert back(context, "2").already, "the run that makes sure finds nothing to do"
    assert agreed(world, context) == "1"


def test_a_rollback_of_one_version_ends_its_rollout_and_no_other(rolling):
    """It is refused while another version is rolled out, and calls its own back with one note."""
    world, context, ended = rolling
    with pytest.raises(LeaseBusy):
        back(context, "1")
    calling_back.note(context.ledger, "churn", "2", "it harms", "anna")
    result = back(context, "2")
    assert (result.version, result.left) == ("1", "2")
    assert len(ended()) == len(context.ledger.events(AbortAsked)) == 1
    assert agreed(world, context) == "1"


def test_while_it_goes_on_the_newest_look_can_be_read(rolling):
    """The look has its figures, and the number of the rollout's first event, by which a page knows it from an older one's."""
    _, context, _ = rolling
    while (look := newest_look.read(context.home, "churn"))["version"] != "2":
        threading.Event().wait(0.01)
    assert look["rollout"] == open_rollout(context.ledger, "churn").seq
    assert look["looks"] == [HELD.looks[0].as_dict()]
    assert newest_look.read(context.home, "../churn") is newest_look.read(context.home, "loyal") is None


def test_it_goes_back_from_that_version_alone(lived):
    """A version that went live meanwhile is left; where another one is live, or none, nothing moves."""
    world, context = lived
    assert back(context, "1").already
    deploy(context, "1")
    deploy(context, "2")
    assert back(context, "1").already
    assert agreed(world, context) == "2"
    assert back(context, "2").version == "1"
    assert back(context, "2").already
    assert len(context.ledger.events(RolledBack)) == 1
    assert agreed(world, context) == "1"


def test_a_version_that_is_called_back_while_it_starts_gets_no_traffic(lived, monkeypatch):
    """No route moves to it, by whichever strategy."""
    world, context = lived
    deploy(context, "1")
    fill = slots.fill

    def filled(*at, **how):
        calling_back.note(context.ledger, "churn", "2", "it harms", "anna")
        return fill(*at, **how)

    monkeypatch.setattr(slots, "fill", filled)
    for strategy in ("canary", "all-at-once"):
        with pytest.raises(RolloutError, match="was called back by hand"):
            deploy(context, "2", strategy)
    assert {entry.event.to for entry in context.ledger.events(RouteMoved)} == {"1"}
    assert len(context.ledger.events(RolloutFailed)) == 2
    assert agreed(world, context) == "1"
