"""Compares a window's profile with the reference: a feature has moved when a measure that decides is over its limit.

A limit comes from a budget of false alarms (`monitor.false_alarms_a_quarter`): each distance is divided by the 95 % quantile that it has
without drift, and the largest of all features and measures may be over the limit at one look no oftener than the budget allows. That
limit is widened by half, since the reference's weeks are few and the next one is none of them; with less than 26 weeks by more.

A new measure is a class in a file of pipeline/monitoring/measures/, and its name in MEASURES; a team's own is named by
`monitor.measures`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal

import numpy as np

from pipeline.monitoring import null_distribution
from pipeline.monitoring.change_shape import shape_of
from pipeline.monitoring.domain_classifier import MEASURE
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


@dataclass(frozen=True)
class Score:
    """One measure of one feature. `value` is None where there is too little to judge; `limit` is None for one that does not decide.

    `before` and `now` are the shares of a measure of a share.
    """

    measure: str
    value: float | None
    limit: float | None = None
    reason: str = ""
    before: float | None = None
    now: float | None = None

    @property
    def moved(self) -> bool:
        return self.value is not None and self.limit is not None and self.value > self.limit

    @property
    def times_limit(self) -> float:
        return self.value / self.limit if self.value is not None and self.limit else 0.0

    @property
    def figures(self) -> dict[str, float | None]:
        name = self.measure.lower().replace("-", "_").replace(" ", "_")
        if name == "unknown":
            return {name: self.now}
        if self.before is not None:
            return {f"{name}_before": self.before, f"{name}_now": self.now, f"{name}_limit": self.limit}
        has_limit = name == "psi" or self.limit is not None
        return {name: self.value, f"{name}_limit": self.limit} if has_limit else {name: self.value}


@dataclass(frozen=True)
class FeatureDrift:
    """One feature with its score by each of MEASURES that fits it; `shape` is of pipeline.monitoring.change_shape. `importance` is of
    pipeline.training.importances, None where nobody measured it."""

    feature: str
    scores: tuple[Score, ...]
    # Why no window could have moved it; empty where one could.
    blind: str = ""
    shape: Mapping[str, Any] = field(default_factory=dict)
    importance: float | None = None

    @property
    def moved(self) -> bool:
        return any(score.moved for score in self.scores)

    @property
    def judged(self) -> bool:
        """Whether there were values to compare, on both sides, and a limit that can be reached."""
        return self.compared and not self.blind

    @property
    def compared(self) -> bool:
        return any(score.value is not None for score in self.scores if score.measure in (Psi.name, MEASURE))

    @property
    def reason(self) -> str:
        """The reasons of the measures that are over their limit; of the first when none is."""
        told = [score.reason for score in self.scores if score.moved] or [self.scores[0].reason]
        return " and ".join(told)

    @property
    def times_limit(self) -> float:
        """The largest of its distances, as a multiple of its limit."""
        return max((score.times_limit for score in self.scores), default=0.0)

    @property
    def rank(self) -> tuple[float, float]:
        """What features are ordered by, the largest first: change times importance, then change."""
        return self.times_limit * (self.importance or 0.0), self.times_limit

    @property
    def figures(self) -> dict[str, float | None]:
        return {name: figure for score in self.scores for name, figure in score.figures.items()}

    def as_dict(self) -> dict[str, Any]:
        figures = {name: None if v is None or not np.isfinite(v) else v for name, v in self.figures.items()}
        return {
            "feature": self.feature,
            **figures,
            "times_limit": self.times_limit,
            "importance": self.importance,
            "judged": self.judged,
            "moved": self.moved,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class DriftVerdict:
    """The result of the comparison. `no verdict` is neither drift nor its absence; `skew` is drift that the source's rows do not show (see
    pipeline.monitoring.skew). `limits` says what the limits are made of, and whether they are proven."""

    verdict: Literal["drift", "skew", "no drift", "no verdict"]
    reason: str
    rows_before: int
    rows_now: int
    features: tuple[FeatureDrift, ...] = ()
    limits: str = ""

    @property
    def changed(self) -> bool:
        """Whether it is an alarm, of whatever side."""
        return self.verdict in ("drift", "skew")

    @property
    def moved(self) -> list[FeatureDrift]:
        """The features that moved, the one whose change matters most to the model first."""
        return sorted((f for f in self.features if f.moved), key=lambda f: f.rank, reverse=True)

    def as_dict(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict,
            "reason": self.reason,
            "limits": self.limits,
            "rows_before": self.rows_before,
            "rows_now": self.rows_now,
            "features": [feature.as_dict() for feature in self.features],
            "moved": [feature.feature for feature in self.moved],
        }


@dataclass(frozen=True)
class Window:
    """The rows to be judged. `span_days` is None where their times are not known; `start` and `end` tell the season."""

    profile: Profile
    span_days: float | None = None
    start: date | None = None
    end: date | None = None


def compare(
    reference: Reference,
    window: Window,
    limits: DriftLimits,
    looks: float = 91,
    learnt: Mapping[str, Any] | None = None,
    examples: Mapping[str, str] | None = None,
    own: Sequence[Measure] = (),
) -> DriftVerdict:
    """Judges the window, of which there are so many `looks` a quarter. `learnt` names the categories whose unknown values can be told;
    `examples` has an unknown value by column. `own` are a team's measures, which share the budget."""
    before, now = reference.whole, window.profile
    rows = before.rows, now.rows
    columns = reference.layout.columns
    if min(rows) < limits.min_rows:
        few = f"{rows[1]:,} rows now and {rows[0]:,} before, at least {limits.min_rows:,} of each required (monitor.min_rows)"
        return DriftVerdict("no verdict", few, *rows)
    missing = [c.name for c in columns if not c.of and (c.name not in now.cells or c.name not in before.cells)]
    if missing:
        return DriftVerdict("no verdict", f"no column {', '.join(missing)} on both sides", *rows)
    share = min(0.5, limits.false_alarms_a_quarter / looks)
    against = _references(reference, window)
    judged = [_Judge(reference, days, window, limits, share, learnt or {}, examples or {}, own) for days in against]
    features = tuple(_nearest([judge.feature(column) for judge in judged]) for column in columns)
    said = _limits_said(reference, window, against[-1], limits)
    return _verdict(features, rows, limits, said)


