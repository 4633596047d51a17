"""The drift check: compares live traffic with the champion's training data, and decides whether to retrain.

Drift is looked for in the newest window. Live quality takes a window of the same length that ends where the labels have matured: in the
newest one there would be the quick labels alone, or none.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.context import Context
from pipeline.deployer import traffic
from pipeline.deployer.window_profiles import reference_of_version, schema_of_version
from pipeline.errors import RegistryError
from pipeline.ledger.events import DriftChecked
from pipeline.ledger.timeline import LiveVersion, live_at
from pipeline.runs import label_maturity
from pipeline.serving.schema import Schema

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.monitoring.answer_shift import AnswerShift
    from pipeline.monitoring.data_quality import DataQuality
    from pipeline.monitoring.drift import DriftVerdict
    from pipeline.monitoring.estimated_quality import EstimatedQuality
    from pipeline.monitoring.live_quality import LiveQuality, LoggedPredictions
    from pipeline.monitoring.log_profiles import LoggedProfile
    from pipeline.monitoring.profiles.reference import Reference
    from pipeline.monitoring.quarantine_rates import QuarantineRates
    from pipeline.monitoring.skew import Skew
    from pipeline.monitoring.source_volume import SourceVolume
    from pipeline.policy.alarms import Alarm
    from pipeline.policy.retrain import Receipt

# All requests are counted; answers, their estimate and the pictures take at most about so many of them.
SAMPLE_ROWS = 100_000


@dataclass(frozen=True)
class DriftCheck:
    """The result of one check of the requests with event time in [window_start, as_of); `live_quality` says which it looked at.

    `asked_outside_window` counts the logged requests outside the window, `damaged_log_files` the files of the prediction log whose rows
    are left out, `without_event_time` those in it by their time of receipt; `report` is the page of its pictures (HTML), or None when too few
    rows were compared. `notes` say which spans of the settings labels do not reach, and when the champion's first labels are due. `alarm`
    is the one that goes on, or that this look ended; `estimated` what the metric of the window's answers is likely to be, before
    their labels come, and `answers` how they differ from those to the held-out rows; `skew` on which side a change of the inputs is, None without one; `data` is
    whether requests come as they used to, `quarantine` and `source` are of the source's newest partitions, and `said` is all of it in one sentence.
    """

    drift: DriftVerdict
    champion: str
    as_of: datetime
    window_start: datetime
    live_quality: LiveQuality
    asked_outside_window: int
    damaged_log_files: int
    receipt: Receipt
    report: Path | None
    notes: tuple[str, ...] = ()
    without_event_time: int = 0
    alarm: Alarm | None = None
    estimated: EstimatedQuality | None = None
    answers: AnswerShift | None = None
    skew: Skew | None = None
    data: DataQuality | None = None
    quarantine: QuarantineRates | None = None
    source: SourceVolume | None = None
    said: str = ""

    @property
    def data_lines(self) -> list[str]:
        """For people: what is to be told of the data beside its values."""
        told = list(self.data.lines) if self.data else []
        return told + [str(of) for of in (self.quarantine, self.source) if of]

    def as_dict(self) -> dict[str, Any]:
        return {
            **self.drift.as_dict(),
            "champion": self.champion,
            "as_of": self.as_of.isoformat(),
            "window_start": self.window_start.isoformat(),
            "live_quality": self.live_quality.as_dict(),
            "asked_outside_window": self.asked_outside_window,
            "damaged_log_files": self.damaged_log_files,
            "notes": list(self.notes),
            "without_event_time": self.without_event_time,
            "receipt": self.receipt.as_dict(),
            "decision": self.receipt.decision,
            "report": str(self.report) if self.report else None,
            "said": self.said,
            **({"alarm": self.alarm.as_dict()} if self.alarm else {}),
            **({"estimated": self.estimated.as_dict()} if self.estimated else {}),
            **({"answers": self.answers.as_dict()} if self.answers else {}),
            **({"skew": self.skew.as_dict()} if self.skew else {}),
            **({"data": self.data.as_dict()} if self.data else {}),
            **({"quarantine": self.quarantine.as_dict()} if self.quarantine else {}),
            **({"source": self.source.as_dict()} if self.source else {}),
        }


def check_drift(context: Context, run: str, name: str, as_of: datetime) -> DriftCheck:
    """Compares the requests and labels of the window that ends at `as_of` with the champion's training data.

    Writes the report, its JSON beside it, and a DriftChecked event. Raises RegistryError when the model has no champion.
    """
    seen = _seen(context, name, as_of)
    drift, skew = _drift(context, name, seen)
    quality, notes = _quality(context, name, seen)
    alarm, receipt = _decided(context, name, seen, drift, skew, quality)
    answers, estimated = _answers(context, name, seen)
    check = DriftCheck(
        drift=drift,
        champion=seen.live.version,
        as_of=as_of,
        window_start=seen.start,
        live_quality=quality,
        asked_outside_window=seen.counted.logged - seen.counted.profile.rows,
        damaged_log_files=seen.log.damaged_files,
        receipt=receipt,
        report=None,
        notes=notes,
        without_event_time=seen.counted.without_event_time,
        alarm=alarm,
        estimated=estimated,
        answers=answers,
        skew=skew,
    )
    return _written(context, run, name, seen, _with_data(context, name, seen, check))


@dataclass(frozen=True)
class _Seen:
    """What a look reads: the live version, what it learnt from, and its requests of [start, as_of).

    `against` is what they are compared with: of `reference` what has their hours, where they are of less than a day. `counted` has all of them and `log` about SAMPLE_ROWS; `sampled` says that these are a part.
    """

    live: LiveVersion
    reference: Reference
    against: Reference
    schema: Schema
    start: datetime
    as_of: datetime
    counted: LoggedProfile
    log: LoggedPredictions
    sampled: bool


def _seen(context: Context, name: str, as_of: datetime) -> _Seen:
    model = context.params.model(name)
    # By what is live: somebody can move the registry's alias.
    live = live_at(context.ledger, name)
    if live is None:
        raise RegistryError(
            f"model {name}", "has no champion to monitor", f"train one: `perennial retrain {name} --deploy`"
        )
    start = as_of - timedelta(days=model.monitor.window_days)
    counted = traffic(context).profile(name, live.version, live.digest, start, as_of)
    share = min(1.0, SAMPLE_ROWS / max(counted.profile.rows, 1))
    log = traffic(context).predictions(name, start, as_of, share)
    reference, schema = _reference(context, name, live), _schema(context, name, live)
    against = _of_window(context, name, live, reference, schema, as_of)
    return _Seen(live, reference, against, schema, start, as_of, counted, log, share < 1)


def _drift(context: Context, name: str, seen: _Seen) -> tuple[DriftVerdict, Skew | None]:
    """How the inputs moved, and on which side: of the source, or of serving alone."""
    from pipeline.runs import drift_by_rows, drift_compared, drift_skew

    live, reference, schema, requests, as_of = seen.live, seen.against, seen.schema, seen.log.rows, seen.as_of
    found = drift_by_rows.found(context, name, live, reference, requests, schema)
    drift = drift_compared.of_profile(context, name, reference, seen.counted.profile, requests, schema, as_of, found)
    named = [feature.feature for feature in drift.moved]

    def of_side(rows: pd.DataFrame) -> DriftVerdict:
        by_rows = drift_by_rows.found(context, name, live, reference, rows, schema)
        return by_rows.added_to(
            drift_compared.of_rows(context, name, reference, rows, schema, as_of, found.shared), named
        )

    return drift_skew.judged(context, name, drift, requests, schema, as_of, of_side)


def _quality(context: Context, name: str, seen: _Seen) -> tuple[LiveQuality, tuple[str, ...]]:
    """The live quality of the newest window whose labels have matured, and what is to be noted of labels."""
    mature = label_maturity.mature_after(context.params.model(name), label_maturity.measured(context, name, seen.as_of))
    known = seen.log.rows
    if mature or seen.sampled:
        known = traffic(context).predictions(name, seen.start - mature, seen.as_of - mature).rows
    quality = _live_quality(context, name, seen.live, known, seen.as_of - mature, seen.as_of)
    notes = [*label_maturity.unreached(context, name, seen.as_of)]
    if quality.value is None:
        notes += _labels_due(seen.live, mature, seen.as_of)
    return quality, tuple(notes)


def _decided(
    context: Context, name: str, seen: _Seen, drift: DriftVerdict, skew: Skew | None, quality: LiveQuality
) -> tuple[Alarm | None, Receipt]:
    """The alarm after this look, and what it asks for by itself."""
    from pipeline.policy import retrain as retrain_policy
    from pipeline.policy.alarms import Look
    from pipeline.runs import drift_alarm

    monitor = context.params.model(name).monitor
    moved = {feature.feature: feature.shape for feature in drift.moved} if drift.changed else {}
    worse = retrain_policy.worse(quality, monitor)
    trained_on = drift_alarm.learnt_by(context.ledger, name, seen.live, seen.reference)
    base = {feature.feature: feature.base for feature in drift.moved if feature.base}
    look = Look(seen.start, seen.as_of, drift.verdict, moved, worse, trained_on, base, drift.unjudged)
    alarm, standing = drift_alarm.alarm_of(context.ledger, name, look)
    since = alarm.start if alarm is not None else ""
    return alarm, retrain_policy.decide(drift, quality, monitor, standing, skew, since)


def _with_data(context: Context, name: str, seen: _Seen, check: DriftCheck) -> DriftCheck:
    """The check with whether requests and the source's rows come as they used to, and with its sentence."""
    from pipeline.policy.drift_sentence import drift_sentence
    from pipeline.runs import data_check

    data = data_check.judged(context, name, seen.log.quality, len(seen.log.rows), seen.as_of)
    said = drift_sentence(
        check.drift,
        check.alarm,
        check.live_quality,
        context.params.model(name).monitor,
        f"{name} {seen.live.version}",
        check.estimated,
        check.answers,
        check.skew,
        data,
    )
    quarantine = data_check.quarantine(context, name, seen.as_of)
    source = data_check.source(context, name, seen.as_of)
    return replace(check, data=data, quarantine=quarantine, source=source, said=said)


