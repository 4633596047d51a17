"""How far one measure of one column goes by itself, and how far it can go at all: its limit lies between the two.

A limit is a multiple of what the reference's own weeks do, and that multiple is one for all columns. A measure that weeks bring near its
end, as PSI of a temperature over a year, would have a limit beyond that end, and be calm whatever comes. So a limit lies at most
half the way from the furthest of the reference's weeks to the end. Where weeks reach the end itself, nothing can be told from them:
that is no verdict.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pipeline.monitoring.measures.base import Measure
from pipeline.monitoring.profiles.layout import ColumnLayout


@dataclass(frozen=True)
class OwnWeeks:
    """A measure's distances on windows without drift: (draws,), with their 95 % `quantile`, and the `end` that no window can go beyond. Chance
    alone goes as far as `seldom`, which a few hundred draws need not show."""

    distances: np.ndarray
    quantile: float
    least_limit: float
    end: float
    seldom: float = 0.0

    def times(self, widened: float) -> np.ndarray:
        """The distances as multiples of the quantile, (draws,). One that is no alarm whatever the multiple is, since it stays below the
        least limit when it is widened, is 0: it shall widen no other column's limit."""
        return np.where(self.distances * widened > self.least_limit, self.distances / self.quantile, 0.0)

    @property
    def furthest(self) -> OwnWeeks:
        """The same with the largest distance alone, which is all that a limit takes."""
        return replace(self, distances=self.distances.max(keepdims=True))

    def limit(self, times: float) -> float:
        between = (max(float(self.distances.max()), self.seldom) + self.end) / 2
        return max(self.least_limit, min(times * self.quantile, between))

    def blind(self, measure: str, limit: float) -> str:
        """Why no window can be over the limit; empty where one can."""
        if limit < self.end:
            return ""
        if not self.end:
            return f"{measure} is 0 whatever comes"
        usual = " (the reference's own weeks come so far)" if float(self.distances.max()) >= self.end else ""
        usual = usual or (" (chance alone comes so far)" if self.seldom >= self.end else "")
        return f"{measure} can be at most {self.end:.3g} and its limit is {limit:.3g}{usual}"


def end_of(measure: Measure, column: ColumnLayout, before: np.ndarray, rows: int) -> float:
    """The largest distance from `before`, (cells,), that so many rows can have: all of them in one cell. Every one of our measures is
    largest there."""
    return float(np.max(measure.distance(column, before[None, :], rows * np.eye(column.cells))))
