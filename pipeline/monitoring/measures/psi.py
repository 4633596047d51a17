"""The population stability index on the reference's own buckets.

PSI = sum over buckets of (now - before) * ln(now / before), of the shares in each bucket; symmetric, 0 for equal shares. It finds shifts
and changes of spread alike, and weighs rare buckets by their ratio. It is the wrong one for what happens within a bucket, and its usual
limit of 0.2 knows nothing of the number of rows: by chance it is about (k - 1)(1/n + 1/m) for k buckets and n and m rows.

Source: Yurdakul & Naranjo 2020, Statistical properties of the population stability index.
An empty bucket would make it infinite: half a row a bucket is added, shared out among the buckets as the reference is.
"""

from __future__ import annotations

import numpy as np

from pipeline.monitoring.measures.base import OfValues
from pipeline.monitoring.profiles.layout import ColumnLayout


class Psi(OfValues):
    """From 0 on, in nats. `least` is the 95 % quantile of what chance alone gives."""

    name = "PSI"
    decides = True

    def distance(self, column: ColumnLayout, before: np.ndarray, now: np.ndarray) -> np.ndarray:
        of_before, of_now = self.values(column, before), self.values(column, now)
        added = 0.5 * column.buckets
        p = (of_before + 0.5) / (of_before.sum(axis=-1, keepdims=True) + added)
        q = (of_now + added * p) / (of_now.sum(axis=-1, keepdims=True) + added)
        # Of a bucket that nobody ever filled nothing is known.
        return np.where(of_before + of_now > 0, (q - p) * np.log(q / p), 0.0).sum(axis=-1)

    def least(self, column: ColumnLayout, before: np.ndarray, now: np.ndarray) -> float:
        average = self.by_chance(column, before, now)
        freedom = self._freedom(column, before, now)
        # The 95 % quantile of chi-square, as a multiple of its mean (Wilson & Hilferty 1931).
        return average * (1 - 2 / (9 * freedom) + 1.6449 * np.sqrt(2 / (9 * freedom))) ** 3

    def by_chance(self, column: ColumnLayout, before: np.ndarray, now: np.ndarray) -> float:
        """Its average for two samples of one distribution, if rows came one by one."""
        rows = [max(float(self.values(column, cells).sum()), 1.0) for cells in (before, now)]
        return self._freedom(column, before, now) * (1 / rows[0] + 1 / rows[1])

    def _freedom(self, column: ColumnLayout, before: np.ndarray, now: np.ndarray) -> int:
        filled = self.values(column, before) + self.values(column, now) > 0
        return max(int(filled.sum()) - 1, 1)

    def told(self, column: ColumnLayout, before: np.ndarray, now: np.ndarray, limit: float) -> str:
        value = float(self.distance(column, before, now))
        digits = 2 if limit >= 0.1 else 3
        return f"PSI {value:.{digits}f} {'over' if value > limit else 'within'} {limit:.{digits}f}"
