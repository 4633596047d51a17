"""Intervals of means over groups of rows, from blocks of time (time_blocks): rows of one time go together, and so stay together.

With several groups the intervals hold for all of them at once: each gets its part of the errors that are allowed, so that looking at more
groups finds no more by chance. Student's t makes them wider where a group is in few blocks.

Source: Cochran 1977, Sampling Techniques, section 6.3 (a mean of blocks of unequal size); Dunn 1961 (several at once).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# A group in fewer blocks than these has no interval: nobody knows how it differs from one time to another.
FEWEST_OF_A_GROUP = 8


@dataclass(frozen=True)
class Means:
    """For each group its mean and the ends of its interval, (groups,) each; NaN for the ends of one in too few blocks."""

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def means(
    values: np.ndarray,
    groups: Sequence[np.ndarray],
    blocks: np.ndarray,
    weight: np.ndarray | None = None,
    level: float = 0.95,
) -> Means:
    """The means of `values` (rows,) over `groups`, masks of rows, with intervals that have all true means in them at `level`."""
    from scipy import stats

    weight = np.ones(len(values)) if weight is None else weight
    count = int(blocks.max(initial=0)) + 1
    sums = np.array([np.bincount(blocks[g], (values * weight)[g], count) for g in groups]).reshape(len(groups), count)
    rows = np.array([np.bincount(blocks[g], weight[g], count) for g in groups]).reshape(len(groups), count)
    inside = (rows > 0).sum(axis=1)
    judged = inside >= FEWEST_OF_A_GROUP
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = sums.sum(axis=1) / rows.sum(axis=1)
        squares = ((sums - mean[:, None] * rows) ** 2).sum(axis=1)
        error = np.sqrt(squares * inside / (inside - 1)) / rows.sum(axis=1)
        errors_each = (1 - level) / 2 / max(int(judged.sum()), 1)
        width = error * stats.t.ppf(1 - errors_each, np.maximum(inside - 1, 1))
    width = np.where(judged, width, np.nan)
    return Means(mean, mean - width, mean + width)
