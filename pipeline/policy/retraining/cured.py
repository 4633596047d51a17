"""The guard "nothing has moved since the last retrain": a loss that is cheap to retrain for moves by noise alone, and versions differ for good by
luck, so each retrain would be followed by the next one.

So after a retrain the next one needs a proof of one of two: that versions of this model age, or that the live version has lost more since the last retrain, by
more than its noise. Without labels, or after a year, time alone is enough. That the last one is better than the version before proves
neither: the luck of one draw looks the same, and where it was a cure, what it cured is over. And a change that it did not cure was there when it was
new, so it is no rise: it is retrained for once. Where it goes on rising it is the same change (same_change.py). What was cured in part, as by a
version that learnt from rows of before the change too, is retrained for once more when a version learns from none of these (partly_cured.py). Proven is what is over so many standard errors that a look each week for a year hardly ever
says so by chance (Student's t, for a spread of few windows is itself hardly known).
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import stdtrit

from pipeline.policy.guards import LONGEST_DAYS
from pipeline.policy.retraining.base import Known
from pipeline.policy.retraining.figures import figure
from pipeline.policy.retraining.partly_cured import taken_off
from pipeline.policy.retraining.same_change import FIRST, noise, not_taken_off
from pipeline.policy.retraining.staleness import Staleness, fitted, pairs_of

# How sure, of what is looked at again each week.
SURE = 0.999
# The fewest versions with an older one beside them that tell age from luck.
FEWEST = 3


def not_cured(
    known: Known,
    prior: Staleness,
    window_days: float,
    due_after_days: float,
    in_vain: int | None = None,
    learns_days: float = math.inf,
) -> str:
    """Why nothing speaks for another retrain since the last one; '' where something does. `prior` is the excess by age of a backtest, or the
    guess that a retrain is due after so many days. `in_vain` is the window from which on a version counts that was asked for and trained, and
    did not go live. A version learns from the rows of `learns_days`."""
    newest = len(known.born) - 1
    since = max(int(known.born[newest]), -1 if in_vain is None else in_vain)
    days = (known.now - since) * window_days
    if (not newest and in_vain is None) or days >= LONGEST_DAYS or _ages(known, prior):
        return ""
    # All of them are of one version, the live one: what it is taken again for, and when, changes none of its losses.
    losses = known.losses[known.live, since:]
    losses = losses[~np.isnan(losses)]
    if not len(losses):
        if not prior.blocks and days >= due_after_days:
            return ""
        wait = f"{LONGEST_DAYS if prior.blocks else due_after_days:g} days"
        return f"no label has come since the last retrain, {wait} have not passed, and {_no_age(prior)}"
    if _risen(losses):
        same = not_taken_off(known, since)
        return f"{_trained_on(known)}: {same}, and {_no_age(prior)}" if same else ""
    uncured = _uncured(known, since, losses)
    part = _partly(known, since) if uncured else ""
    if part and days >= learns_days:
        return ""
    if part:
        return f"{part}; nothing has moved since, and until {learns_days:g} days after it a retrain learns from some of the same rows"
    return (
        f"{uncured}nothing is shown to have moved since the last retrain: in the {len(losses)} labelled windows since, the loss of "
        f"{known.called(known.live)} has not risen above its noise{_gain(known, since)}, and {_no_age(prior)}"
    )


def _uncured(known: Known, since: int, losses: np.ndarray) -> str:
    """That the newest version was trained for a loss that is still there; '' where the `losses` since are not shown to be above what the
    version before it lost when that was new, or where the last retrain made a version that is not live."""
    newest = len(known.born) - 1
    before = known.losses[max(newest - 1, 0), :since]
    new = before[~np.isnan(before)][:FIRST]
    steps = np.concatenate([np.diff(new), np.diff(losses)])
    if since > known.born[newest] or len(new) < FIRST or not _above(losses, new, steps):
        return ""
    return (
        f"{_trained_on(known)}: {known.called(known.live)} loses "
        f"{figure(float(losses.mean()))} a row since, {known.called(newest - 1)} lost {figure(float(new.mean()))} when it was new; "
    )


def _partly(known: Known, since: int) -> str:
    """That the newest version has cured a part of the change that it was trained for; '' where that is not proven."""
    found = taken_off(known, since)
    if found is None:
        return ""
    rise, gap, error, windows = found
    if not _proven(gap, error, windows - 1):
        return ""
    newest = len(known.born) - 1
    return (
        f"{known.called(newest)} has cured a part of the change that it was trained on: {known.called(newest - 1)} had come to lose {figure(rise)} "
        f"a row more than when it was new, {known.called(newest)} has lost {figure(gap)} less than it on the same rows, and still more than that one then"
    )


def _trained_on(known: Known) -> str:
    return f"{known.called(len(known.born) - 1)} was trained on this very change, and the last retrain did not cure it"


def _no_age(prior: Staleness) -> str:
    return f"that versions of this model age is proven neither by {'the backtest' if prior.blocks else 'a backtest'} nor by its own versions"


def _ages(known: Known, prior: Staleness) -> bool:
    """Whether a backtest or the model's own versions prove it. Versions differ by luck too, so the spread is that between versions."""
    own = fitted(pairs_of(known.losses, known.born), prior.slow)
    return any(each.blocks >= FEWEST and _proven(each.b, each.error, each.blocks - 1) for each in (prior, own) if each)


def _gain(known: Known, since: int) -> str:
    """What the newest version lost less than the one before, on the same rows."""
    newest = len(known.born) - 1
    if not newest:
        return ""
    gaps = (known.losses[newest - 1] - known.losses[newest])[since:]
    gaps = gaps[~np.isnan(gaps)]
    if not len(gaps):
        return ""
    less = f"{figure(abs(float(gaps.mean())))} a window {'less' if gaps.mean() >= 0 else 'more'}"
    return f", and that {known.called(newest)} lost {less} than {known.called(newest - 1)} on the same rows is no news of the next one"


def _risen(losses: np.ndarray) -> bool:
    """Whether they are above the first ones by more than the noise of neighbouring windows."""
    return len(losses) > FIRST and _above(losses[FIRST:], losses[:FIRST], np.diff(losses))


def _above(after: np.ndarray, first: np.ndarray, steps: np.ndarray) -> bool:
    """Whether the mean loss `after` is above that of the `first` windows by more than the noise of the `steps` between neighbouring ones."""
    error = noise(steps) * math.sqrt(1 / len(after) + 1 / len(first))
    return _proven(float(after.mean() - first.mean()), error, len(steps))


def _proven(mean: float, error: float, freedom: int) -> bool:
    return mean > float(stdtrit(freedom, SURE)) * error
