"""Compares a window's profile with the reference: a feature has moved when a measure that decides is over its limit.

A limit comes from a budget of false alarms (`monitor.false_alarms_a_quarter`): each distance is divided by the 95 % quantile that it has
without drift, and the largest of all features and measures may be over the limit at one look no oftener than the budget allows. That
limit is widened by half, since the reference's weeks are few and the next one is none of them; with less than 26 weeks by more.

The limits are in feature_limits, and those of slices share the budget.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Literal

from pipeline.monitoring import null_distribution
from pipeline.monitoring.feature_drift import FeatureDrift
from pipeline.monitoring.feature_drift import Score as Score
from pipeline.monitoring.feature_limits import MEASURES as MEASURES
from pipeline.monitoring.feature_limits import WIDENED as WIDENED
from pipeline.monitoring.feature_limits import Judge
from pipeline.monitoring.measures.base import Measure
from pipeline.monitoring.profiles.layout import ColumnLayout
from pipeline.monitoring.profiles.profile import Profile
from pipeline.monitoring.profiles.reference import Reference
from pipeline.monitoring.slice_drift import SliceDrift, slices_of, unjudged_said
from pipeline.settings.models import DriftLimits

OF_HOURS = "of the same hours of the day"


@dataclass(frozen=True)
class DriftVerdict:
    """The result of the comparison. `no verdict` is neither drift nor its absence; `skew` is drift that the source's rows do not show (see
    pipeline.monitoring.skew). `limits` says what the limits are made of, and whether they are proven. `slices` are those of monitor.slices."""

    verdict: Literal["drift", "skew", "no drift", "no verdict"]
    reason: str
    rows_before: int
    rows_now: int
    features: tuple[FeatureDrift, ...] = ()
    limits: str = ""
    slices: tuple[SliceDrift, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether it is an alarm, of whatever side."""
        return self.verdict in ("drift", "skew")

    @property
    def moved(self) -> list[FeatureDrift]:
        """The features that moved, the one whose change matters most to the model first; of slices those that did not move in all rows, after
        them."""
        everywhere = {feature.feature for feature in self.features if feature.moved}
        in_slices = (f for of in self.slices for f in of.features if f.moved and f.base not in everywhere)
        both = ([f for f in self.features if f.moved], list(in_slices))
        return [f for some in both for f in sorted(some, key=lambda f: f.rank, reverse=True)]

    @property
    def unjudged(self) -> list[str]:
        """The features without a verdict, those of slices after the others."""
        own = [feature.feature for feature in self.features]
        none = [feature.feature for feature in self.every if not feature.judged and not feature.moved]
        in_slices = [f"{name} where {of.where}" for of in self.slices if of.verdict == "no verdict" for name in own]
        return list(dict.fromkeys([*none, *in_slices]))

    @property
    def every(self) -> list[FeatureDrift]:
        """The features, those of slices too."""
        return [*self.features, *(feature for of in self.slices for feature in of.features)]

    def as_dict(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict,
            "reason": self.reason,
            "limits": self.limits,
            "rows_before": self.rows_before,
            "rows_now": self.rows_now,
            "features": [feature.as_dict() for feature in self.features],
            "moved": [feature.feature for feature in self.moved],
            **({"slices": [of.as_dict() for of in self.slices]} if self.slices else {}),
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
        before_said = "before" + (f", {OF_HOURS}" if reference.of_hours else "")
        few = f"{rows[1]:,} rows now and {rows[0]:,} {before_said}, at least {limits.min_rows:,} of each required (monitor.min_rows)"
        return DriftVerdict("no verdict", few, *rows)
    if window.span_days is not None and 1 < window.span_days < null_distribution.WEEK and window.span_days % 1:
        # Of quiet windows of a day and a half two in three would alarm.
        hours = f"{window.span_days:g} days have some hours oftener than others, and no whole day is like them: state whole days (monitor.window_days)"
        return DriftVerdict("no verdict", hours, *rows)
    own_columns = [column.name for column in columns if not column.of and column.where is None]
    missing = [name for name in own_columns if name not in now.cells or name not in before.cells]
    if missing:
        return DriftVerdict("no verdict", f"no column {', '.join(missing)} on both sides", *rows)
    share = min(0.5, limits.false_alarms_a_quarter / looks)
    against = _references(reference, window)
    with_rows = [c for c in columns if c.where and min(p.rows_of(c) for p in (before, now)) >= limits.min_rows]

    def judged(some: Sequence[ColumnLayout]) -> tuple[FeatureDrift, ...]:
        # Slices have half of the budget.
        of_all = share / (2 if with_rows else 1)
        given = now, window.span_days, limits, of_all, learnt or {}, examples or {}, own
        judges = [Judge(reference, some, days, *given) for days in against]
        return tuple(_nearest([judge.feature(column) for judge in judges]) for column in some)

    features = judged([column for column in columns if column.where is None])
    slices = slices_of(columns, before, now, dict(zip(with_rows, judged(with_rows), strict=True)))
    said = _limits_said(reference, window, against[-1], limits)
    return _verdict(features, slices, rows, limits, said)


def _references(reference: Reference, window: Window) -> list[list[date] | None]:
    """What the window is compared with: all of the reference, and where it has the same season of last year, that too."""
    season = null_distribution.season_before(reference, window.start, window.end) if window.start and window.end else []
    return [None, season] if season else [None]


def _nearest(found: list[FeatureDrift]) -> FeatureDrift:
    """A feature has moved when it is beyond its limits against each reference."""
    return min(found, key=lambda feature: feature.times_limit)


def _verdict(
    features: tuple[FeatureDrift, ...],
    slices: tuple[SliceDrift, ...],
    rows: tuple[int, int],
    limits: DriftLimits,
    said: str,
) -> DriftVerdict:
    found = DriftVerdict("no drift", "", *rows, features, said, slices)
    every = found.moved
    moved, in_slices = [f for f in every if f in features], [f for f in every if f not in features]
    unjudged = {f.feature: _unjudged(f) for f in features if not f.judged and not f.moved}
    if len(every) < limits.features_limit and len(unjudged) == len(features):
        none = "no feature has values on both sides"
        if any(feature.compared for feature in features):
            none = f"no feature can be judged{_unjudged_said(unjudged)}"
        return replace(found, verdict="no verdict", reason=none)
    reason = f"{len(moved)} of {len(features)} features moved, {limits.features_limit} or more are drift"
    if moved:
        reason += f": {', '.join(f'{f.feature} ({f.reason})' for f in moved)}"
    if in_slices:
        reason += f"; in slices alone {', '.join(f'{f.feature} ({f.reason})' for f in in_slices)}"
    if unjudged:
        reason += _unjudged_said(unjudged)
    reason += unjudged_said(slices, limits.min_rows)
    return replace(found, verdict="drift" if len(every) >= limits.features_limit else "no drift", reason=reason)


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
    counted = f"{weeks} week{'' if weeks == 1 else 's'}"
    of = f"{counted} of training data" if window.span_days is not None else "the reference"
    said = f"against {of}"
    by_weeks = null_distribution.by_weeks_alone(reference.days)
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
        return said + f"; unproven: from {counted}, {null_distribution.PROVEN_WEEKS} are needed"
    if window.span_days is not None and window.span_days < null_distribution.WEEK and by_weeks:
        return said + "; unproven: the version's profiles are of whole weeks, and the window is of days"
    if reference.of_hours:
        return f"{said}; unproven: a window of less than a day is compared with {reference.rows:,} rows {OF_HOURS}"
    if window.span_days is not None and window.span_days < 1:
        return said + "; unproven: a window of less than a day is compared with whole days"
    return said
