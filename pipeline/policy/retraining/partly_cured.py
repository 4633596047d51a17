"""Whether the last retrain has cured a part of the change that it was made for. It learnt from rows of before the change too, and the next one,
once its training window has none of the same rows, may cure the rest.

It has, where the version before had risen above its noise when that retrain was made, the new one is proven better on the same rows by half of
that rise, and the loss is still above what the version before lost when it was new. Neither luck nor a change that no retrain cures takes half of
a rise off, and a retrain for the rest finds no rise of the version before it: so it is one more for a change.
"""

from __future__ import annotations

import math

import numpy as np

from pipeline.policy.retraining.base import Known
from pipeline.policy.retraining.same_change import FIRST, RISEN, noise

LEAST_SHARE = 0.5


def taken_off(known: Known, since: int) -> tuple[float, float, float, int] | None:
    """(the rise of the version before the newest, what the newest lost less than it since the window `since`, the standard error of that, over so
    many windows); None where nobody can say, or it is less than half of the rise."""
    newest = len(known.born) - 1
    if newest < 1 or since > known.born[newest]:
        return None
    before = known.losses[newest - 1, :since]
    before = before[~np.isnan(before)]
    gaps = (known.losses[newest - 1] - known.losses[newest])[since:]
    gaps = gaps[~np.isnan(gaps)]
    if len(before) <= FIRST or len(gaps) < FIRST:
        return None
    last = before[FIRST:][-FIRST:]
    rise, gap = float(last.mean() - before[:FIRST].mean()), float(gaps.mean())
    error = noise(np.diff(before)) * math.sqrt(1 / len(last) + 1 / FIRST)
    if rise <= RISEN * error or gap < LEAST_SHARE * rise:
        return None
    return rise, gap, float(gaps.std(ddof=1)) / math.sqrt(len(gaps)), len(gaps)
