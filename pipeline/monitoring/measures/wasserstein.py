"""The Wasserstein distance, in standard deviations of the reference: how far a value has moved, on average.

It is the one that says how much, in the column's own terms. It is the wrong one for heavy tails, where a few values are all of it, and for
categories. Each bucket stands at one point, so that values between the reference's least and largest are wrong by at most the width of
the widest bucket; what lies beyond counts as at the outer buckets' points, and the distance is too small.

Source: Vallender 1974, Calculation of the Wasserstein distance between probability distributions on the line;
scipy.stats.wasserstein_distance.
"""

from __future__ import annotations

import numpy as np

from pipeline.monitoring.measures.base import OfValues
from pipeline.monitoring.profiles.layout import ColumnLayout


class Wasserstein(OfValues):
    name = "Wasserstein"

    def fits(self, column: ColumnLayout) -> bool:
        return column.kind == "number"

    def distance(self, column: ColumnLayout, before: np.ndarray, now: np.ndarray) -> np.ndarray:
        p, q = self.shares(column, before), self.shares(column, now)
        gaps = np.diff(np.array(column.points))
        return (np.abs(np.cumsum(q - p, axis=-1))[..., :-1] * gaps).sum(axis=-1) / column.scale
