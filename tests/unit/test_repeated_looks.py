"""Looks that are taken again, and those that a person takes: neither changes what was decided."""

from __future__ import annotations

from datetime import timedelta

import pytest

from harness.project import change_params
from pipeline.accounts import waits
from pipeline.accounts.statement import Terms
from pipeline.ledger.budget_events import BudgetLooked
from pipeline.ledger.chain import canonical
from pipeline.ledger.receipt_events import RetrainDecided
from pipeline.runs import looks_by_hand, retrain_decision
from tests.support.deciding import YEAR, decide, getting_worse, retrained, rule
from tests.support.monitored import AS_OF

BY_HAND = looks_by_hand.run_of("churn")
NEXT_DAY = AS_OF + timedelta(days=1)


@pytest.fixture
def world(project, ledger, churn_artifacts, tmp_path, monkeypatch):
    return getting_worse(project, ledger, churn_artifacts, tmp_path, monkeypatch)


def looks(world):
    return [entry.event for entry in world.ledger.events(RetrainDecided, model="churn")]


def test_a_look_that_was_followed_is_the_same_when_it_is_repeated(world):
    """Its version is live now: the receipt is the one of then, the ledger has no second one, and nobody acts on it again."""
    rule(world, "value")
    decided = decide(world)
    assert decided.decision == "retrain"
    retrained(world, "2", AS_OF)
    assert canonical(decide(world).body()) == canonical(decided.body())
    assert len(looks(world)) == 1
    again = {"verdict": "calm", "said": "", "as_of": AS_OF.isoformat(), "decision": "wait", "since": ""}
    assert retrain_decision.of_look(world.context, "r", "churn", again)["decision"] == "wait"
    why = retrain_decision.why_not(world.context, "r", "churn", AS_OF)
    assert "retrain, as of 2024-03-01" in why and "decided of version 1 then, and version 2 is live since" in why


def test_an_older_look_that_is_repeated_leaves_its_wait_in_the_account(world):
    """A version that was trained after it is not what it waited with."""
    rule(world, "value")
    early = YEAR + timedelta(days=24)
    assert decide(world, early).decision == "wait"
    terms = Terms.of(world.context.params)
    (before,) = waits.of_model(world.ledger, terms, "churn")
    retrained(world, "2", AS_OF)
    assert decide(world, early).champion == "1"
    assert waits.of_model(world.ledger, terms, "churn") == [before]


def test_going_back_is_the_same_look_once_the_past_version_is_live(world):
    """What a look chose does not choose anew by being live; a person who moves on makes it another look."""
    rule(world, "value")
    back = RetrainDecided.read(
        {
            "as_of": AS_OF.isoformat(),
            "champion": "2",
            "digest": "d2",
            "rule": "value",
            "says": "go back",
            "decision": "go back",
            "why": "w",
            "version": "1",
            "to_digest": "d1",
        }
    )
    world.ledger.append(back, "churn")
    assert canonical(decide(world).body()) == canonical(back.body())
    world.right["3"] = world.right["1"]
    retrained(world, "3", YEAR + timedelta(days=20))
    assert decide(world).champion == "3"


def test_a_look_by_hand_starts_nothing_so_it_holds_nothing_back(world):
    """What it says is no retrain that was asked for: the monitor's next look asks. By hand alone the cool-down is seen."""
    rule(world, "value")
    assert decide(world, run=BY_HAND).decision == "retrain"
    by_hand = decide(world, NEXT_DAY, run=BY_HAND)
    assert (by_hand.decision, by_hand.says) == ("wait", "retrain") and "cool_down_days" in by_hand.guards[0]
    assert decide(world, NEXT_DAY).decision == "retrain"
    assert decide(world, NEXT_DAY + timedelta(days=1)).decision == "wait"


def test_the_monitor_notes_its_own_look_beside_a_persons_of_the_same_time(world):
    """Or nobody would know that it asked; a person's after it is in the ledger once."""
    rule(world, "value")
    for run in (BY_HAND, BY_HAND, "r", "r", BY_HAND):
        decide(world, run=run)
    assert [entry.run for entry in world.ledger.events(RetrainDecided, model="churn")] == [BY_HAND, "r"]


def test_a_look_by_hand_spends_no_budget_of_the_monitors(world):
    """The month's one retrain is left for the look that starts it."""
    rule(world, "budget")
    change_params(world.project, "budget", {"retrains_a_month": 1})
    assert decide(world, run=BY_HAND).decision == "retrain"
    assert decide(world).decision == "retrain"
    granted = [(entry.run, entry.event.granted) for entry in world.ledger.events(BudgetLooked)]
    assert granted == [(BY_HAND, True), ("r", True)]
    assert decide(world, AS_OF + timedelta(days=8)).decision == "wait", "the monitor's own look has spent it"
