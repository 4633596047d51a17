"""The retrain policies on small drawn pasts, whose right answer is known."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest

from pipeline.policy.retraining.base import History, Known, Policy
from pipeline.policy.retraining.drift import Drift
from pipeline.policy.retraining.forecast import Forecast, gains_of
from pipeline.policy.retraining.metric import Metric
from pipeline.policy.retraining.replay import oracle, replay
from pipeline.policy.retraining.schedule import ALWAYS, NEVER, Schedule
from pipeline.policy.retraining.staleness import Staleness, backtested, fitted, pairs_of
from pipeline.policy.retraining.value import Value

WEATHER, LUCK = 0.02, 0.003


def past(excess: np.ndarray | float, windows: int = 80, seed: int = 1, delay: int = 1) -> History:
    """Versions that lose 0.4 and `excess` a window of age, each window with a weather of its own and each version with its luck."""
    drawn = np.random.default_rng(seed)
    ages = _ages(windows)
    losses = 0.4 + excess * np.maximum(ages, 0) + drawn.normal(0, WEATHER, windows)[None]
    losses += drawn.normal(0, LUCK, (windows, 1)) + drawn.normal(0, LUCK, (windows, windows))
    losses[ages < 0] = np.nan
    return History(losses, np.ones(windows), delay, np.zeros(windows, bool))


def _ages(windows: int) -> np.ndarray:
    return np.arange(windows)[None] - np.arange(windows)[:, None]


def curve_of(history: History, until: int = 25) -> Staleness:
    return backtested(history.losses[:until, :until], history.drifted[:until])


def look(
    *losses: list[float], born: list[int], cost: float = 1.0, drifted: list[bool] | None = None, live: int = -1
) -> Known:
    """A look at versions that were trained at the windows `born`, of which `live` answers since its birth."""
    matrix = np.array(losses, float)
    windows = matrix.shape[1]
    live = live % len(matrix)
    served = np.array([max(i for i, b in enumerate(born) if b <= w) for w in range(windows)])
    served[born[-1] :] = live
    alarms = np.array(drifted if drifted is not None else [False] * (windows + 1))
    return Known(windows, matrix, np.array(born), np.ones(windows), served, live, cost, alarms)


@pytest.mark.parametrize("seed", range(5))
def test_value_leaves_a_stationary_model_alone(seed: int) -> None:
    """A model whose world does not change is not retrained in a year, whether the weather of its windows is rough or not."""
    history = past(0.0, seed=seed)
    assert replay(history, Value(curve_of(history)), cost=1.0, first=25).retrained == ()


@pytest.mark.parametrize("cost", [0.05, 0.2, 0.8])
def test_value_retrains_a_steady_decay_about_as_often_as_renewal_reward_says(cost: float) -> None:
    """Where a version loses 0.004 more with each window of its age, the time between retrains is near the root of 2 C / b."""
    history = past(0.004, windows=200)
    every = 175 / max(1, len(replay(history, Value(curve_of(history)), cost, first=25).retrained))
    assert every == pytest.approx((2 * cost / 0.004) ** 0.5, rel=0.4)


def test_value_costs_little_more_than_the_best_schedule() -> None:
    """On a steady decay it comes within two percent of the oracle."""
    history = past(0.004, windows=200)
    assert replay(history, Value(curve_of(history)), 0.3, 25).total <= 1.02 * oracle(history, 0.3, 25).total


def test_value_goes_back_when_a_season_returns() -> None:
    """A version of the other season is changed for that of this one, once the labels prove it, instead of a retrain."""
    season = np.arange(40) // 10 % 2
    losses = np.where(season[:, None] == season[None], 0.3, 0.5) + np.random.default_rng(1).normal(0, LUCK, (40, 40))
    losses[np.tril_indices(40, -1)] = np.nan
    history = History(losses, np.ones(40), 1, np.zeros(40, bool))
    found = replay(history, Value(), cost=1.0)
    assert len(found.retrained) == 1 and 10 < found.retrained[0] < 20
    assert found.went_back and 20 < found.went_back[0] < 28


@pytest.mark.parametrize("policy", [Value(Staleness(0.5, 128.0, 0.1)), Forecast(), Metric()])
def test_a_policy_does_not_ask_for_the_unit_of_the_loss(policy: Policy) -> None:
    """Losses, curve and cost a hundred times as large give the same retrains."""
    history = past(0.004)
    hundredfold = replace(history, losses=100 * history.losses)
    larger = replace(policy, prior=Staleness(50.0, 128.0, 10.0)) if isinstance(policy, Value) else policy
    assert replay(hundredfold, larger, 20.0).retrained == replay(history, policy, 0.2).retrained


@pytest.mark.parametrize("policy", [ALWAYS, NEVER, Schedule(3), Drift(), Metric(), Forecast(), Value()])
def test_a_policy_is_pure(policy: Policy) -> None:
    """It says the same thing twice, in words, and leaves what it was shown as it was."""
    history = past(0.01, windows=30)
    known = history.known(29, np.array([0, 9, 20]), np.repeat([0, 1, 2], [9, 11, 10]), 2, 0.5)
    before = copy.deepcopy(known)
    said = policy.decide(known)
    assert said == policy.decide(known)
    assert said.why and said.flips
    for name in ("losses", "born", "weights", "served", "drifted"):
        np.testing.assert_array_equal(getattr(known, name), getattr(before, name))


def test_without_labels_value_goes_by_the_curve_and_says_so() -> None:
    """Where no label came, the score is the curve's regret."""
    curve = Staleness(0.1, 8.0, 0.0)
    known = look([np.nan] * 8, born=[0], cost=1.0)
    said = Value(curve).decide(known)
    assert said.score == pytest.approx(curve.regret(8))
    assert "no labels" in said.why
    assert said.action == "wait" and Value(curve).decide(replace(known, cost=0.2)).action == "retrain"