def _written(context: Context, run: str, name: str, seen: _Seen, check: DriftCheck) -> DriftCheck:
    """The check with its page; page, JSON and event are written."""
    from pipeline.monitoring.drift_page import Sides
    from pipeline.runs import drift_report

    live, as_of = seen.live, seen.as_of
    names = f"what {name} {live.version} learnt from", f"Requests from {seen.start:%Y-%m-%d} to {as_of:%Y-%m-%d}"
    sides = Sides(seen.against, seen.counted.profile, *names, _classes(context, name, live))
    shown = drift_report.Shown(
        as_of, check.drift, check.said, sides, seen.log.rows, seen.schema, check.skew, check.data_lines
    )
    check = replace(check, report=drift_report.write(context, name, live, shown))
    context.ledger.append(DriftChecked.read(check.as_dict()), name, run)
    file = drift_report.page_file(context, name, as_of, live.version).with_suffix(".json")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(check.as_dict(), indent=2) + "\n", encoding="utf-8")
    return check


def _reference(context: Context, name: str, champion: LiveVersion) -> Reference:
    from pipeline.monitoring import drift_reference

    schema = _schema(context, name, champion)
    whole = reference_of_version(context, name, champion.version, champion.digest, schema)
    return drift_reference.watched(whole, context.params.model(name))


