"""Whether a rise since the last retrain is the change that this one was made for and did not cure: one that comes slowly goes on rising under
the new version, and a further retrain would cure no more of it.

It is, where the version before had risen above its noise, the new one has taken next to nothing of that off on the same rows, and the loss since
goes on along a line. What departs upwards from its line is another change, which a retrain may cure. The figures were chosen on simulated
years (docs/decisions.md): a version that learns from a long window cures little of a change that has just come, so a small share is enough.
"""

from __future__ import annotations

import math

import numpy as np

from pipeline.policy.retraining.base import Known
from pipeline.policy.retraining.figures import figure

# The windows in which a version counts as new.
FIRST = 3
# The share of the rise that a retrain has to have taken off; by how many standard errors there has to be one, and to be a departure.
LEAST_SHARE, RISEN, DEPARTED = 0.1, 2.0, 3.5
# A line is known from so many windows on, and what departs from it by the next ones.
LINE, AFTER = 6, 3


def not_taken_off(known: Known, since: int) -> str:
    """What the newest version, which counts from the window `since` on, has not cured of the rise that it was trained for; '' where there is
    another reason for a further retrain, or nobody can say."""
    newest = len(known.born) - 1
    if newest < 1 or since > known.born[newest]:
        return ""
    before = known.losses[newest - 1, :since]
    before = before[~np.isnan(before)]
    gaps = (known.losses[newest - 1] - known.losses[newest])[since:]
    gaps = gaps[~np.isnan(gaps)]
    if len(before) <= FIRST or len(gaps) < 2:
        return ""
    last = before[FIRST:][-FIRST:]
    rise = float(last.mean() - before[:FIRST].mean())
    error = noise(np.diff(before)) * math.sqrt(1 / len(last) + 1 / FIRST)
    if rise <= RISEN * error or gaps.mean() >= LEAST_SHARE * rise or _departed(known, since, rise):
        return ""
    less = f"{figure(abs(float(gaps.mean())))} {'less' if gaps.mean() >= 0 else 'more'}"
    return (
        f"{known.called(newest - 1)} had come to lose {figure(rise)} a row more than when it was new, {known.called(newest)} has lost {less} "
        "than it on the same rows, and the loss goes on rising without a break"
    )


def noise(steps: np.ndarray) -> float:
    """The standard deviation of a window's loss, by the steps between neighbouring ones: they differ by noise alone, whatever the trend."""
    return math.sqrt(float((steps**2).mean()) / 2)


def _departed(known: Known, since: int, rise: float) -> bool:
    """Whether the loss of some windows is above the line of those before them: since the window `since`, or where these are too few the last
    ones of the version before too. Along that line lies where the change began, so there it has to be above by more than the `rise`."""
    before = np.arange(known.losses.shape[1]) < since
    losses = np.where(before, known.losses[len(known.born) - 2], known.losses[known.live])
    windows = np.flatnonzero(~np.isnan(losses))
    found, own = losses[windows], int((windows < since).sum())
    for begin in range(max(own + 1, LINE), len(found) - AFTER + 1):
        first = own if begin - own >= LINE else begin - LINE
        on, later = windows[first:begin], windows[begin : begin + AFTER]
        slope, at_zero = np.polyfit(on, found[first:begin], 1)
        above = float((found[begin : begin + AFTER] - slope * later - at_zero).mean())
        reach = (later.mean() - on.mean()) ** 2 / ((on - on.mean()) ** 2).sum()
        error = noise(np.diff(found[:begin])) * math.sqrt(1 / len(on) + 1 / len(later) + reach)
        if above > DEPARTED * error and (first == own or above > rise):
            return True
    return False