def _references(reference: Reference, window: Window) -> list[list[date] | None]:
    """What the window is compared with: all of the reference, and where it has the same season of last year, that too."""
    season = null_distribution.season_before(reference, window.start, window.end) if window.start and window.end else []
    return [None, season] if season else [None]


def _nearest(found: list[FeatureDrift]) -> FeatureDrift:
    """A feature has moved when it is beyond its limits against each reference."""
    return min(found, key=lambda feature: feature.times_limit)


def _verdict(features: tuple[FeatureDrift, ...], rows: tuple[int, int], limits: DriftLimits, said: str) -> DriftVerdict:
    moved = sorted((feature for feature in features if feature.moved), key=lambda f: f.rank, reverse=True)
    unjudged = {f.feature: _unjudged(f) for f in features if not f.judged and not f.moved}
    if len(moved) < limits.features_limit and len(unjudged) == len(features):
        none = "no feature has values on both sides"
        if any(feature.compared for feature in features):
            none = f"no feature can be judged{_unjudged_said(unjudged)}"
        return DriftVerdict("no verdict", none, *rows, features, said)
    reason = f"{len(moved)} of {len(features)} features moved, {limits.features_limit} or more are drift"
    if moved:
        reason += f": {', '.join(f'{f.feature} ({f.reason})' for f in moved)}"
    if unjudged:
        reason += _unjudged_said(unjudged)
    verdict: Literal["drift", "no drift"] = "drift" if len(moved) >= limits.features_limit else "no drift"
    return DriftVerdict(verdict, reason, *rows, features, said)


def _unjudged(feature: FeatureDrift) -> str:
    return feature.blind if feature.compared else "too few values"


def _unjudged_said(unjudged: Mapping[str, str]) -> str:
    """The features without a verdict, by the reason why."""
    said = ""
    for why in dict.fromkeys(unjudged.values()):
        said += f"; no verdict on {', '.join(name for name in unjudged if unjudged[name] == why)}: {why}"
    return said


