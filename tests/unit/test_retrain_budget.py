"""Models that share a budget of retrains: it is spent where it pays most, and no model waits for a broken one."""

from __future__ import annotations

from datetime import timedelta

import pytest

from harness.project import CHURN, change_params
from pipeline.ledger.budget_events import BudgetLooked
from pipeline.policy.retraining.base import Decision
from pipeline.policy.retraining.budget import Budget, Ceiling, Claim, place
from pipeline.policy.retraining.schedule import ALWAYS
from pipeline.runs import retrain_budget
from tests.support.monitored import AS_OF, Monitored

KEY = "budget.retrains_a_month"
WANTS = Decision("retrain", "it lost much", "less lost", 3.0, 1.0, saving=5.0)


def budget(*ceilings):
    return Budget("churn", ALWAYS, ceilings, 10.0, "EUR")


def test_the_retrains_that_are_left_go_to_those_that_save_most_beyond_their_cost():
    """The place, what the last one that gets one expects, and what would flip it are told."""
    claims = (Claim("ads", 90.0), Claim("fraud", 10.0))
    second = budget(Ceiling(KEY, 3, 2, claims)).within(WANTS)
    assert second.action == "wait"
    assert "40.00 EUR beyond its cost: number 2 of 3" in second.why and "1 of 3 are left in 30 days" in second.why
    assert "ads expects 90.00 EUR" in second.why
    assert second.flips == f"more than 90.00 EUR beyond its cost, or a higher {KEY}"
    first = budget(Ceiling(KEY, 3, 1, claims)).within(WANTS)
    assert first.action == "retrain"
    assert first.flips == "less lost or 2 models that expect more than 40.00 EUR"
    spent = budget(Ceiling(KEY, 3, 3)).within(WANTS)
    assert (spent.action, spent.flips) == (
        "wait",
        f"a retrain of the last 30 days that has become older, or a higher {KEY}",
    )
    assert "no ceiling is set" in budget().within(WANTS).why


def test_each_ceiling_holds_and_equals_go_by_name():
    """A team's ceiling and that of all models hold both; of two that expect the same the first by name comes first."""
    roomy, tight = Ceiling(KEY, 9, 0), Ceiling("teams.ads.retrains_a_month", 1, 1)
    assert budget(roomy, tight).within(WANTS).action == "wait"
    assert place("b", 1.0, Ceiling(KEY, 1, 0, (Claim("a", 1.0),))).rank == 2
    assert place("a", 1.0, Ceiling(KEY, 1, 0, (Claim("b", 1.0),))).rank == 1


@pytest.fixture
def world(project, ledger, churn_artifacts, tmp_path):
    world = Monitored(project, ledger, churn_artifacts, tmp_path / "home", late_days=2)
    change_params(project, "models.ads", CHURN)
    change_params(project, "budget", {"retrains_a_month": 2})
    return world


def looked(world, model, days_ago, wants=True, granted=False, net=50.0):
    event = BudgetLooked(
        as_of=(AS_OF - timedelta(days=days_ago)).isoformat(), wants=wants, granted=granted, ceilings=[KEY], net=net
    )
    world.ledger.append(event, model)


def test_what_is_spent_and_wanted_is_read_from_the_ledger(world):
    """Retrains of 30 days count; a claim is a model's newest look, if its block is right and it is not frozen or gone."""
    looked(world, "churn", 40, granted=True)
    looked(world, "ads", 12, granted=True)
    looked(world, "ads", 3, net=70.0)
    looked(world, "gone", 3)
    (ceiling,) = retrain_budget.ceilings(world.context, "r", "churn", AS_OF)
    assert ceiling == Ceiling(KEY, 2, 1, (Claim("ads", 70.0),))
    change_params(world.project, "models.ads.rollout", {"no_such_key": 1})
    (broken,) = retrain_budget.ceilings(world.context, "r", "churn", AS_OF)
    assert broken == Ceiling(KEY, 2, 1)
    looked(world, "ads", 1, wants=False)
    assert retrain_budget.ceilings(world.context, "r", "churn", AS_OF)[0].claims == ()


def test_a_look_that_is_taken_again_sees_what_it_saw(world):
    """What others did after it changes nothing of it, and it is noted once; a model that wants no more says so once."""
    context, same = world.context, budget(Ceiling(KEY, 2, 0))
    first = retrain_budget.ceilings(context, "r", "churn", AS_OF)
    retrain_budget.note(context, "r", "churn", AS_OF, same, WANTS, granted=True)
    looked(world, "ads", 0, granted=True)
    assert retrain_budget.ceilings(context, "r", "churn", AS_OF) == first
    retrain_budget.note(context, "r", "churn", AS_OF, same, WANTS, granted=True)
    later = AS_OF + timedelta(days=1)
    assert retrain_budget.ceilings(context, "r", "churn", later)[0].spent == 2
    for days in (1, 2):
        retrain_budget.note(context, "r", "churn", AS_OF + timedelta(days=days), same, None, granted=False)
    assert [e.event.wants for e in world.ledger.events(BudgetLooked, model="churn")] == [True, False]


def test_a_teams_ceiling_is_its_own(world):
    """A model of a team is within the team's ceiling and that of all."""
    change_params(world.project, "teams", {"growth": {"slots": 2, "retrains_a_month": 1}})
    change_params(world.project, "models.churn.team", "growth")
    keys = [ceiling.key for ceiling in retrain_budget.ceilings(world.context, "r", "churn", AS_OF)]
    assert keys == ["teams.growth.retrains_a_month", KEY]
