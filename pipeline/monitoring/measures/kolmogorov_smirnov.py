"""The Kolmogorov-Smirnov statistic: the largest difference of the two distribution functions, 0 to 1.

It needs no bucket and no scale. It is the wrong one for tails, where distribution functions always agree, and for categories, which
have no order. In buckets it is too small by at most the largest share that one bucket has in either sample, since between two edges the
functions differ by no more than that.

Source: Kolmogorov 1933, Smirnov 1939; scipy.stats.ks_2samp.
"""

from __future__ import annotations

import numpy as np

from pipeline.monitoring.measures.base import OfValues
from pipeline.monitoring.profiles.layout import ColumnLayout


class KolmogorovSmirnov(OfValues):
    name = "Kolmogorov-Smirnov"

    def fits(self, column: ColumnLayout) -> bool:
        return column.kind == "number"

    def distance(self, column: ColumnLayout, before: np.ndarray, now: np.ndarray) -> np.ndarray:
        p, q = self.shares(column, before), self.shares(column, now)
        return np.abs(np.cumsum(q, axis=-1) - np.cumsum(p, axis=-1)).max(axis=-1)
