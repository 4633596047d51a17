"""The default rule over a simulated year, with its guess and its guard: a world that does not change, and one that shifts where it serves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.policy.retraining import cured, of_model
from pipeline.policy.retraining.base import History
from pipeline.policy.retraining.figures import figure
from pipeline.policy.retraining.staleness import backtested
from pipeline.settings.policy import Policy

WEEKS = 52
NO_LABELS = 1000
LEARNS_DAYS = 56.0


def year(seed, delay, shift=None, over=1, noise=0.02):
    """Weekly losses around 0.5 with the weather of the week and each version's own luck. From week `shift` on all versions lose more, by
    steps over so many weeks, and a new one no less: the source does not show what requests have."""
    rng = np.random.default_rng(seed)
    losses = 0.5 + rng.normal(0, noise, WEEKS) + rng.normal(0, 0.005, (WEEKS, WEEKS))
    if shift is not None:
        losses += 0.2 * np.clip((np.arange(WEEKS) - shift + 1) / over, 0, 1)
    losses[np.tril_indices(WEEKS, -1)] = np.nan
    return History(losses, np.ones(WEEKS), delay, np.zeros(WEEKS, bool))


def retrains(history, cost, guarded=True, prior=None):
    """The weeks in which the default retrains, by a backtest's curve or the guess; a version that it goes back to answers from then on."""
    settings, kept, live, served, found = Policy(), [0], 0, np.full(WEEKS, -1), []
    for now in range(1, WEEKS):
        served[now - 1] = live
        known = history.known(now, np.array(kept), served, live, cost)
        rule = of_model.value(settings, None, cost)
        rule = rule if prior is None else replace(rule, prior=prior)
        said = rule.decide(known)
        if said.action == "go back":
            live = said.version
        elif said.action == "retrain" and not (
            guarded
            and cured.not_cured(known, rule.prior, settings.window_days, settings.due_after_days, None, LEARNS_DAYS)
        ):
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


@pytest.mark.parametrize("weeks", [8, 13, 26])
def test_a_shift_that_comes_slowly_is_retrained_for_once(weeks):
    """The loss goes on rising under a version that has taken nothing of it off: it is the change that this one was trained for."""
    found = [
        [week for week in retrains(year(seed, 1, 20, weeks, noise=0.01), cost) if week >= 20]
        for seed in range(4)
        for cost in (0.1, 0.3)
    ]
    assert {len(weeks) for weeks in found} == {1}


def rising(seed, cured=0.0, jump=0.0):
    """Version 0 has risen when version 1 is trained at window 10, and the loss goes on rising as it did; version 1 takes off so much, and
    from window 22 on both lose `jump` more."""
    rng = np.random.default_rng(seed)
    losses = 0.5 + 0.01 * np.arange(30) + rng.normal(0, 0.005, 30) + rng.normal(0, 0.001, (2, 30))
    losses[1] -= cured
    losses[1, :10] = np.nan
    losses[:, 22:] += jump
    return losses


def test_a_rise_that_goes_on_is_another_change_where_the_retrain_has_cured_some_or_it_breaks():
    """A tenth of what had risen is enough, and so is a departure from the line that it went along."""
    for seed in range(4):
        assert held(rising(seed)).startswith(
            "version 1 was trained on this very change, and the last retrain did not cure it: version 0 had come to lose 0.0"
        )
        assert held(rising(seed, cured=0.03)) == "" == held(rising(seed, jump=0.2))


@pytest.mark.parametrize("week", [13, 14, 16, 20])
def test_a_jump_after_a_retrain_for_a_small_rise_is_another_change(week):
    """However soon it comes: a retrain that noise alone asked for does not keep a model from the one that it needs."""
    for seed in range(4):
        losses = rising(seed) - 0.007 * np.arange(30)
        losses[:, week:] += 0.5
        assert held(losses) == ""


def test_without_the_guard_noise_alone_would_be_retrained_for():
    """A retrain that costs less than the noise of the loss follows another one: the guard is what ends that."""
    assert max(len(retrains(year(seed, 1), 0.005, guarded=False)) for seed in range(6)) > 1


def held(losses, curve=None, days=7.0, in_vain=None, live=1, learns=LEARNS_DAYS):
    """What the guard says of version 1, trained at window 10 of 30 after version 0."""
    history = History(np.full((30, 30), np.nan), np.ones(30), 0, np.zeros(30, bool))
    known = history.known(30, np.array([0, 10]), np.where(np.arange(30) < 10, 0, 1), live, 0.04)
    prior = curve or of_model.value(Policy(), None, 0.04).prior
    return cured.not_cured(replace(known, losses=losses), prior, days, 183, in_vain, learns)


@pytest.mark.parametrize("seed", range(4))
def test_what_was_cured_in_part_is_retrained_for_once_more_when_the_next_version_learns_from_none_of_the_same_rows(
    seed,
):
    """The new version takes two thirds off; one that takes a third off has not cured it, and one that takes all off leaves nothing."""
    rng = np.random.default_rng(seed)
    losses = 0.5 + rng.normal(0, 0.02, 30) + rng.normal(0, 0.005, (2, 30))
    losses[:, 6:] += 0.3
    losses[1, :10] = np.nan
    part, little, whole = (losses - np.array([[0.0], [off]]) for off in (0.2, 0.1, 0.3))
    assert held(part, learns=140.0) == ""
    waits = held(part, learns=141.0)
    assert waits.startswith(
        "version 1 has cured a part of the change that it was trained on: version 0 had come to lose 0."
    )
    assert "until 141 days after it a retrain learns from some of the same rows" in waits
    assert "the last retrain did not cure it" in held(little, learns=140.0)
    assert held(whole, learns=140.0).startswith("nothing is shown to have moved since the last retrain")


