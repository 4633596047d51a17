"""How much rarer values have become: the logarithm of the share of rows with a value before, by that share now; 0 where it grew.

It finds that values are gone from a column that has few of them anyway, and many in some weeks: there the share of missing values says
nothing. It is the wrong one for a column that hardly ever lacks a value, where a missing one is found long before.
"""

from __future__ import annotations

import numpy as np

from pipeline.monitoring.measures.base import Measure
from pipeline.monitoring.profiles.layout import ColumnLayout


class ValueShare(Measure):
    """In nats, from 0 on: ln 4 where a quarter of the usual values is left. 0 for columns that lack none."""

    name = "values"
    decides = True
    # A quarter of the usual ones.
    least_limit = float(np.log(4))

    def fits(self, column: ColumnLayout) -> bool:
        return not column.of

    def distance(self, column: ColumnLayout, before: np.ndarray, now: np.ndarray) -> np.ndarray:
        missing = column.special("missing")
        if not (before[..., missing].any() or now[..., missing].any()):
            return np.zeros(before.shape[:-1])
        return np.maximum(np.log(self._share(column, before) / self._share(column, now)), 0.0)

    def least(self, column: ColumnLayout, before: np.ndarray, now: np.ndarray) -> float:
        expected = float(now.sum()) * float(self._share(column, before))
        return float(-np.log1p(-min(1.6449 / np.sqrt(max(expected, 1.0)), 0.9)))

    def seldom(self, column: ColumnLayout, before: np.ndarray, rows: int) -> float:
        """To the end, where so few values are expected that none at all is chance."""
        none = np.eye(column.cells)[column.special("missing")] * rows
        expected = rows * float(self._share(column, before))
        return float(self.distance(column, before, none)) if np.exp(-expected) > 1e-4 else 0.0

    def told(self, column: ColumnLayout, before: np.ndarray, now: np.ndarray, limit: float) -> str:
        shares = [1 - float(c[column.special("missing")] / max(c.sum(), 1)) for c in (before, now)]
        return f"values in {shares[0]:.1%} of the rows before, {shares[1]:.1%} now"

    def _share(self, column: ColumnLayout, cells: np.ndarray) -> np.ndarray:
        """Of the rows with a value. Half a row is added, since none at all would be infinitely rare."""
        rows = cells.sum(axis=-1)
        return (rows - cells[..., column.special("missing")] + 0.5) / (rows + 0.5)
