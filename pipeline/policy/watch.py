"""When labels mature: does the champion lose against its predecessor on the same rows?"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np


@dataclass(frozen=True)
class Watched:
    """`excess` is the champion's mean loss minus its predecessor's; its true value is at least `low`."""

    decision: Literal["roll back", "keep"]
    reason: str
    rows: int
    excess: float | None
    low: float | None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def compare(champion: np.ndarray, predecessor: np.ndarray, alpha: float, min_rows: int) -> Watched:
    """Judges two losses in [0, 1], both of shape (rows,), in the order in which the labels came.

    Rolls back when the champion is proven worse; however often one looks, an equal champion is rolled back with a
    probability of at most `alpha`.
    """
    rows = len(champion)
    if rows < min_rows:
        return Watched("keep", f"{rows:,} rows have labels, at least {min_rows:,} wanted", rows, None, None)
    # From [-1, 1] to [0, 1], where the bound is at home.
    halves = (champion - predecessor + 1) / 2
    excess, low = float(np.mean(champion - predecessor)), 2 * lower_bound(halves, alpha) - 1
    told = (
        f"on the same {rows:,} labelled rows its loss is {excess:+.5f} against its predecessor's, at least {low:+.5f}"
    )
    return Watched("roll back" if low > 0 else "keep", told, rows, excess, low)


def lower_bound(values: np.ndarray, alpha: float) -> float:
    """What the mean of values in [0, 1] is at least, at all looks together with a probability of at least 1 - alpha.

    The predictable plug-in empirical-Bernstein confidence sequence, one-sided (Waudby-Smith & Ramdas, Estimating means of
    bounded random variables by betting, 2024, theorem 2).
    """
    t = np.arange(1, len(values) + 1)
    means = (0.5 + np.cumsum(values)) / (t + 1)
    before = np.concatenate([[0.5], means[:-1]])
    spreads = (0.25 + np.cumsum((values - means) ** 2)) / (t + 1)
    spread_before = np.concatenate([[0.25], spreads[:-1]])
    stakes = np.minimum(np.sqrt(2 * np.log(1 / alpha) / (spread_before * t * np.log1p(t))), 0.75)
    penalty = np.sum((values - before) ** 2 * (-np.log1p(-stakes) - stakes))
    total = np.sum(stakes)
    return float((np.sum(stakes * values) - np.log(1 / alpha) - penalty) / total)
