"""The guard "nothing has moved since the last retrain" is the same for each rule that goes by losses, over simulated years."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

from pipeline.ledger.decision_events import Backtested
from pipeline.policy.guards import BY_LOSSES, goes_by_moves
from pipeline.policy.retraining import cured, of_model, rules
from pipeline.policy.retraining.base import History
from pipeline.policy.retraining.budget import Budget, Ceiling
from pipeline.policy.retraining.forecast import gains_of
from pipeline.policy.retraining.held import Held, Spans
from pipeline.policy.retraining.replay import replay
from pipeline.settings.policy import Policy

WEEKS, SHIFT = 52, 20
COST = 0.002
SETTINGS = Policy()


def year(seed, shift=WEEKS):
    """Weekly losses around 0.5, whose noise and luck of versions ask for retrains by each rule; from `shift` on all versions lose more."""
    rng = np.random.default_rng(seed)
    losses = 0.5 + rng.normal(0, 0.05, WEEKS) + rng.normal(0, 0.01, (WEEKS, 1)) + rng.normal(0, 0.005, (WEEKS, WEEKS))
    losses[:, shift:] += 0.3
    losses[np.tril_indices(WEEKS, -1)] = np.nan
    return History(losses, np.ones(WEEKS), 1, np.zeros(WEEKS, bool))


def learnt():
    """A backtest that has gains, by luck, and no curve."""
    past = year(99)
    gains = gains_of(past.losses, np.arange(WEEKS), 1, all_pairs=True)
    fields = dict.fromkeys(Backtested.REQUIRED)
    return Backtested.read({**fields, "window_days": SETTINGS.window_days, "gains": asdict(gains), "staleness": {}})


BACKTEST = learnt()


def rule_of(name):
    if name == "budget":
        return Budget(
            "churn", of_model.value(SETTINGS, None, COST), [Ceiling("budget.retrains_a_month", 9, 0)], 1.0, "USD"
        )
    return of_model.policies(SETTINGS, BACKTEST, COST)[name]


def retrains(name, history, guarded=True):
    rule, kept, live, served, found = rule_of(name), [0], 0, np.full(WEEKS, -1), []
    prior = of_model.value(SETTINGS, BACKTEST, COST).prior
    for now in range(1, WEEKS):
        served[now - 1] = live
        known = history.known(now, np.array(kept), served, live, COST)
        said = rule.decide(known)
        held = (
            guarded and goes_by_moves(name) and cured.not_cured(known, prior, 7.0, SETTINGS.due_after_days, None, 56.0)
        )
        if said.action == "go back":
            live = said.version
        elif said.action == "retrain" and not held:
            kept.append(now)
            live = len(kept) - 1
            found.append(now)
    return found


@pytest.mark.parametrize("name", BY_LOSSES)
def test_by_no_rule_a_world_that_does_not_change_is_retrained_for_twice_in_a_year(name):
    """The guard is what ends it: without it noise and luck alone ask for the next retrain."""
    years = [year(seed) for seed in range(4)]
    assert max(len(retrains(name, each)) for each in years) <= 1
    assert max(len(retrains(name, each, guarded=False)) for each in years) > 1


@pytest.mark.parametrize("name", ["value", "metric", "forecast"])
def test_a_backtest_replays_a_rule_with_the_question_that_its_looks_ask(name):
    """The same retrains, and each rule by losses of a backtest asks it."""
    prior = of_model.value(SETTINGS, BACKTEST, COST).prior
    for each in (year(seed) for seed in range(3)):
        rule = Held(rule_of(name), prior, Spans(7.0, 56.0, SETTINGS.due_after_days))
        assert list(replay(each, rule, COST).retrained) == retrains(name, each)
    replayed = next(rule for rule in rules.policies(year(5), COST) if rule.name == name)
    assert len(replay(year(0), replayed, COST).retrained) <= 1


@pytest.mark.parametrize("name", BY_LOSSES)
def test_by_no_rule_a_lasting_shift_where_it_serves_is_retrained_for_twice(name):
    """No version is better on what is asked, and each retrain makes another one that is not."""
    years = [year(seed, SHIFT) for seed in range(4)]
    found = [sum(week >= SHIFT for week in retrains(name, each)) for each in years]
    assert max(found) <= 1 and (name == "forecast" or max(found) == 1)


def test_a_clock_and_an_alarm_of_the_inputs_ask_for_no_proof():
    """A schedule retrains by its clock. By `drift` an alarm is something that has moved, and a loss below the limit is judged as by other rules."""
    assert not goes_by_moves("schedule") and not goes_by_moves("never")
    assert len(retrains("schedule", year(1))) == (WEEKS - 1) // 4
    assert not goes_by_moves("drift", {"verdict": "drift"}) and goes_by_moves("drift", {"verdict": "no drift"})
