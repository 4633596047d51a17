"""The Kullback-Leibler divergence of the rows now from those before, in nats: a diagnostic, to read beside the others.

It is not symmetric. It is the wrong one to decide by: one value in a bucket that was empty before makes it infinite. In buckets it is at
most what it is of the values themselves.

Source: Kullback & Leibler 1951, On information and sufficiency; scipy.stats.entropy(now, before).
"""

from __future__ import annotations

import numpy as np

from pipeline.monitoring.measures.base import OfValues
from pipeline.monitoring.profiles.layout import ColumnLayout


class KullbackLeibler(OfValues):
    name = "Kullback-Leibler"

    def distance(self, column: ColumnLayout, before: np.ndarray, now: np.ndarray) -> np.ndarray:
        p, q = self.shares(column, before), self.shares(column, now)
        ratio = np.divide(q, p, out=np.full_like(q, np.inf), where=p > 0)
        return (q * np.log(np.where(q > 0, ratio, 1))).sum(axis=-1)
