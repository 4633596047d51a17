"""Compares champion and predecessor on the same rows once their labels have arrived."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np


@dataclass(frozen=True)
class WatchVerdict:
    """`excess` is the champion's mean loss minus the predecessor's; its true value is at least `low`.

    Both are None when there are too few `rows`.
    """

    decision: Literal["roll back", "keep"]
    reason: str
    rows: int
    excess: float | None
    low: float | None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def compare(
    champion: np.ndarray, predecessor: np.ndarray, alpha: float, min_rows: int, weight: np.ndarray | None = None
) -> WatchVerdict:
    """Judges the losses of both versions: in [0, 1], of shape (rows,), in the order in which the labels arrived.

    Each row counts as its `weight` says, one of weight 0 not at all. The decision is to roll back when the champion is proven worse.
    An equal champion is rolled back with a probability of at most `alpha`, however often it is judged.
    """
    if weight is not None:
        champion, predecessor, weight = champion[weight > 0], predecessor[weight > 0], weight[weight > 0]
    rows = len(champion)
    if rows < min_rows:
        counting = "have labels" if weight is None else "have labels and a weight above 0 (training.weight)"
        return WatchVerdict("keep", f"{rows:,} rows {counting}, at least {min_rows:,} required", rows, None, None)
    weight = np.ones(rows) if weight is None else weight
    # The bound holds for values in [0, 1]; a difference of losses is in [-1, 1], and as a share of the largest weight it stays there.
    shares, differences = weight / weight.max(), champion - predecessor
    excess = float(np.average(differences, weights=weight))
    low = float((2 * lower_bound((differences * shares + 1) / 2, alpha) - 1) / shares.mean())
    weighted = ", each by its weight," if (weight != weight[0]).any() else ""
    reason = f"on the same {rows:,} labelled rows{weighted} its loss is {excess:+.5f} against its predecessor's, at least {low:+.5f}"
    return WatchVerdict("roll back" if low > 0 else "keep", reason, rows, excess, low)


def lower_bound(values: np.ndarray, alpha: float) -> float:
    """A lower bound of the mean of values in [0, 1], right at all looks together with a probability of at least 1 - alpha.

    It is the predictable plug-in empirical-Bernstein confidence sequence, one-sided (Waudby-Smith & Ramdas, Estimating means of
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
