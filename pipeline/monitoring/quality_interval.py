"""The interval of a live metric: how far it would be elsewhere on other days like these.

Rows of one day go together, so whole days are left out, one at a time, and the metric of the rest says how much a day decides: the
jackknife of blocks, which unlike a bootstrap draws nothing at random and takes as many evaluations as there are days. Student's t with
one degree of freedom less than days makes it wide where days are few.

Source: Busing, Meijer & van der Leeden 1999, Delete-m jackknife for unequal m; Künsch 1989 (blocks).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

# Of fewer days nobody knows how they differ.
FEWEST_DAYS = 3
# Of more days several are left out together: each evaluation reads all other rows.
MOST_BLOCKS = 30
# So often the interval has the metric of all days like these in it.
LEVEL = 0.95


def interval(
    metric: Callable[[np.ndarray], float], days: np.ndarray, largest: float = np.inf, least: float = -np.inf
) -> tuple[float, float] | None:
    """(low, high) around the metric of all rows; `metric` takes a mask of rows, bool (rows,), and `days` has each row's day.

    None for fewer than FEWEST_DAYS, or where a day decides whether there is a metric at all. It is cut off at `least` and `largest`, which
    the metric never passes.
    """
    from scipy import stats

    known, rows = np.unique(days, return_counts=True)
    if len(known) < FEWEST_DAYS:
        return None
    each_day = np.searchsorted(known, days)
    if (together := -(-len(known) // MOST_BLOCKS)) > 1:
        days = each_day // together
        known, rows = np.unique(days, return_counts=True)
    value = metric(np.ones(len(days), bool))
    without = np.array([metric(days != day) for day in known])
    times = len(days) / rows
    mean = len(known) * value - np.sum((1 - 1 / times) * without)
    each = times * value - (times - 1) * without
    variance = np.mean((each - mean) ** 2 / (times - 1))
    if not np.isfinite(variance):
        return None
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(known) - 1) * np.sqrt(variance))
    return max(value - half, least), min(value + half, largest)
