"""The default rule over a simulated year, with its guess and its guard: a world that does not change, and one that shifts where it serves."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.policy.retraining import cured, of_model
from pipeline.policy.retraining.base import History
from pipeline.policy.retraining.figures import figure
from pipeline.policy.retraining.staleness import pairs_of, updated
from pipeline.settings.policy import Policy

WEEKS = 52
NO_LABELS = 1000


def year(seed, delay, shift=None):
    """Weekly losses around 0.5 with the weather of the week and each version's own luck. From week `shift` on all versions lose more, and a
    new one no less: the source does not show what requests have."""
    rng = np.random.default_rng(seed)
    losses = 0.5 + rng.normal(0, 0.02, WEEKS) + rng.normal(0, 0.005, (WEEKS, WEEKS))
    if shift is not None:
        losses[:, shift:] += 0.2
    losses[np.tril_indices(WEEKS, -1)] = np.nan
    return History(losses, np.ones(WEEKS), delay, np.zeros(WEEKS, bool))


def retrains(history, cost, guarded=True):
    """The weeks in which the default retrains; a version that it goes back to answers from then on."""
    settings, kept, live, served, found = Policy(), [0], 0, np.full(WEEKS, -1), []
    for now in range(1, WEEKS):
        served[now - 1] = live
        known = history.known(now, np.array(kept), served, live, cost)
        rule = of_model.value(settings, None, cost)
        said = of_model.policies(settings, None, cost)[settings.rule].decide(known)
        if said.action == "go back":
            live = said.version
        elif said.action == "retrain":
            curve = updated(rule.prior, pairs_of(known.losses, known.born), rule.changeable)
            if not (guarded and cured.not_cured(known, curve, settings.window_days)):
                kept.append(now)
                live = len(kept) - 1
                found.append(now)
    return found


@pytest.mark.parametrize("delay", [1, NO_LABELS])
def test_a_model_whose_world_does_not_change_is_retrained_at_most_once_a_year(delay):
    """With labels and without, whatever a retrain costs; without labels it is once, when the guess says that it is due."""
    for cost in (0.04, 0.3, 3.0):
        found = [retrains(year(seed, delay), cost) for seed in range(6)]
        assert max(map(len, found)) <= 1
        if delay == NO_LABELS:
            assert found == [[27]] * 6


@pytest.mark.parametrize("cost", [0.1, 0.3])
def test_a_lasting_shift_where_it_serves_is_retrained_for_once(cost):
    """The new version is no better, and that is why no further one is trained for it."""
    found = [[week for week in retrains(year(seed, 1, shift=20), cost) if week >= 20] for seed in range(6)]
    assert max(len(weeks) for weeks in found) == 1


def test_without_the_guard_noise_alone_would_be_retrained_for():
    """A retrain that costs less than the noise of the loss follows another one: the guard is what ends that."""
    assert max(len(retrains(year(seed, 1), 0.005, guarded=False)) for seed in range(6)) > 1


def test_a_retrain_that_gained_does_not_hold_the_next_one_back():
    """A gain on the same rows, a rise beyond the noise, a proven curve, or a year since: each lets a retrain go on."""
    rng = np.random.default_rng(1)
    losses = 0.5 + rng.normal(0, 0.02, 30) + rng.normal(0, 0.002, (2, 30))
    losses[1, :10] = np.nan
    history = History(np.full((30, 30), np.nan), np.ones(30), 0, np.zeros(30, bool))
    known = history.known(30, np.array([0, 10]), np.where(np.arange(30) < 10, 0, 1), 1, 0.04)

    def held(losses, curve=None, days=7.0):
        seen = type(known)(**{**vars(known), "losses": losses})
        return cured.not_cured(seen, curve or of_model.value(Policy(), None, 0.04).prior, days)

    assert (
        "the last retrain is not shown to have cured anything: on the 20 labelled windows since, version 1 lost"
        in held(losses)
    )
    better, risen = losses.copy(), losses.copy()
    better[1, 10:] -= 0.02
    risen[:, 15:] += 0.2
    proven = type(of_model.value(Policy(), None, 0.04).prior)(0.1, 8.0, 0.01, 40)
    assert [held(better), held(risen), held(losses, proven), held(losses, days=20.0)] == ["", "", "", ""]


@pytest.mark.parametrize("days", [30, 183, 250, 365])
def test_a_model_without_labels_is_retrained_after_the_days_that_are_stated(days):
    """A stated wait longer than half a year is no never: the horizon in which a retrain has to pay reaches as far."""
    settings, cost, weeks = Policy(due_after_days=days), 3.0, 60
    history = History(np.full((weeks, weeks), np.nan), np.ones(weeks), NO_LABELS, np.zeros(weeks, bool))
    rule = of_model.value(settings, None, cost)
    due = [
        now
        for now in range(1, weeks)
        if rule.decide(history.known(now, np.array([0]), np.zeros(weeks, int), 0, cost)).action == "retrain"
    ]
    assert due[0] == -(-days // 7)


def test_a_figure_that_is_nothing_has_no_sign() -> None:
    """A new version loses 0.0000 more than a new one, and not -0.0000."""
    assert figure(-0.0) == "0.0000" == figure(0.0)
