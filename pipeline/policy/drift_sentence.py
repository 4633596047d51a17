"""What a look saw, in one sentence: what changed, since when, and whether the answers got worse."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.monitoring.answer_shift import AnswerShift
from pipeline.monitoring.data_quality import DataQuality
from pipeline.monitoring.drift import DriftVerdict, FeatureDrift
from pipeline.monitoring.estimated_quality import EstimatedQuality
from pipeline.monitoring.live_quality import LiveQuality, dropped_by, got_worse
from pipeline.monitoring.quality_interval import FEWEST_DAYS
from pipeline.monitoring.skew import Skew
from pipeline.policy.alarms import Alarm, day
from pipeline.settings.models import Monitor
from pipeline.training.evaluate import shown

NAMED = 5


def drift_sentence(
    drift: DriftVerdict,
    alarm: Alarm | None,
    quality: LiveQuality,
    limits: Monitor,
    version: str,
    estimated: EstimatedQuality | None = None,
    answers: AnswerShift | None = None,
    skew: Skew | None = None,
    data: DataQuality | None = None,
) -> str:
    """`alarm` is the one after the look; `version` names the live version for people: `churn 3`."""
    worse = bool(got_worse(quality, limits.quality_drop))
    return f"{_coming(data)}{_inputs(drift, alarm, version, worse)}{_side(skew)}; {_answers(quality, limits)}{_estimate(quality, estimated)}{_moved(drift, answers)}"


def _inputs(drift: DriftVerdict, alarm: Alarm | None, version: str, worse: bool) -> str:
    """`worse` says that the answers surely got worse, which keeps an alarm going."""
    if drift.changed and alarm is not None:
        return f"{_changed(drift.moved, alarm)}{_matters(drift.moved, version)}"
    goes_on = alarm is not None and not alarm.ended
    unknown = f"; {_of(alarm)} is not known to be over" if alarm is not None and goes_on and not worse else ""
    if drift.verdict == "no verdict":
        return f"no verdict: {drift.reason}{unknown}"
    none = [feature.feature for feature in drift.features if not feature.judged]
    unjudged = f", and no verdict on {_listed(none)}" if none else ""
    over = f": {_of(alarm)} is over" if alarm is not None and alarm.ended else ""
    return f"no drift{over}{unjudged}{unknown}"


def _coming(data: DataQuality | None) -> str:
    """That requests do not come as they used to; nothing while they do."""
    if data is None or data.verdict != "alarm":
        return ""
    return f"requests do not come as usual since {day(data.since)} ({data.reason}); "


def _side(skew: Skew | None) -> str:
    """On which side the inputs changed; nothing where the source shows the same."""
    return f"; {skew}" if skew is not None and (skew.serving or skew.unknown) else ""


def _of(alarm: Alarm) -> str:
    return f"the alarm since {day(alarm.since)} ({', '.join(alarm.features)})"


def _changed(moved: Sequence[FeatureDrift], alarm: Alarm) -> str:
    """The features by the look since which each is changed; those that matter most first."""
    by_time: dict[str, list[str]] = {}
    for feature in moved:
        by_time.setdefault(alarm.features.get(feature.feature, alarm.since), []).append(feature.feature)
    (since, names), *others = by_time.items()
    return " and ".join(
        [f"{_listed(names)} changed since {day(since)}", *(f"{_listed(n)} since {day(at)}" for at, n in others)]
    )


def _listed(names: Sequence[str]) -> str:
    named = list(names) if len(names) <= NAMED else [*names[: NAMED - 1], f"{len(names) - NAMED + 1} more"]
    return " and ".join(filter(None, [", ".join(named[:-1]), named[-1]]))


def _matters(moved: Sequence[FeatureDrift], version: str) -> str:
    known = {feature.feature: feature.importance for feature in moved if feature.importance is not None}
    if not known:
        return ""
    most = max(known, key=lambda name: known[name])
    if not known[most]:
        return f" ({version} does not use {'it' if len(moved) == 1 else 'them'})"
    return f" ({most} matters most to {version})" if len(moved) > 1 else ""


def _answers(quality: LiveQuality, limits: Monitor) -> str:
    drop = dropped_by(quality)
    if drop is None or quality.value is None:
        return (
            f"whether answers got worse is not known: {quality.labelled:,} of {quality.predictions:,} predictions have "
            f"labels, {limits.labelled_rows:,} required"
        )
    surely = got_worse(quality, limits.quality_drop)
    worse = "answers got worse" if surely else "answers did not get worse"
    if surely is None:
        worse = "whether answers got worse is not sure"
    elif 0 < drop <= limits.quality_drop:
        worse += " by more than monitor.quality_drop"
    metric = quality.metric
    return (
        f"{worse}: {metric} {shown(metric, quality.value)}{_enclosed(quality)} on {quality.labelled:,} matured rows, "
        f"{shown(metric, quality.held_out)} at its gates"
    )


def _enclosed(quality: LiveQuality) -> str:
    if quality.low is not None and quality.high is not None:
        return f" ({shown(quality.metric, quality.low)} to {shown(quality.metric, quality.high)})"
    return f" (no interval: {quality.days} days of answers, {FEWEST_DAYS} required)" if quality.days is not None else ""


def _moved(drift: DriftVerdict, answers: AnswerShift | None) -> str:
    """What a change of the inputs did to the answers."""
    if answers is None or not drift.changed:
        return ""
    if answers.label:
        return f"; {answers.label!r:.40} is the likeliest class in {answers.now:.1%} of the answers, in {answers.before:.1%} of the held-out rows"
    return f"; the answers are {answers.now:.4g} on average, {answers.before:.4g} on the held-out rows"


def _estimate(quality: LiveQuality, estimated: EstimatedQuality | None) -> str:
    """What takes the place of labels that have not come."""
    if estimated is None or quality.value is not None:
        return ""
    metric = estimated.metric
    return (
        f"; by the inputs and the answers alone it would be {metric} {shown(metric, estimated.value)}, usually off by "
        f"{shown(metric, estimated.usual_error)}, where {shown(metric, quality.held_out)} was at its gates"
    )
