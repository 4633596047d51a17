"""Events, one class for each kind: what is particular to it, how its body is written and read, and its sentence.

A body holds the class's fields; units are in their names. A body that an older version wrote is read too: a field that it lacks
has its default, a field that is gone is ignored. An event with a sentence is shown in a model's timeline. A rollout's
events are in rollout_events.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Self, dataclass_transform

FIRST, LATER_LABELS, REVISED = "first", "labels known at another as-of", "late or corrected rows"
# Metadata of an optional field that is written as null; without it, None is left out.
NULL = {"null": True}

KINDS: dict[str, type[Event]] = {}


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(field,))
@dataclass(frozen=True, kw_only=True)
class Event:
    """What happened. A subclass with a `kind` is a frozen dataclass of its body; the kind is its name in the ledger."""

    KIND: ClassVar[str] = ""

    def __init_subclass__(cls, kind: str = "") -> None:
        dataclass(frozen=True, kw_only=True)(cls)
        cls.KIND = kind
        if kind:
            KINDS[kind] = cls

    def body(self) -> dict[str, Any]:
        """What the ledger keeps of it. An optional field that is None is left out."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        optional = {f.name for f in fields(self) if f.default is None and not f.metadata.get("null")}
        return {name: value for name, value in values.items() if value is not None or name not in optional}

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> Self:
        """The event with that body. Raises TypeError when a field without a default is missing."""
        return cls(**{f.name: body[f.name] for f in fields(cls) if f.name in body})

    def sentence(self) -> str:
        """One line for a person; '' for what the timeline does not show."""
        return ""


class UnknownEvent(Event):
    """An event of a kind that this version does not know."""

    values: Mapping[str, Any]

    def body(self) -> dict[str, Any]:
        return dict(self.values)


class RunOpened(Event, kind="run_opened"):
    as_of: str
    reason: str
    code_revision: str = ""
    uncommitted: bool = False

    def sentence(self) -> str:
        return f"run opened as of {self.as_of}: {self.reason}"


class StepStarted(Event, kind="step_started"):
    pass


class StepEnded(Event, kind="step_ended"):
    """`state` is success, failed or skipped; a step's subprocesses are counted in."""

    state: str
    wall_s: float
    cpu_s: float
    peak_mb: float
    error: str = ""


class DataLanded(Event, kind="data_landed"):
    """`landed` is {file name: {"md5", "rows", "delta_rows", "view_of", "why"}} of the partitions that are new."""

    data_version: str
    as_of: str
    partitions: int
    landed: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    remote: str | None = field(default=None, metadata=NULL)
    pushed_files: int = 0
    pushed_bytes: int = 0

    def sentence(self) -> str:
        moved = f"{self.pushed_bytes:,} bytes pushed" if self.remote else "no remote to push to"
        revised = sum(partition.get("why") == REVISED for partition in self.landed.values())
        new = f"{len(self.landed)} new" + (f", {revised} of them with {REVISED}" if revised else "")
        return f"data {self.data_version[:12]}: {self.partitions} partitions, {new}; {moved}"


class StageKept(Event, kind="stage_kept"):
    """`lock` is the text of the run's dvc.lock after the stage."""

    stage: str
    lock: str
    pushed_files: int = 0
    pushed_bytes: int = 0


class GatesChecked(Event, kind="gates_checked"):
    """`verdicts` are those of pipeline.gates.base.Verdict, as dicts."""

    verdicts: Sequence[Mapping[str, Any]]

    def sentence(self) -> str:
        failed = [verdict["gate"] for verdict in self.verdicts if not verdict["passed"]]
        outcome = f"failed: {', '.join(failed)}" if failed else "all passed"
        return f"gates: {len(self.verdicts)} checked, {outcome}"


class VersionRegistered(Event, kind="version_registered"):
    version: str
    mlflow_run: str
    data_version: str
    as_of: str
    code_revision: str = ""
    alias: str = ""

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
    """`features` are those of pipeline.monitoring.drift.DriftVerdict, `receipt` of pipeline.policy.retrain.Receipt."""

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
    receipt: Mapping[str, Any] | None = None
    decision: str = ""
    report: str | None = field(default=None, metadata=NULL)

    def sentence(self) -> str:
        return f"{self.verdict}: {self.reason}"


class Watched(Event, kind="watched"):
    """`excess` and `low` are in units of the bounded loss, 0 to 1."""

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


class DeployerCalled(Event, kind="deployer_called"):
    verb: str
    arguments: Mapping[str, Any]

    def body(self) -> dict[str, Any]:
        return {"verb": self.verb, **self.arguments}

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> Self:
        return cls(verb=body["verb"], arguments={name: value for name, value in body.items() if name != "verb"})


class DeployerAnswered(Event, kind="deployer_answered"):
    verb: str
    outcome: str


class DeployerRefused(Event, kind="deployer_refused"):
    """`unwritten_before` refusals came since the last one that was written."""

    verb: str
    why: str
    unwritten_before: int = 0


def shown() -> list[type[Event]]:
    """The kinds that a timeline shows: those with a sentence."""
    return [kind for kind in KINDS.values() if kind.sentence is not Event.sentence]