def two_versions(seed=1):
    rng = np.random.default_rng(seed)
    losses = 0.5 + rng.normal(0, 0.02, 30) + rng.normal(0, 0.002, (2, 30))
    losses[1, :10] = np.nan
    return losses


def test_a_rise_since_the_last_retrain_ageing_that_is_proven_or_a_year_lets_the_next_one_go_on():
    """A gain on the same rows alone does not: the luck of one draw looks the same."""
    losses = two_versions()
    assert held(losses).startswith("nothing is shown to have moved since the last retrain: in the 20 labelled windows")
    better, risen = losses.copy(), losses.copy()
    better[1] -= 0.02
    risen[:, 15:] += 0.2
    assert "a window less than version 0 on the same rows is no news" in held(better)
    curve = of_model.value(Policy(), None, 0.04).prior
    proven, few, noise = (
        replace(curve, b=0.1, error=error, blocks=blocks) for error, blocks in ((0.01, 40), (0.01, 2), (0.04, 40))
    )
    assert [held(risen), held(losses, proven), held(losses, days=20.0)] == ["", "", ""]
    assert "neither by the backtest" in held(losses, noise) and held(losses, few)


def test_going_back_moves_no_rise_and_a_rise_of_before_the_last_retrain_is_not_new():
    """The version that is taken again is judged by its own losses since the last retrain, whichever answered."""
    losses = two_versions()
    losses[:, 8:] += 0.2
    assert held(losses, live=0)
    losses[:, 16:] += 0.2
    assert held(losses, live=0) == ""


def test_a_version_that_did_not_go_live_counts_as_the_last_retrain():
    """What it was asked for is known since, so it is not asked for again; without labels time decides."""
    risen = two_versions()
    risen[:, 15:] += 0.2
    assert held(risen) == "" and held(risen, in_vain=17)
    assert held(risen, in_vain=30).startswith("no label has come since the last retrain, 183 days have not passed")
    unknown = np.full((2, 30), np.nan)
    assert held(unknown, days=10.0) == ""
    unproven = replace(of_model.value(Policy(), None, 0.04).prior, b=0.1, error=0.1, blocks=40)
    assert "365 days have not passed, and that versions of this model age is proven neither by the backtest" in held(
        unknown, unproven, days=10.0
    )


TASKS = ("binary", "regression", "multi-class")


def losses_of(task, rng, draws, rows=300):
    """The mean losses on one week's rows, as asked for and with a feature 1.5 too high, of versions that are `draws` (versions, 6) off."""
    x, effects, classes = rng.normal(size=(rows, 5)), np.array([1.2, -0.8, 0.5, 0, 0.3]), np.linspace(-1, 1, 20)
    by_class, noise = np.roll(classes, 7).reshape(5, 4), rng.random(rows)
    found = np.empty((2, len(draws)))
    for i, asked in enumerate((x, x + np.array([1.5, 0, 0, 0, 0]))):
        for v, off in enumerate(draws):
            said = asked @ (effects + off[:5]) + off[5]
            if task == "regression":
                loss = np.abs(10 * (x @ effects - said) + 8 * np.log(noise / (1 - noise)))
            elif task == "binary":
                loss = np.logaddexp(0, np.where(noise < 1 / (1 + np.exp(-x @ effects)), -said, said))
            else:
                odds = np.exp(x @ by_class)
                is_class = (odds.cumsum(axis=1) / odds.sum(axis=1, keepdims=True) < noise[:, None]).sum(axis=1)
                points = asked @ (by_class + off[:5, None])
                loss = np.log(np.exp(points).sum(axis=1)) - points[np.arange(rows), is_class]
            found[i, v] = loss.mean()
    return found


@pytest.mark.parametrize("luck", [0.02, 0.06])
@pytest.mark.parametrize("task", TASKS)
def test_versions_that_differ_for_good_by_luck_are_not_retrained_for_it(task, luck):
    """By the losses of rows, at a cost far below their noise, with a backtest and without: the lucky draw of a retrain is no reason for the next."""
    for seed in range(3):
        rng = np.random.default_rng([seed, TASKS.index(task)])
        draws = luck * rng.normal(size=(WEEKS, 6))
        as_asked, shifted = np.full((2, WEEKS, WEEKS), np.nan)
        for week in range(WEEKS):
            as_asked[: week + 1, week], shifted[: week + 1, week] = losses_of(task, rng, draws[: week + 1])
        for losses in (as_asked, np.where(np.arange(WEEKS) < 21, as_asked, shifted)):
            history = History(losses, np.ones(WEEKS), 1, np.zeros(WEEKS, bool))
            for backtest in (None, backtested(as_asked[:40, :40], np.zeros(40, bool))):
                found = retrains(history, 0.0002, prior=backtest)
                since_shift = sum(week >= 21 for week in found) if losses is not as_asked else 0
                assert len(found) - since_shift <= 1 and since_shift <= 1, "one for nothing, and one for the shift"


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
