"""Who or what did each registration, approval, rollout, rollback, override and settings change of a model, and on which evidence.

All of it is read from the ledger, whose chain `verify` checks. For one prediction the log names the version that answered.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import sqlalchemy as sa

from pipeline.context import Context
from pipeline.deployer import traffic
from pipeline.errors import DataError, SettingsError
from pipeline.ledger.approval_events import (
    ApprovalAsked,
    Approved,
    DeployRefused,
    OtherImage,
    Rejected,
    SettingsChanged,
)
from pipeline.ledger.events import AnchorsAccepted, Event, GatesChecked, RunOpened, VersionRegistered
from pipeline.ledger.freeze_events import Frozen, Unfrozen
from pipeline.ledger.in_parts import in_parts
from pipeline.ledger.rollout_events import (
    MOVES,
    OPENINGS,
    SCHEMA_ACCEPTED,
    AbortAsked,
    Move,
    Opening,
    RollbackStarted,
    RolledBack,
    RolloutEnded,
    RolloutFailed,
    RolloutStarted,
    SettingsApplied,
    ShadowEnded,
    SlotReady,
    Undeployed,
)
from pipeline.ledger.store import EVENTS, Entry, Ledger
from pipeline.monitoring.answered_by import AnsweredBy
from pipeline.settings.models import time_of

Kind = Literal["registration", "approval", "rollout", "rollback", "override", "settings"]
KINDS: tuple[Kind, ...] = get_args(Kind)

OF_KIND: Mapping[type[Event], Kind] = {
    VersionRegistered: "registration",
    ApprovalAsked: "approval",
    Approved: "approval",
    Rejected: "approval",
    DeployRefused: "rollout",
    OtherImage: "rollout",
    RolloutStarted: "rollout",
    RolloutEnded: "rollout",
    RolloutFailed: "rollout",
    ShadowEnded: "rollout",
    Undeployed: "rollout",
    RollbackStarted: "rollback",
    RolledBack: "rollback",
    AbortAsked: "rollback",
    AnchorsAccepted: "override",
    SettingsChanged: "settings",
    SettingsApplied: "settings",
    Frozen: "settings",
    Unfrozen: "settings",
}
# Of these events the audit has what was overridden, beside what they are.
MAY_OVERRIDE = (GatesChecked, RolloutStarted)
BY_KIND = {cls.KIND: kind for cls, kind in OF_KIND.items()}
OVERRIDING, OPENED = {cls.KIND for cls in MAY_OVERRIDE}, {cls.KIND for cls in OPENINGS}
# These have a line, or a line rests on them. Most of a ledger are steps and looks, which are none of them.
READ = tuple(dict.fromkeys((*OF_KIND, *MAY_OVERRIDE, *OPENINGS, RunOpened)))
READ_KINDS = [cls.KIND for cls in READ if issubclass(cls, Event)]
# No person: a schedule, an event of an asset or an alert began the run, or the monitor and the keepers of this machine acted.
ITSELF = "by itself"


@dataclass(frozen=True)
class AuditLine:
    """One thing that was done. `who` is a person, or what acted; `evidence` are numbers and digests that prove it, `event` and `hash` of
    the ledger's row first."""

    at: str
    kind: Kind
    version: str
    who: str
    what: str
    run: str
    evidence: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def audit(ledger: Ledger, model: str, kind: str = "") -> list[AuditLine]:
    """The lines of a model, in the order in which they happened; of one kind, or of all. Raises SettingsError for an unknown kind."""
    return list(audit_in_parts(ledger, model, kind))


def audit_in_parts(ledger: Ledger, model: str, kind: str = "") -> Iterator[AuditLine]:
    """The same, read as it is asked for. Raises SettingsError at once, LedgerError where it cannot be read."""
    check_kind(kind)
    own = sa.and_(EVENTS.c.kind.in_(READ_KINDS), EVENTS.c.model == model)
    entries = in_parts(ledger, sa.or_(own, EVENTS.c.kind == AnchorsAccepted.KIND))
    return (line for line in _each_line(entries, None) if kind in ("", line.kind))


def check_kind(kind: str) -> None:
    """Raises SettingsError for an unknown kind; '' is any."""
    if kind and kind not in KINDS:
        raise SettingsError(f"kind {kind}", "is not known", f"must be one of {', '.join(KINDS)}")