def _limits_said(reference: Reference, window: Window, season: list[date] | None, limits: DriftLimits) -> str:
    weeks = null_distribution.weeks_of(reference.days)
    of = f"{weeks} weeks of training data" if window.span_days is not None else "the reference"
    said = f"against {of}"
    if season:
        said += f" and against the season of a year before ({season[0]} to {season[-1]})"
    budget = limits.false_alarms_a_quarter
    said += f"; at most {budget:g} false alarm{'' if budget == 1 else 's'} a quarter (monitor.false_alarms_a_quarter)"
    stated = [f"monitor.{key}" for key in ("psi_limit", "missing_limit") if getattr(limits, key) is not None]
    if stated:
        said += f", where {' and '.join(stated)} does not state the limit"
    if not reference.timed:
        return said + "; unproven: the reference has no times, so nobody knows what is usual from week to week"
    if weeks < null_distribution.PROVEN_WEEKS:
        return said + f"; unproven: from {weeks} weeks, {null_distribution.PROVEN_WEEKS} are needed"
    if window.span_days is not None and window.span_days < 1:
        return said + "; unproven: a window of less than a day is compared with whole days"
    return said


class _Judge:
    """The limits of all features against one reference: the days `against`, or all of them."""

    def __init__(
        self,
        reference: Reference,
        against: list[date] | None,
        window: Window,
        limits: DriftLimits,
        share: float,
        learnt: Mapping[str, Any],
        examples: Mapping[str, str],
        own: Sequence[Measure],
    ) -> None:
        season = total((reference.days[at] for at in against), reference.layout) if against is not None else None
        self.before, self.now = season or reference.whole, window.profile
        self.importances = reference.importances
        self.stated, self.learnt, self.examples, self.own = limits, learnt, examples, own
        draws = null_distribution.drawn(
            reference, self.now, window.span_days, null_distribution.draws_for(share), against
        )
        widened = max(WIDENED, 1 + null_distribution.PROVEN_WEEKS / 2 / max(draws.weeks, 1))
        self.weeks: dict[Key, OwnWeeks] = {}
        largest = np.zeros(len(next(iter(draws.now.values()))) if draws.now else 1)
        for column in reference.layout.columns:
            for measure in (*MEASURES, *own):
                if not measure.decides or not measure.fits(column):
                    continue
                distances = self._distance(measure, column, draws.before[column.name], draws.now[column.name])
                of_weeks = self._own_weeks(measure, column, distances)
                self.weeks[column.name, measure.name] = of_weeks
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
        )

    def _importance(self, column: ColumnLayout) -> float | None:
        """Of a difference that of the one that matters more; None where nobody measured it."""
        known = [self.importances[name] for name in column.of or (column.name,) if name in self.importances]
        return max(known, default=None)

    def _blind(self, column: ColumnLayout, fitting: Sequence[Measure]) -> str:
        """Why nothing can be told from the column's values, or from how many it lacks: none of the measures can be over its limit."""
        for of_values in (True, False):
            if of_values and column.name in self.learnt:
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
        end = np.inf if measure in self.own else end_of(measure, column, before, self.now.rows)
        return OwnWeeks(distances, quantile, measure.least_limit, end)

    def _distance(self, measure: Measure, column: ColumnLayout, before: np.ndarray, now: np.ndarray) -> np.ndarray:
        distance = checked_distance if measure in self.own else type(measure).distance
        return distance(measure, column, before, now)

    def _score(self, measure: Measure, column: ColumnLayout) -> Score:
        before, now = self.before.cells[column.name], self.now.cells[column.name]
        if measure.name == UnknownShare.name and column.name not in self.learnt:
            return Score(measure.name, None)
        shares = (
            [float(measure.share(column, c)) for c in (before, now)] if isinstance(measure, OfShare) else [None] * 2
        )
        limit = self._limit(measure, column)
        if not measure.judged(column, before, now):
            return Score(measure.name, None, limit, "too few values to judge", *shares)
        value = float(self._distance(measure, column, before, now))
        told = measure.told(column, before, now, limit) if limit is not None else ""
        if measure.name == UnknownShare.name and (example := self.examples.get(column.name)):
            told += f", e.g. {example[:40]}"
        return Score(measure.name, value, limit, told, *shares)

    def _limit(self, measure: Measure, column: ColumnLayout) -> float | None:
        if measure.name == UnknownShare.name:
            return self.stated.unknown_limit
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
