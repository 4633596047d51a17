"""Events, one class for each kind: its fields, how its body is written and read, and its sentence.

A body holds the class's fields; their names carry the units. Bodies that an older version wrote are read too: a missing
field gets its default, and a field that no longer exists is ignored. The timeline shows the events that have a sentence.
The events of a rollout are in rollout_events.py, those of decisions to retrain in decision_events.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, ClassVar, Self, dataclass_transform

from pipeline.data.label_delay import LabelDelay

FIRST, LATER_LABELS, REVISED = "first", "labels known at another as-of", "late or corrected rows"
# By another version of this project or of Arrow.
REWRITTEN = "the same rows written anew"
# Metadata of an optional field: None is written as null. Without it, a field that is None is left out of the body.
NULL = {"null": True}

KINDS: dict[str, type[Event]] = {}


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(field,))
@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened. A subclass with a `kind`, its name in the ledger, is a frozen dataclass of its body.

    The kind is the class's name in snake_case. A field without a default is required in every body, old ones included.
    """

    KIND: ClassVar[str] = ""
    # The names of its fields, and of those that are required: to ask for them each time takes longer than to read an event.
    NAMES: ClassVar[tuple[str, ...]] = ()
    REQUIRED: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, kind: str = "") -> None:
        dataclass(frozen=True, kw_only=True)(cls)
        cls.NAMES = tuple(f.name for f in fields(cls))
        cls.REQUIRED = tuple(f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING)
        cls.KIND = kind
        if kind in KINDS:
            raise ValueError(
                f"event kind {kind}: {KINDS[kind].__name__} has it already; choose another for {cls.__name__}"
            )
        if kind:
            KINDS[kind] = cls

    def body(self) -> dict[str, Any]:
        """The JSON object that the ledger stores."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        optional = {f.name for f in fields(self) if f.default is None and not f.metadata.get("null")}
        return {name: value for name, value in values.items() if value is not None or name not in optional}

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> Self:
        """The event with that body. Raises MissingField when the body lacks a required field."""
        missing = [name for name in cls.REQUIRED if name not in body]
        if missing:
            raise MissingField(", ".join(missing))
        return cls(**{name: body[name] for name in cls.NAMES if name in body})

    def sentence(self) -> str:
        """One line for a person; '' when the timeline does not show the event."""
        return ""


class MissingField(Exception):
    """A body lacks fields that its kind requires; str() names them."""


class UnknownEvent(Event):
    """An event whose kind this version of the code does not know. `values` is its body."""

    values: Mapping[str, Any]

    def body(self) -> dict[str, Any]:
        return dict(self.values)


class RunOpened(Event, kind="run_opened"):
    """`asked_by` is the person who started the run, None for a schedule, an event, or an older run."""

    as_of: str
    reason: str
    code_revision: str = ""
    uncommitted: bool = False
    asked_by: str | None = None

    def sentence(self) -> str:
        return f"run opened as of {self.as_of}: {self.reason}"


class StepStarted(Event, kind="step_started"):
    """An attempt of the step began. One without its `StepEnded` was killed."""


class StepEnded(Event, kind="step_ended"):
    """`state` is success, failed or skipped, or waiting for a step that parked until a person answers. The measures include the step's
    subprocesses; `peak_mb` is in MiB. `energy_j` is left out where the machine has no meter of it."""

    state: str
    wall_s: float
    cpu_s: float
    peak_mb: float
    error: str = ""
    energy_j: float | None = None


class DataLanded(Event, kind="data_landed"):
    """`landed` is {file name: {"md5", "rows", "delta_rows", "view_of", "why"}} of the new partitions.

    See pipeline.ledger.data_revisions.LandedPartition. `remote` is None when the project has no DVC remote. `label_delay_s` is of
    pipeline.data.label_delay.LabelDelay, {"median", "p95"}, and None for a source without label times.
    """

    data_version: str
    as_of: str
    partitions: int
    landed: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    remote: str | None = field(default=None, metadata=NULL)
    pushed_files: int = 0
    pushed_bytes: int = 0
    label_delay_s: Mapping[str, Any] | None = None

    def sentence(self) -> str:
        moved = f"{self.pushed_bytes:,} bytes pushed" if self.remote else "no remote to push to"
        revised = sum(partition.get("why") == REVISED for partition in self.landed.values())
        new = f"{len(self.landed)} new" + (f", {revised} of them with {REVISED}" if revised else "")
        delay = LabelDelay.read(self.label_delay_s)
        labels = f"; {delay}" if delay is not None else ""
        return f"data {self.data_version[:12]}: {self.partitions} partitions, {new}; {moved}{labels}"


class StageKept(Event, kind="stage_kept"):
    """The files of a stage were pushed for the next worker. `lock` is the text of the run's dvc.lock after the stage."""

    stage: str
    lock: str
    pushed_files: int = 0
    pushed_bytes: int = 0