def lines_of(entries: Iterable[Entry[Any]], wanted: Collection[int] | None = None) -> list[AuditLine]:
    """The lines of those entries whose numbers are `wanted`, None for all; the others are what these rest on. In the order of their numbers."""
    return list(_each_line(entries, wanted))


def _each_line(entries: Iterable[Entry[Any]], wanted: Collection[int] | None) -> Iterator[AuditLine]:
    past = _Past()
    for entry in entries:
        past.see(entry)
        if wanted is None or entry.seq in wanted:
            yield from _lines(entry, past)


class _Past:
    """What came before an event that it rests on: who started its run or rollout, its gates, its approval."""

    def __init__(self) -> None:
        self.runs: dict[str, str] = {}
        self.rollouts: dict[int | None, Opening] = {}
        self.gates: dict[str, int] = {}
        self.as_of: dict[str, str] = {}
        self.approvals: dict[str, Entry[Approved]] = {}

    def see(self, entry: Entry[Any]) -> None:
        kind = entry.kind
        if kind == RunOpened.KIND:
            self.runs[entry.run] = entry.event.asked_by or ""
        elif kind == GatesChecked.KIND:
            self.gates[entry.run] = entry.seq
        elif kind == VersionRegistered.KIND:
            self.as_of[entry.event.version] = entry.event.as_of
        elif kind == Approved.KIND:
            self.approvals[entry.event.version] = entry
        elif kind == Rejected.KIND:
            self.approvals.pop(entry.event.version, None)
        elif kind in OPENED:
            self.rollouts[entry.event.rollout] = entry.event

    def who(self, entry: Entry[Any]) -> str:
        event = entry.event
        token = getattr(event, "rollout", None)
        opening = self.rollouts.get(token) if token is not None else None
        named = getattr(event, "by", "") or getattr(event, "asked_by", "") or (opening.asked_by if opening else "")
        return named or self.runs.get(entry.run, "") or ITSELF


def _lines(entry: Entry[Any], past: _Past) -> list[AuditLine]:
    lines = []
    if entry.kind in BY_KIND:
        event = entry.event
        what = event.what_changed() if isinstance(event, SettingsChanged) else event.sentence()
        lines.append(_line(entry, BY_KIND[entry.kind], what, past))
    if entry.kind in OVERRIDING:
        lines += [_line(entry, "override", what, past) for what in _overridden(entry, past)]
    return lines


def _line(entry: Entry[Any], kind: Kind, what: str, past: _Past) -> AuditLine:
    event = entry.event
    evidence = {"event": entry.seq, "hash": entry.hash, **_evidence(event, entry.run, past)}
    return AuditLine(entry.at, kind, getattr(event, "version", ""), past.who(entry), what, entry.run, evidence)


def _overridden(entry: Entry[Any], past: _Past) -> list[str]:
    """What would have stopped the version, and did not."""
    event = entry.event
    if isinstance(event, RolloutStarted):
        _, accepted, columns = event.reason.partition(f"{SCHEMA_ACCEPTED}: ")
        changed = [f"version {event.version}: {SCHEMA_ACCEPTED}: {columns}"] if accepted else []
        mine, theirs = past.as_of.get(event.version), past.as_of.get(event.before or "")
        # A run never puts an older version over a younger one (pipeline.rollout.precedence); a person may, by name.
        if entry.run or not mine or not theirs or time_of(mine) >= time_of(theirs):
            return changed
        by_name = f"version {event.version}, as of {mine}, by name over version {event.before}, as of {theirs}"
        return [*changed, by_name]
    assert isinstance(event, GatesChecked)
    # A gate that warns by itself would have stopped nothing; an older event does not say whose mode it was.
    return [
        f"gate {verdict['gate']} failed and only warns (gates.modes): {verdict.get('reason', '')}"
        for verdict in event.verdicts
        if verdict.get("mode") == "warn" and not verdict["passed"] and verdict.get("mode_is_set", True)
    ]


def _evidence(event: Event, run: str, past: _Past) -> dict[str, Any]:
    for cls, found in EVIDENCE:
        if isinstance(event, cls):
            values = found(event, run, past)
            return {name: value for name, value in values.items() if value not in (None, "", {}, ())}
    return {}


def _of_registration(event: VersionRegistered, run: str, past: _Past) -> dict[str, Any]:
    return {
        "data_version": event.data_version,
        "as_of": event.as_of,
        "code_revision": event.code_revision,
        "mlflow_run": event.mlflow_run,
        "gates_event": past.gates.get(run),
    }


