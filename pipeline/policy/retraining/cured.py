"""The guard "the last retrain did not cure it": a loss that is cheap to retrain for moves by noise alone, and then each retrain is followed by
the next one.

After a retrain the next one needs a proof of one of three: that versions of this model age, that the last retrain gained on the same rows, or
that the live loss has risen since by more than its noise. Proven is what is over so many standard errors that a look each week for a year
hardly ever says so by chance (Student's t, for a spread of few windows is itself hardly known).
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import stdtrit

from pipeline.policy.retraining.base import Known
from pipeline.policy.retraining.figures import figure
from pipeline.policy.retraining.spell import spell_of
from pipeline.policy.retraining.staleness import Staleness

# How sure: of what is looked at again each week, and in standard errors of the curve, which is the sum of all looks.
SURE, SURE_CURVE = 0.999, 2.0
# The windows in which a version counts as new, and the fewest that have a spread.
FIRST, FEWEST = 3, 3
# No longer than this is a retrain held back.
LONGEST_DAYS = 365.0


def not_cured(known: Known, curve: Staleness, window_days: float) -> str:
    """Why the last retrain says against another one; '' where it does not. `curve` is the excess by age as it is known now."""
    newest = len(known.born) - 1
    since = int(known.born[newest])
    if not newest or (known.now - since) * window_days >= LONGEST_DAYS:
        return ""
    gaps = (known.losses[newest - 1] - known.losses[newest])[since:]
    gaps = gaps[~np.isnan(gaps)]
    if not len(gaps) or curve.b > SURE_CURVE * curve.error or _gained(gaps) or _risen(known):
        return ""
    return (
        f"the last retrain is not shown to have cured anything: on the {len(gaps)} labelled windows since, {known.called(newest)} lost "
        f"{figure(float(gaps.mean()))} a window less than {known.called(newest - 1)}, which is not above its noise, and neither is the rise "
        "of the live loss, nor what versions lose by age"
    )


def _gained(gaps: np.ndarray) -> bool:
    if len(gaps) < FEWEST:
        return False
    return _proven(float(gaps.mean()), float(gaps.std(ddof=1)) / math.sqrt(len(gaps)), len(gaps) - 1)


def _risen(known: Known) -> bool:
    """Whether the live version has lost more than in its own first windows, by more than the noise of neighbouring windows."""
    losses = spell_of(known).losses
    after = losses[FIRST:]
    if not len(after):
        return False
    noise = math.sqrt(float((np.diff(losses) ** 2).mean()) / 2)
    error = noise * math.sqrt(1 / len(after) + 1 / FIRST)
    return _proven(float(after.mean() - losses[:FIRST].mean()), error, len(losses) - 1)


def _proven(mean: float, error: float, freedom: int) -> bool:
    return mean > float(stdtrit(freedom, SURE)) * error