class GatesChecked(Event, kind="gates_checked"):
    """`verdicts` are of pipeline.gates.base.Verdict, as dicts. Of the run's snapshot as of `as_of`, `quarantined_a_day` has (rows in
    quarantine, all labelled rows) of each partition; None of an older run."""

    verdicts: Sequence[Mapping[str, Any]]
    as_of: str | None = None
    quarantined_a_day: Mapping[str, Sequence[int]] | None = None

    def sentence(self) -> str:
        missed = [verdict for verdict in self.verdicts if not verdict["passed"]]
        warned = [verdict["gate"] for verdict in missed if verdict.get("mode") == "warn"]
        failed = [verdict["gate"] for verdict in missed if verdict["gate"] not in warned]
        unjudged = [each["gate"] for each in self.verdicts if each["passed"] and not each.get("judged", True)]
        outcome = f"failed: {', '.join(failed)}" if failed else "none failed" if warned or unjudged else "all passed"
        outcome += f"; warned: {', '.join(warned)}" if warned else ""
        outcome += f"; no verdict: {', '.join(unjudged)}" if unjudged else ""
        return f"gates: {len(self.verdicts)} checked, {outcome}"


class VersionRegistered(Event, kind="version_registered"):
    """`logged_bytes` is the size of what was logged to MLflow for it, left out where MLflow did not say."""

    version: str
    mlflow_run: str
    data_version: str
    as_of: str
    code_revision: str = ""
    alias: str = ""
    logged_bytes: int | None = None

    def sentence(self) -> str:
        return f"version {self.version} registered from data {self.data_version[:12]}"


class RunSettled(Event, kind="run_settled"):
    """`cost` is in `currency`."""

    outcome: str = ""
    cost: float = 0.0
    currency: str = ""

    def sentence(self) -> str:
        return f"run ended: {self.outcome}"


class DriftChecked(Event, kind="drift_checked"):
    """`features` are of pipeline.monitoring.drift.DriftVerdict, `receipt` is a pipeline.policy.retrain.Receipt, as dicts.

    `asked_outside_window` counts the logged requests that are not in the checked window, `damaged_log_files` the files of the prediction
    log whose rows were left out, `without_event_time` the requests in the window that named none and count by their receipt; None of an
    older check. `notes` are lines about labels that do not come in time. `limits` says what the limits are made of, and whether they are
    proven. `report` is a path. `alarm` is a pipeline.policy.alarms.Alarm as a dict, left out where there is none.
    `said` is the whole of it in one sentence. `estimated` is a pipeline.monitoring.estimated_quality.EstimatedQuality as a dict, and
    `answers` an answer_shift.AnswerShift, left out where there is none; `skew` is a pipeline.monitoring.skew.Skew, of an alarm alone,
    and `data` a pipeline.monitoring.data_quality.DataQuality; `quarantine` is a quarantine_rates.QuarantineRates and `source` a
    source_volume.SourceVolume, both left out where no run tells;
    `slices` are slice_drift.SliceDrifts, without monitor.slices left out.
    """

    verdict: str
    reason: str
    champion: str
    as_of: str
    window_start: str = ""
    rows_before: int = 0
    rows_now: int = 0
    features: Sequence[Mapping[str, Any]] = ()
    moved: Sequence[str] = ()
    live_quality: Mapping[str, Any] | None = None
    asked_outside_window: int = 0
    damaged_log_files: int | None = None
    notes: Sequence[str] | None = None
    without_event_time: int | None = None
    receipt: Mapping[str, Any] | None = None
    decision: str = ""
    report: str | None = field(default=None, metadata=NULL)
    limits: str | None = None
    alarm: Mapping[str, Any] | None = None
    said: str | None = None
    estimated: Mapping[str, Any] | None = None
    answers: Mapping[str, Any] | None = None
    skew: Mapping[str, Any] | None = None
    data: Mapping[str, Any] | None = None
    quarantine: Mapping[str, Any] | None = None
    source: Mapping[str, Any] | None = None
    slices: Sequence[Mapping[str, Any]] | None = None

    def sentence(self) -> str:
        if self.said:
            return self.said
        return f"{self.verdict}: {self.reason}" + (f" ({self.limits})" if self.limits else "")


