"""The share of the rows that are where the reference has not a single one: beyond its least or largest value, in a gap, or of a new category.

It needs no scale, and it is found in a column of all seasons, where each week is far from the others. It is the wrong one for what
stays within the reference's range. The limit is a third of the rows: of the weeks of 2013, drawn to be learnt from or looked at, the
worst has 31 % of its dew points where 26 others have none.
"""

from __future__ import annotations

import numpy as np

from pipeline.monitoring.measures.base import OfValues
from pipeline.monitoring.profiles.layout import ColumnLayout


class OutsideShare(OfValues):
    """From 0 to 1, of the values now: those in buckets that the reference left empty."""

    name = "outside"
    decides = True
    least_limit = 1 / 3

    def distance(self, column: ColumnLayout, before: np.ndarray, now: np.ndarray) -> np.ndarray:
        known = self.values(column, before) > 0
        if known.all():
            return np.zeros(before.shape[:-1])
        return np.where(known, 0.0, self.shares(column, now)).sum(axis=-1)

    def least(self, column: ColumnLayout, before: np.ndarray, now: np.ndarray) -> float:
        """A tenth: what the reference lacks, its own weeks can hardly show."""
        return 0.1

    def told(self, column: ColumnLayout, before: np.ndarray, now: np.ndarray, limit: float) -> str:
        return f"{float(self.distance(column, before, now)):.0%} outside of all values of the reference"