def _of_window(
    context: Context, name: str, champion: LiveVersion, whole: Reference, schema: Schema, as_of: datetime
) -> Reference:
    """What the window is compared with: all that the version learnt from, or for a window of less than a day what has its hours."""
    import pandas as pd

    from pipeline.monitoring import drift_reference

    model = context.params.model(name)
    span = timedelta(days=model.monitor.window_days)
    if span >= timedelta(days=1) or not whole.timed:
        return whole
    sample = pd.read_parquet(context.registry.reference_file(name, champion.version, champion.digest))
    return drift_reference.of_hours(whole, sample, model, schema.doubles, as_of - span, as_of)


def _schema(context: Context, name: str, champion: LiveVersion) -> Schema:
    return schema_of_version(context, name, champion.version, champion.digest)


def _classes(context: Context, name: str, champion: LiveVersion) -> tuple[str, ...]:
    from pipeline.serving import contents

    package = contents.read(context.registry.package_folder(name, champion.version, champion.digest))
    return tuple(package.manifest.get("classes", ()))


def _labels_due(live: LiveVersion, mature: timedelta, as_of: datetime) -> list[str]:
    """That no label of the champion's own answers can have matured yet; nothing when some can, or where the past is looked at again."""
    since = datetime.fromisoformat(live.since)
    if not since <= as_of < since + mature:
        return []
    first = f"its first labels are due on {since + mature:%Y-%m-%d}"
    return [f"version {live.version} is live since {since:%Y-%m-%d}: {first}, so its live quality is not known yet"]


def _answers(context: Context, name: str, seen: _Seen) -> tuple[AnswerShift | None, EstimatedQuality | None]:
    """Of the champion's own answers in the newest window; None of a version from before either. A deployer of an earlier version counts no
    answers: then those in the log tell."""
    from pipeline.monitoring import answer_shift, estimated_quality, live_quality

    reference, counted = seen.reference, seen.counted
    if not reference.answers:
        return None, None
    answers = live_quality.answered_by(seen.log.rows, context.ledger, name, seen.live)
    classes = _classes(context, name, seen.live)
    found = None
    if reference.quality:
        known = estimated_quality.QualityModel.read(reference.quality)
        found = estimated_quality.estimated(answers, known, context.params.model(name), classes)
    shift = answer_shift.counted_shift(counted.profile, counted.answers, reference.answers, classes)
    return shift or answer_shift.shift(answers, reference.answers, classes), found


def _live_quality(
    context: Context, name: str, champion: LiveVersion, requests: pd.DataFrame, end: datetime, as_of: datetime
) -> LiveQuality:
    """The champion's metric on its own answers to rows of the window that ends at `end`, by the labels that are known at `as_of`."""
    from pipeline.monitoring import live_quality

    model = context.params.model(name)
    start = end - timedelta(days=model.monitor.window_days)
    metric = model.evaluation.metric
    held_out = context.registry.version_facts(name, champion.version, champion.digest).metrics
    answers = live_quality.answered_by(requests, context.ledger, name, champion)
    labels = (
        live_quality.labels(model, context.project, start, as_of, name, context.registry.key.log_key(), end)
        if len(answers)
        else live_quality.NO_LABELS
    )
    naive, classes = held_out.get(f"baseline_{metric}"), _classes(context, name, champion)
    found = live_quality.quality(answers, labels, model, held_out[metric], naive, classes)
    return replace(found, judged_from=start.isoformat(), judged_until=end.isoformat())