def test_the_curve_is_found_again() -> None:
    """The excess of a drawn past is found at its pace, and within three of its own standard errors, which are a small share of it."""
    history = past(0.0, windows=60)
    found = fitted(pairs_of(history.losses + 0.05 * (1 - np.exp(-_ages(60) / 8)), np.arange(60)))
    assert found is not None and found.slow == 8
    assert abs(found.b - 0.05) < 3 * found.error and found.error < 0.01


def test_the_period_of_a_line_is_the_root_of_twice_the_cost() -> None:
    """Renewal reward for g(a) = b a: the age T with b T (T + 1) / 2 >= C. Where ageing ends before it cost so much, no retrain is due."""
    assert Staleness(0.02e6, 1e6, 0.0).period(1.0, most=52) == 10
    assert Staleness(0.1, 8.0, 0.0).period(0.9, most=500) == 500
    assert Staleness(0.0, 8.0, 0.0).period(1.0, most=52) == 52


def test_an_alarm_counts_for_what_it_has_earned() -> None:
    """Where versions lose more after an alarm, the curve says so; where alarms come at random, it says nothing."""
    history = past(0.0, windows=40)
    alarms = np.isin(np.arange(40), (25, 32))
    passed = np.cumsum(alarms)[None] > np.cumsum(alarms)[:, None]
    ageing = 0.002 * np.maximum(_ages(40), 0)
    assert backtested(history.losses + ageing + 0.1 * passed, alarms).alarmed > 1.2
    assert backtested(history.losses + ageing, alarms).alarmed == pytest.approx(1, abs=0.1)


def test_drift_retrains_once_in_an_episode() -> None:
    """A lasting alarm is answered by one retrain, and a new one after a calm look by another."""
    history = past(0.0, windows=12)
    alarms = np.array([0, 0, 1, 1, 1, 0, 1, 0, 0, 0, 0, 0], bool)
    assert replay(replace(history, drifted=alarms), Drift(), 0.1).retrained == (2, 6)


def test_metric_retrains_at_its_limit() -> None:
    """A rise of the loss by a tenth is one too many, by a hundredth not."""
    assert Metric().decide(look([1, 1, 1, 1.2, 1.2, 1.2], born=[0])).action == "retrain"
    assert Metric().decide(look([1, 1, 1, 1.01, 1.01, 1.01], born=[0])).action == "wait"
    assert Metric().decide(look([1, 1, 1, 9.0, np.nan, np.nan], born=[0])).action == "wait"


@pytest.mark.filterwarnings("error")
def test_metric_knows_what_is_worse_of_money_that_is_earned() -> None:
    """A loss below zero that comes nearer to it is worse, and one of zero has no share to rise by."""
    for losses, action in (
        ([-2, -2, -2, -1.9, -1.9, -1.9], "wait"),
        ([-2, -2, -2, -1.7, -1.7, -1.7], "retrain"),
        ([-2, -2, -2, -9, -9, -9], "wait"),
        ([0, 0, 0, 0, 0, 0], "wait"),
        ([0, 0, 0, 0.1, 0.1, 0.1], "retrain"),
    ):
        said = Metric().decide(look(losses, born=[0]))
        assert (said.action, said.score >= said.limit and said.score > 0) == (action, action == "retrain")


def test_forecast_learns_what_retrains_gain() -> None:
    """It retrains where past retrains have gained more than one costs, and not where they gained nothing."""
    steep, flat = past(0.01), past(0.0)
    for history, expected in ((steep, True), (flat, False)):
        gains = gains_of(history.losses[:25, :25], np.arange(25), 1, all_pairs=True)
        assert bool(replay(history, Forecast(gains), 0.5, 25).retrained) is expected
