"""What a drift measure is: the distance of two profiles of one column. A new one is a class in a file of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np

from pipeline.monitoring.profiles.layout import ColumnLayout

# Fewer values in a sample say nothing of how values are distributed.
FEWEST_VALUES = 20


class Measure(ABC):
    """`before` and `now` are counts of a column's cells, (..., cells) each; a distance has the shape (...).

    A measure that `decides` has a null distribution made for it, and a limit. The others are figures to read.
    """

    name: ClassVar[str]
    decides: ClassVar[bool] = False
    # No limit is below this: a smaller change is nothing that a person would look after.
    least_limit: ClassVar[float] = 0.0

    @abstractmethod
    def distance(self, column: ColumnLayout, before: np.ndarray, now: np.ndarray) -> np.ndarray: ...

    def fits(self, column: ColumnLayout) -> bool:
        """Whether the measure means something for such a column."""
        return True

    def least(self, column: ColumnLayout, before: np.ndarray, now: np.ndarray) -> float:
        """The 95 % quantile that the distance has at least by chance, if rows came one by one: a history without such rows has none."""
        return 0.0

    def seldom(self, column: ColumnLayout, before: np.ndarray, rows: int) -> float:
        """How far so many rows go in one of 10,000 windows, if they came one by one; 0.0 where the reference's own weeks show it well enough."""
        return 0.0

    def judged(self, column: ColumnLayout, before: np.ndarray, now: np.ndarray) -> bool:
        """Whether the two have enough values for a verdict."""
        return bool(before.sum() and now.sum())

    def told(self, column: ColumnLayout, before: np.ndarray, now: np.ndarray, limit: float) -> str:
        """The reason in words, for a distance that is over its limit or within it."""
        value = float(self.distance(column, before, now))
        return f"{self.name} {value:.3g} {'over' if value > limit else 'within'} {limit:.3g}"


class OfValues(Measure):
    """Compares how the values are distributed that are there: missing ones and infinities are other measures' matter."""

    def values(self, column: ColumnLayout, cells: np.ndarray) -> np.ndarray:
        """The counts of the buckets, float64; categories that were never learnt are among the rest."""
        buckets = np.array(cells[..., : column.buckets], dtype=np.float64)
        if column.kind == "category":
            buckets[..., -1] += cells[..., column.special("unknown")]
        return buckets

    def shares(self, column: ColumnLayout, cells: np.ndarray) -> np.ndarray:
        buckets = self.values(column, cells)
        return buckets / np.maximum(buckets.sum(axis=-1, keepdims=True), 1)

    def judged(self, column: ColumnLayout, before: np.ndarray, now: np.ndarray) -> bool:
        return min(self.values(column, cells).sum() for cells in (before, now)) >= FEWEST_VALUES


class OfShare(Measure):
    """Compares the share of the rows that are in some cells, in percentage points."""

    decides = True

    @abstractmethod
    def counted(self, column: ColumnLayout, cells: np.ndarray) -> np.ndarray:
        """How many rows are in those cells."""

    def share(self, column: ColumnLayout, cells: np.ndarray) -> np.ndarray:
        return self.counted(column, cells) / np.maximum(cells.sum(axis=-1), 1)

    def distance(self, column: ColumnLayout, before: np.ndarray, now: np.ndarray) -> np.ndarray:
        # Most columns have no such cell in any draw.
        if not (self.counted(column, before).any() or self.counted(column, now).any()):
            return np.zeros(before.shape[:-1])
        return np.abs(self.share(column, now) - self.share(column, before))

    def least(self, column: ColumnLayout, before: np.ndarray, now: np.ndarray) -> float:
        of_before, of_now = float(before.sum()), float(now.sum())
        share = (float(self.counted(column, before)) + 0.5) / (of_before + 1)
        by_chance = 1.96 * np.sqrt(share * (1 - share) * (1 / of_before + 1 / of_now))
        # Two rows, where next to none are usual: the bell curve is wrong there.
        return float(by_chance + 2 / of_now)

    def told(self, column: ColumnLayout, before: np.ndarray, now: np.ndarray, limit: float) -> str:
        shares = [float(self.share(column, cells)) for cells in (before, now)]
        return f"{self.name} {_percent(shares[0])} before, {_percent(shares[1])} now"


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.095 or share == 0 else f"{share:.2%}"