def _of_approval(event: Approved | ApprovalAsked, run: str, past: _Past) -> dict[str, Any]:
    return {"digest": event.digest, **event.parts, "through": event.through, "note": getattr(event, "note", "")}


def _of_rollout(event: RolloutStarted | Move, run: str, past: _Past) -> dict[str, Any]:
    """The package, and for a rollout the approval that it went by. A rollback goes back to what was live, and needs none."""
    approved = None if isinstance(event, RolledBack) else past.approvals.get(event.version)
    by = {"approval_event": approved.seq, "approved_by": approved.event.by} if approved is not None else {}
    return {"package": event.digest, **by}


EVIDENCE: tuple[tuple[type | tuple[type, ...], Callable[[Any, str, _Past], dict[str, Any]]], ...] = (
    (VersionRegistered, _of_registration),
    ((Approved, ApprovalAsked), _of_approval),
    ((RolloutStarted, *MOVES), _of_rollout),
    (RollbackStarted, lambda event, run, past: {"package": event.digest, "left": event.left}),
    (DeployRefused, lambda event, run, past: {"changed": list(event.changed)}),
    (OtherImage, lambda event, run, past: {"image": event.image, "approved_image": event.approved}),
    (
        SettingsChanged,
        lambda event, run, past: {
            "settings_digest": event.digest,
            "changed": dict(event.changed),
            "params_author": event.author,
            "params_commit": event.code_revision,
        },
    ),
    (GatesChecked, lambda event, run, past: {"as_of": event.as_of}),
)


@dataclass(frozen=True)
class AuditedRequest:
    """One answer: which version gave it, from which package, trained on which data by which run, and who approved that package.

    `approved` is the approval's event, None when the version went live without one. `other_image` is the event that says that the slot ran
    by another serving image than the approved one, None when it did not.
    """

    answered: AnsweredBy
    package: str
    registered: Mapping[str, Any] | None
    approved: Mapping[str, Any] | None
    other_image: Mapping[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        return {**self.answered.as_dict(), "package": self.package, "registered": self.registered} | {
            "approved": self.approved,
            "other_image": self.other_image,
        }


def request(context: Context, request_id: str, model: str = "") -> list[AuditedRequest]:
    """What is known of a request's answers. Raises DataError when no prediction log has the request."""
    found = traffic(context).answered(model, request_id)
    if not found:
        observed = f"is in no prediction log{f' of {model}' if model else ''}"
        check = "give the answer's header x-request-id; a row is logged within a second, and kept while its file is"
        raise DataError(f"request {request_id}", observed, check)
    return [_audited(context.ledger, answered) for answered in found]


def _audited(ledger: Ledger, answered: AnsweredBy) -> AuditedRequest:
    """By what the ledger had when the request came: a number of the registry can come to name another package."""
    model, version, until = answered.model, answered.version, answered.received_at
    started: list[Entry[Any]] = ledger.events(RolloutStarted, RollbackStarted, *MOVES, model=model, until=until)
    moved = [entry for entry in started if entry.event.version == version and entry.event.digest]
    package = moved[-1].event.digest if moved else ""
    registered = [e for e in ledger.events(VersionRegistered, model=model, until=until) if e.event.version == version]
    approvals = [
        entry
        for entry in ledger.events(Approved, model=model, until=until)
        if entry.event.version == version and package in ("", entry.event.parts.get("package", ""))
    ]
    # What was said of the slot last, before the request came: that it started, or that it started by another image.
    slots: list[Entry[Any]] = ledger.events(SlotReady, OtherImage, model=model, until=until)
    last = [entry for entry in slots if entry.event.slot == answered.slot][-1:]
    other = [entry for entry in last if entry.kind == OtherImage.KIND and entry.event.version == version]
    return AuditedRequest(answered, package, _body(registered), _body(approvals), _body(other))


def _body(entries: list[Entry[Any]]) -> dict[str, Any] | None:
    """The newest event's body with its time, run and place in the ledger; None without one."""
    if not entries:
        return None
    entry = entries[-1]
    body = {name: value for name, value in entry.body.items() if name not in ("files", "alias")}
    return {"at": entry.at, "run": entry.run, "event": entry.seq, "hash": entry.hash, **body}