class RetrainAsked(Event, kind="retrain_asked"):
    """The look as of `as_of` asked for a retrain because of the alarm since `since`. One alarm asks for one."""

    since: str
    as_of: str
    reason: str

    def sentence(self) -> str:
        return f"retrain asked for as of {self.as_of}: {self.reason}"


class IntervalScored(Event, kind="interval_scored"):
    """The rows of [interval_start, interval_end) were scored by one version and are at the destination: `rows_in` = `scored` + `refused`.

    `without_event_time` further rows belong to no interval. `cost` is in `currency`.
    """

    interval_start: str
    interval_end: str
    version: str
    destination: str
    rows_in: int
    scored: int
    refused: int
    digest: str = ""
    first_reason: str = ""
    without_event_time: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    cost: float = 0.0
    currency: str = ""

    def sentence(self) -> str:
        interval = f"{self.interval_start} to {self.interval_end}"
        if not self.rows_in:
            return f"interval {interval}: no rows to score; {self.destination} has none for it"
        why = f" (the first: {self.first_reason})" if self.first_reason else ""
        return (
            f"interval {interval}: {self.rows_in:,} rows in = {self.scored:,} scored with version {self.version} + "
            f"{self.refused:,} refused{why}, to {self.destination}"
        )


class ChampionTold(Event, kind="champion_told"):
    """The asset `champion__MODEL` was emitted for the version that the event number `move` brought live."""

    version: str
    move: int
    digest: str = ""


class Watched(Event, kind="watched"):
    """Champion and predecessor were compared on labelled rows. `excess` and `low` are differences of losses from 0 to 1."""

    decision: str
    reason: str
    champion: str
    predecessor: str
    as_of: str
    rows: int = 0
    excess: float | None = field(default=None, metadata=NULL)
    low: float | None = field(default=None, metadata=NULL)

    def sentence(self) -> str:
        return f"watch of version {self.champion} says {self.decision}: {self.reason}"


class LedgerVerified(Event, kind="ledger_verified"):
    """The ledger was read as a whole, `events` rows of it, and compared with `anchors` heads outside it. `broken_at` is the first row that
    breaks the chain, `since` when this trouble was first found, left out at that time."""

    intact: bool
    events: int
    anchors: int = 0
    problem: str = ""
    notes: Sequence[str] = ()
    broken_at: int | None = None
    since: str | None = None

    def sentence(self) -> str:
        found = "the chain is intact" if self.intact else self.problem
        return f"ledger verified: {self.events:,} events, {self.anchors} anchors; {'; '.join([found, *self.notes])}"


class AnchorsAccepted(Event, kind="anchors_accepted"):
    """A person restored an older ledger on purpose: the heads `anchors` outside it are no longer compared with it."""

    reason: str
    anchors: Sequence[str]

    def sentence(self) -> str:
        return f"{len(self.anchors)} anchors that the ledger does not agree with were accepted: {self.reason}"


class DeployerCalled(Event, kind="deployer_called"):
    """The body holds `arguments` beside `verb`, not below a key of their own."""

    verb: str
    arguments: Mapping[str, Any]

    def body(self) -> dict[str, Any]:
        return {"verb": self.verb, **self.arguments}

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> Self:
        if "verb" not in body:
            raise MissingField("verb")
        return cls(verb=body["verb"], arguments={name: value for name, value in body.items() if name != "verb"})


class DeployerAnswered(Event, kind="deployer_answered"):
    """The call of `verb` before it came to an end: `outcome` is what was done, or the error."""

    verb: str
    outcome: str


class DeployerRefused(Event, kind="deployer_refused"):
    """`unwritten_before` counts the refusals since the last one that the ledger has: a flood of calls must not fill it."""

    verb: str
    why: str
    unwritten_before: int = 0


def timeline_kinds() -> list[type[Event]]:
    """The events that have a sentence."""
    return [kind for kind in KINDS.values() if kind.sentence is not Event.sentence]
