"""The chi-square statistic of the table of both samples' counts, divided by its degrees of freedom: about 1 by chance.

Both samples are counted, since the reference is a sample too. It is the wrong one for many rows, where any difference is over any limit,
and for small buckets. In buckets it is exact for what is counted there; a column's values in buckets are another table.

Source: Pearson 1900; scipy.stats.chi2_contingency without correction.
"""

from __future__ import annotations

import numpy as np

from pipeline.monitoring.measures.base import OfValues
from pipeline.monitoring.profiles.layout import ColumnLayout


class ChiSquare(OfValues):
    """From 0 on, without a unit; 0 where neither sample has a value."""

    name = "chi-square"

    def distance(self, column: ColumnLayout, before: np.ndarray, now: np.ndarray) -> np.ndarray:
        both = self.values(column, before), self.values(column, now)
        together = both[0] + both[1]
        rows = np.maximum(together.sum(axis=-1, keepdims=True), 1)
        statistic = np.zeros(together.shape[:-1])
        for counts in both:
            expected = together * counts.sum(axis=-1, keepdims=True) / rows
            difference = np.divide((counts - expected) ** 2, expected, out=np.zeros_like(expected), where=expected > 0)
            statistic = statistic + difference.sum(axis=-1)
        freedom = np.maximum((together > 0).sum(axis=-1) - 1, 1)
        return statistic / freedom
