"""The Jensen-Shannon distance: the root of the mean divergence (in nats) of both from their mean, 0 to 0.83.

It is finite whatever buckets are empty, and a metric. It is the wrong one for how far values have moved: a shift by one bucket and one
by nine are the same to it. In buckets it is at most what it is of the values themselves: to merge values only loses differences.

Source: Lin 1991, Divergence measures based on the Shannon entropy; scipy.spatial.distance.jensenshannon.
"""

from __future__ import annotations

import numpy as np

from pipeline.monitoring.measures.base import OfValues
from pipeline.monitoring.profiles.layout import ColumnLayout


class JensenShannon(OfValues):
    name = "Jensen-Shannon"

    def distance(self, column: ColumnLayout, before: np.ndarray, now: np.ndarray) -> np.ndarray:
        p, q = self.shares(column, before), self.shares(column, now)
        mean = (p + q) / 2
        divergence = (_part(p, mean) + _part(q, mean)).sum(axis=-1) / 2
        return np.sqrt(np.maximum(divergence, 0))


def _part(p: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """p * ln(p / mean), which is 0 where p is."""
    ratio = np.divide(p, mean, out=np.ones_like(p), where=p > 0)
    return p * np.log(ratio)
