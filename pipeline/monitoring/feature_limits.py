"""The limits of all features of a look, from what the measures say of the reference's own weeks.

The features of slices have half of the budget together, and all others the other half: so slices, which are many and small, make nothing else hard to see.

A new measure is a class in a file of pipeline/monitoring/measures/, and its name in MEASURES; a team's own is named by
`monitor.measures`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from itertools import product
from typing import Any

import numpy as np

from pipeline.monitoring import null_distribution
from pipeline.monitoring.change_shape import shape_of
from pipeline.monitoring.feature_drift import FeatureDrift, Score
from pipeline.monitoring.measures.base import Measure, OfShare, OfValues
from pipeline.monitoring.measures.chi_square import ChiSquare
from pipeline.monitoring.measures.infinite_share import InfiniteShare
from pipeline.monitoring.measures.jensen_shannon import JensenShannon
from pipeline.monitoring.measures.kolmogorov_smirnov import KolmogorovSmirnov
from pipeline.monitoring.measures.kullback_leibler import KullbackLeibler
from pipeline.monitoring.measures.missing_share import MissingShare
from pipeline.monitoring.measures.outside_share import OutsideShare
from pipeline.monitoring.measures.own import checked_distance
from pipeline.monitoring.measures.psi import Psi
from pipeline.monitoring.measures.unknown_share import UnknownShare
from pipeline.monitoring.measures.value_share import ValueShare
from pipeline.monitoring.measures.wasserstein import Wasserstein
from pipeline.monitoring.profiles.layout import ColumnLayout
from pipeline.monitoring.profiles.profile import Profile, total
from pipeline.monitoring.profiles.reference import Reference
from pipeline.monitoring.reach import OwnWeeks, end_of
from pipeline.settings.models import DriftLimits

# In the order of a feature's figures and reasons.
MEASURES: tuple[Measure, ...] = (
    Psi(),
    OutsideShare(),
    MissingShare(),
    ValueShare(),
    InfiniteShare(),
    UnknownShare(),
    JensenShannon(),
    KolmogorovSmirnov(),
    Wasserstein(),
    ChiSquare(),
    KullbackLeibler(),
)
# The next week is none of those that were drawn; the fewer these are, the less is known of it.
WIDENED = 1.5
# The scale of a measure that never differed from 0 in the reference's own weeks.
TINY = 1e-9
Key = tuple[str, str]
# So many counts have one seed.
MOST_CELLS = 20_000_000


class Judge:
    """The limits of the features in `columns` against one reference: the days `against`, or all of them."""

    def __init__(
        self,
        reference: Reference,
        columns: Sequence[ColumnLayout],
        against: list[date] | None,
        now: Profile,
        span_days: float | None,
        limits: DriftLimits,
        share: float,
        learnt: Mapping[str, Any],
        examples: Mapping[str, str],
        own: Sequence[Measure],
    ) -> None:
        season = total((reference.days[at] for at in against), reference.layout) if against is not None else None
        self.before, self.now = season or reference.whole, now
        self.importances, self.newcomers = reference.importances, reference.newcomers
        self.stated, self.learnt, self.examples, self.own = limits, learnt, examples, own
        draws = null_distribution.draws_for(share)
        weeks = null_distribution.weeks_of(reference.days)
        widened = max(WIDENED, 1 + null_distribution.PROVEN_WEEKS / 2 / max(weeks, 1))
        self.weeks: dict[Key, OwnWeeks] = {}
        largest = np.zeros(draws)
        # Without columns, as where there are no slices, nothing is drawn.
        given = [null_distribution.Draws(reference, now, span_days, draws, against)] if columns else []
        for drawn, some in product(given, _parts(columns, draws)):
            for column, before_each, now_each in drawn.of(reference.part(some)):
                for measure in (*MEASURES, *own):
                    if not measure.decides or not measure.fits(column):
                        continue
                    distances = self._distance(measure, column, before_each, now_each)
                    of_weeks = self._own_weeks(measure, column, distances)
                    self.weeks[column.name, measure.name] = of_weeks.furthest
                    largest = np.maximum(largest, of_weeks.times(widened))
        self.times = widened * float(np.quantile(largest, 1 - share))

    def feature(self, column: ColumnLayout) -> FeatureDrift:
        fitting = [measure for measure in (*MEASURES, *self.own) if measure.fits(column)]
        return FeatureDrift(
            column.name,
            tuple(self._score(measure, column) for measure in fitting),
            self._blind(column, fitting),
            shape_of(column, self.before.cells[column.name], self.now.cells[column.name]),
            self._importance(column),
            column.base,
        )

    def _importance(self, column: ColumnLayout) -> float | None:
        """Of a difference that of the one that matters more; None where nobody measured it."""
        known = [self.importances[name] for name in column.of or (column.feature,) if name in self.importances]
        return max(known, default=None)

    def _blind(self, column: ColumnLayout, fitting: Sequence[Measure]) -> str:
        """Why nothing can be told from the column's values, or from how many it lacks: none of the measures can be over its limit."""
        for of_values in (True, False):
            if of_values and column.feature in self.learnt:
                # Values that the model does not know have a limit that can be reached.
                continue
            why = [
                self.weeks[column.name, measure.name].blind(measure.name, self._limit(measure, column) or 0.0)
                for measure in fitting
                if measure.decides and isinstance(measure, OfValues) == of_values and measure.name != InfiniteShare.name
            ]
            if why and all(why):
                return " and ".join(why)
        return ""

    def _own_weeks(self, measure: Measure, column: ColumnLayout, distances: np.ndarray) -> OwnWeeks:
        before, now = self.before.cells[column.name], self.now.cells[column.name]
        least = measure.least(column, before, now)
        furthest = float(distances.max())
        # A quantile takes its time: most measures never differ in most columns.
        above = max(float(np.quantile(distances, 0.95)), least) if furthest > least else least
        quantile = above or furthest or TINY
        # How far a team's measure can go is not known.
        rows = self.now.rows_of(column)
        end = np.inf if measure in self.own else end_of(measure, column, before, rows)
        return OwnWeeks(distances, quantile, measure.least_limit, end, measure.seldom(column, before, rows))

    def _distance(self, measure: Measure, column: ColumnLayout, before: np.ndarray, now: np.ndarray) -> np.ndarray:
        distance = checked_distance if measure in self.own else type(measure).distance
        return distance(measure, column, before, now)

    def _score(self, measure: Measure, column: ColumnLayout) -> Score:
        before, now = self.before.cells[column.name], self.now.cells[column.name]
        if measure.name == UnknownShare.name and column.feature not in self.learnt:
            return Score(measure.name, None)
        shares = (
            [float(measure.share(column, c)) for c in (before, now)] if isinstance(measure, OfShare) else [None] * 2
        )
        limit = self._limit(measure, column)
        if not measure.judged(column, before, now):
            return Score(measure.name, None, limit, "too few values to judge", *shares)
        value = float(self._distance(measure, column, before, now))
        told = measure.told(column, before, now, limit) if limit is not None else ""
        if measure.name == UnknownShare.name and (example := self.examples.get(column.feature)):
            told += f", e.g. {example[:40]}"
        return Score(measure.name, value, limit, told, *shares)

    def _limit(self, measure: Measure, column: ColumnLayout) -> float | None:
        if measure.name == UnknownShare.name:
            # All of what was learnt from was known: how many new ones are usual, the held-out days say.
            return min(self.stated.unknown_limit + self.newcomers.get(column.feature, 0.0), 1.0)
        if not measure.decides:
            return None
        if measure.name == Psi.name and self.stated.psi_limit is not None:
            # By chance it is so much on average, whatever the limit.
            return self.stated.psi_limit + Psi().by_chance(
                column, self.before.cells[column.name], self.now.cells[column.name]
            )
        if measure.name == MissingShare.name and self.stated.missing_limit is not None:
            return self.stated.missing_limit
        return self.weeks[column.name, measure.name].limit(self.times)


def _parts(columns: Sequence[ColumnLayout], draws: int) -> Iterator[list[ColumnLayout]]:
    """The columns, so many at a time; the draws of each part are those of the same seed."""
    some: list[ColumnLayout] = []
    cells = 0
    for column in columns:
        if some and (cells + column.cells) * draws > MOST_CELLS:
            yield some
            some, cells = [], 0
        some.append(column)
        cells += column.cells
    if some:
        yield some
