"""The default policy on what a retrain will save, what it forgets, and which kept version it takes instead."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.policy.retraining.base import History, Known
from pipeline.policy.retraining.past_best import past_best
from pipeline.policy.retraining.replay import replay
from pipeline.policy.retraining.spell import since_retrain
from pipeline.policy.retraining.staleness import Staleness, pairs_of, updated
from pipeline.policy.retraining.value import HORIZON, Value, horizon_of

LINE = 128.0


def ageing(windows: int, by: float) -> History:
    """Versions that lose 0.4 and `by` more with each window of their age, without luck or weather."""
    ages = np.arange(windows)[None] - np.arange(windows)[:, None]
    losses = np.where(ages < 0, np.nan, 0.4 + by * ages)
    return History(losses, np.ones(windows), 1, np.zeros(windows, bool))


def known_of(losses: list[list[float]], born: list[int], served: list[int], live: int, cost: float = 1.0) -> Known:
    matrix = np.array(losses, float)
    windows = matrix.shape[1]
    alarms = np.zeros(windows + 1, bool)
    return Known(windows, matrix, np.array(born), np.ones(windows), np.array(served), live, cost, alarms)


def test_a_retrain_that_takes_longer_than_the_horizon_to_pay_is_not_made() -> None:
    """Slow ageing has lost what a retrain costs after 60 windows, and would win back a half of it in 20: it waits, and says so."""
    history, rule = ageing(100, 0.001), Value(horizon=20)
    assert replay(history, rule, cost=1.9).retrained == ()
    assert replay(history, replace(rule, horizon=100), cost=1.9).retrained != ()
    known = history.known(85, np.array([0]), np.zeros(100, int), 0, 1.9)
    said = rule.decide(known)
    assert said.score > said.limit and said.action == "wait"
    assert "within 20 windows it would save" in said.why


@pytest.mark.parametrize("horizon", [20, 100])
def test_a_cost_beyond_what_flips_the_decision_flips_it(horizon: int) -> None:
    """The cost named as the one that would give another decision does give it, whether the sum lost or the saving ahead has decided."""
    rule, history = Value(horizon=horizon), ageing(100, 0.001)
    for cost in (0.3, 1.0, 1.9, 5.0):
        known = history.known(85, np.array([0]), np.zeros(100, int), 0, cost)
        said = rule.decide(known)
        words = said.flips.removeprefix("a retrain that costs ").removeprefix("over ").split()
        over = 1.001 if said.action == "retrain" else 0.999
        other = rule.decide(replace(known, cost=float(words[0]) * over))
        assert {said.action, other.action} == {"retrain", "wait"}


def test_the_horizon_is_half_a_year_in_windows_of_any_length() -> None:
    """A week's windows have 26, a day's 182 or 183, and longer ones no fewer than 26."""
    assert horizon_of(7) == HORIZON == horizon_of(56)
    assert horizon_of(1) in (182, 183)


@pytest.mark.parametrize("days", [7, 182, 365, 1000])
def test_a_curve_that_is_due_at_an_age_is_due_within_the_horizon_of_that_age(days: int) -> None:
    """Without labels a curve whose regret reaches the cost after so many days retrains then, in days and in weeks."""
    for window_days in (1, 7):
        age, slow = -(-days // window_days), 56 / window_days
        curve = Staleness(1.0, slow, 0.0)
        known = known_of([[np.nan] * age], [0], [0] * age, 0, cost=curve.regret(age))
        assert Value(curve, horizon=horizon_of(window_days, days)).decide(known).action == "retrain"


def test_a_version_that_would_save_as_much_is_taken_before_a_retrain() -> None:
    """Where the live version has got worse and a kept one has not, going back costs no training; where both have, it retrains."""
    worse, bad = [0.4] * 3 + [0.7] * 8, [np.nan] * 3 + [0.4] * 3 + [0.9] * 5
    served = [0] * 3 + [1] * 8
    rule = Value(Staleness(0.1, 8.0, 0.01))
    kept = known_of([[0.4] * 11, bad], [0, 3], served, 1)
    assert (rule.decide(kept).action, rule.decide(kept).version) == ("go back", 0)
    assert rule.decide(known_of([worse, bad], [0, 3], served, 1)).action == "retrain"


def test_a_version_without_labels_is_compared_by_the_one_before_it() -> None:
    """A kept version that was better than the last one, by more than that one has aged, is better than a new one of the same make."""
    better, last, new = [0.2] * 8, [np.nan] * 2 + [0.6] * 6, [np.nan] * 8
    known = known_of([better, last, new], [0, 2, 8], [0] * 2 + [1] * 6, 2)
    found = past_best(known, recent=4, least=3, curve=Staleness(0.1, 8.0, 0.0))
    assert found is not None and found.version == 0
    assert found.gain == pytest.approx(0.4 - 0.1 * (1 - np.exp(-6 / 8)))
    assert past_best(known, recent=4, least=3, curve=Staleness(2.0, 8.0, 0.0)) is None


def test_going_back_does_not_make_the_model_new() -> None:
    """What was lost is counted since the newest version went live, whichever answers; one that went live just now has lost nothing."""
    losses = [[0.1] * 6, [np.nan] * 2 + [0.2, 0.3, 0.4, 0.5]]
    back = known_of(losses, [0, 2], [0, 0, 1, 1, 0, 0], 0)
    assert since_retrain(back).losses.tolist() == [0.2, 0.3, 0.1, 0.1]
    new = known_of([*losses, [np.nan] * 6], [0, 2, 6], [0, 0, 1, 1, 1, 1], 2)
    assert len(since_retrain(new).losses) == 0


def test_good_windows_of_long_ago_do_not_hide_what_is_lost_now() -> None:
    """A version that was new at a peak of the loss, and good after it, is retrained once it loses more than at that peak."""
    peak = [1.0] * 3 + [0.3] * 30 + [1.6] * 10
    said = Value().decide(known_of([peak], [0], [0] * 43, 0, cost=4.0))
    assert said.action == "retrain"
    assert said.saving == pytest.approx(0.7 * 0.6 * said.ahead * 10 / 13), "by 10 windows, drawn to zero by 3"
    assert Value().decide(known_of([peak[:33]], [0], [0] * 33, 0, cost=4.0)).saving == 0.0


def test_a_version_that_is_taken_again_is_compared_with_when_it_was_new() -> None:
    """After a retrain that made a worse one, the version before it is retrained once it has lost the cost above its own first windows."""
    before, worse = [0.5] * 8 + [0.9] * 12, [np.nan] * 4 + [1.0] * 16
    known = known_of([before, worse], [0, 4], [0] * 4 + [1] * 4 + [0] * 12, 0, cost=3.0)
    said = Value().decide(known)
    assert said.action == "retrain"
    assert said.score == pytest.approx(0.7 * 12 * 0.4)


def test_how_versions_once_aged_is_forgotten() -> None:
    """After windows in which age costs nothing the curve says so, where all windows alike still say the mean of both times."""
    history = ageing(60, 0.01)
    later = history.losses[:, 30:]
    later[~np.isnan(later)] = 0.4
    # With a little luck of each version, as curves without any error have nothing to weigh.
    history.losses[:] += np.random.default_rng(1).normal(0, 0.001, (60, 60))
    born = np.arange(0, 60, 5)
    pairs, prior = pairs_of(history.losses[born], born), Staleness(1.2, LINE, 0.1)
    faded, alike = updated(prior, pairs, 1.0, now=60), updated(prior, pairs, 1.0)
    assert abs(faded.b) < 0.1 * alike.b


def test_few_pairs_do_not_carry_the_curve() -> None:
    """One version's luck leaves the backtest's curve nearly where it was; many versions that say the same move it."""
    prior = Staleness(0.1, 8.0, 0.02)
    lucky = np.array([[0.4] * 4, [np.nan] * 2 + [0.8] * 2])
    assert updated(prior, pairs_of(lucky, np.array([0, 2])), 0.5, now=4).b > 0.05
    born = np.arange(0, 40, 2)
    flat = np.where(np.arange(40)[None] < born[:, None], np.nan, 0.4) + np.random.default_rng(1).normal(
        0, 0.001, (20, 40)
    )
    assert abs(updated(prior, pairs_of(flat, born), 0.5, now=40).b) < 0.01


def test_a_version_that_was_trained_for_a_proven_rise_is_not_left_before_it_has_labels() -> None:
    """The one before it stands for it, which lost by far more than when it was new: that is what the live one was trained for."""
    first = [0.50, 0.51, 0.49, 0.50, 0.51, 0.50, 0.49, 0.50, 1.10, 1.11, 1.09, 1.10]
    second = [np.nan] * 2 + [loss + 0.02 for loss in first[2:]]
    newest = [np.nan] * 12
    known = known_of([first, second, newest], [0, 2, 12], [0, 0, *[1] * 10], 2)
    assert past_best(known, recent=4, least=3) is not None, "the gap of 0.02 alone would be taken"
    assert past_best(known, recent=4, least=3, cures=0.7) is None
    labelled = replace(known, losses=known.losses.copy())
    labelled.losses[2, 8:] = np.array(first[8:]) + 0.05
    found = past_best(labelled, recent=4, least=3, cures=0.7)
    assert found is not None and found.version == 0, "by its own labels it has cured nothing"
