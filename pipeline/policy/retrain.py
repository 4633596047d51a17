"""Decides whether the model is retrained now."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from pipeline.monitoring import live_quality
from pipeline.monitoring.drift import DriftVerdict
from pipeline.monitoring.live_quality import LiveQuality, dropped_by
from pipeline.monitoring.quality_interval import FEWEST_DAYS, LEVEL
from pipeline.monitoring.skew import Skew
from pipeline.policy.alarms import day
from pipeline.settings.models import Monitor, time_of
from pipeline.training.evaluate import shown, shown_gain


@dataclass(frozen=True)
class Receipt:
    """A decision with its reasons, and the change of its inputs that would give the other decision."""

    decision: Literal["retrain", "wait"]
    reasons: tuple[str, ...]
    would_flip: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def worse(quality: LiveQuality, limits: Monitor) -> bool | None:
    """Whether the live metric has surely dropped by more than the limit; None when it is not known."""
    return live_quality.got_worse(quality, limits.quality_drop)


def decide(
    drift: DriftVerdict,
    quality: LiveQuality,
    limits: Monitor,
    standing: str = "",
    skew: Skew | None = None,
    changed_from: str = "",
) -> Receipt:
    """Decides to retrain when the features have drifted, or when the live metric has dropped by more than the limit.

    `standing` says why an alarm starts no retrain: see pipeline.policy.alarms. '' when it does. Neither does skew, which is no change of what
    a retrain learns from; answers from before `changed_from` (ISO 8601), where its alarm begins, are not worse for it.
    """
    drop = dropped_by(quality)
    against = f" ({drift.limits})" if drift.limits else ""
    reasons = [f"inputs: {drift.verdict}, {drift.reason}{against}", _quality_line(quality, drop, limits)]
    reasons += [f"source: {skew}"] if skew is not None else []
    got_worse = worse(quality, limits)
    if drift.verdict == "skew" and not (got_worse and _judged_before(quality, changed_from)):
        cure = "a retrain learns from the source's rows and cannot cure it; see what sends the requests, and how it makes these features"
        return Receipt("wait", (*reasons, f"skew: {cure}"), "rows of the source that show the change too")
    if standing:
        return Receipt("wait", (*reasons, f"alarm: {standing}"), "a further feature, or a clearly different change")
    if drift.verdict == "drift" or got_worse:
        flips = []
        if drift.verdict == "drift":
            flips.append(f"fewer than {limits.features_limit} moved features")
        if got_worse:
            flips.append(f"a drop of {quality.metric} of at most {_limit(quality, limits)}")
        return Receipt("retrain", tuple(reasons), " and ".join(flips))
    if drift.verdict == "no verdict":
        return Receipt("wait", tuple(reasons), f"at least {limits.min_rows:,} requests in the window, with values")
    missing = limits.features_limit - len(drift.moved)
    return Receipt(
        "wait",
        tuple(reasons),
        f"{missing} more moved features, or a drop of {quality.metric} over {_limit(quality, limits)}",
    )


def _limit(quality: LiveQuality, limits: Monitor) -> str:
    return shown_gain(quality.metric, limits.quality_drop)


def _judged_before(quality: LiveQuality, at: str) -> bool:
    """Whether all answers that were judged are of days before then."""
    return bool(at and quality.judged_until) and time_of(quality.judged_until or "") <= time_of(at)


def _days(quality: LiveQuality) -> str:
    """Which days were judged: the newest ones have no labels yet."""
    if quality.judged_from is None or quality.judged_until is None:
        return ""
    return f" from {day(quality.judged_from)} to {day(quality.judged_until)}"


def _quality_line(quality: LiveQuality, drop: float | None, limits: Monitor) -> str:
    if drop is None or quality.value is None:
        line = (
            f"live quality: unknown, {quality.labelled:,} of {quality.predictions:,} predictions{_days(quality)} have labels, "
            f"{limits.labelled_rows:,} required"
        )
        if quality.other_time:
            line += f"; {quality.other_time:,} have labels of their key at other times only (monitor.label_tolerance_s)"
        return line + _without_labels(quality)
    return (
        f"live quality: {quality.metric} {shown(quality.metric, quality.value)} on {quality.labelled:,} labelled "
        f"predictions{_days(quality)}, {shown(quality.metric, quality.held_out)} when held out, a drop of {shown_gain(quality.metric, drop)} "
        f"(limit {limits.quality_drop:g}, monitor.quality_drop){interval_said(quality, limits)}{_without_labels(quality)}"
    )


def interval_said(quality: LiveQuality, limits: Monitor) -> str:
    """The metric's interval, or why there is none, and whether that leaves the drop unproven."""
    if quality.low is None or quality.high is None:
        days = "" if quality.days is None else f" of {quality.days} days of answers, {FEWEST_DAYS} required"
        return f"; no interval{days}, so no drop is proven"
    ends = f"{shown(quality.metric, quality.low)} to {shown(quality.metric, quality.high)}"
    drop = dropped_by(quality)
    unproven = drop is not None and drop > limits.quality_drop and not worse(quality, limits)
    told = ", which leaves a drop over the limit unproven" if unproven else ""
    return f"; {LEVEL:.0%} interval {ends} by {quality.days} days{told}"


def _without_labels(quality: LiveQuality) -> str:
    """What people must be told of the answers that got no label; '' when nothing."""
    line = ""
    if quality.alike:
        line += f"; {quality.alike:,} answers are to rows that are alike in event time and features, of which not all were asked"
    if quality.without_weight:
        line += f"; {quality.without_weight:,} answers have a label whose row has no weight, and do not count (training.weight)"
    return line
