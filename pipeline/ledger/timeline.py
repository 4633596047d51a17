"""What happened to a model, and which version was live at a given time, as the ledger has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.ledger.events import timeline_kinds
from pipeline.ledger.rollout_events import MOVES, Move, RolledBack, Undeployed
from pipeline.ledger.store import Entry, Ledger


@dataclass(frozen=True)
class TimelineEvent:
    """One line of a timeline: `what` is the event's sentence, `details` its body.

    `earlier` is set when a clock was set back: an event before this one in the ledger has that later time.
    """

    at: str
    kind: str
    run: str
    what: str
    details: Mapping[str, Any]
    earlier: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Its fields; an empty body, and `earlier` where it is not set, are left out."""
        return {name: value for name, value in asdict(self).items() if name not in ("details", "earlier") or value}


@dataclass(frozen=True)
class LiveVersion:
    """A version with all traffic since `since` (UTC, ISO 8601); `digest` is its package's. Older events lack engine or digest."""

    version: str
    slot: str
    engine: str | None
    since: str
    digest: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class LivePeriod:
    """A version was live from `start` to `end` (UTC, ISO 8601); `end` is None while it is live."""

    start: str
    end: str | None

    def as_dict(self) -> dict[str, Any]:
        return {"from": self.start, "until": self.end}


def timeline(ledger: Ledger, model: str, until: str = "") -> list[TimelineEvent]:
    """The model's events that have a sentence, in the order in which they happened."""
    set_back = {step.seq: step.earlier for step in ledger.clock_steps()}
    return [
        TimelineEvent(entry.at, entry.kind, entry.run, entry.event.sentence(), entry.body, set_back.get(entry.seq, ""))
        for entry in ledger.events(*timeline_kinds(), model=model, until=until)
    ]


def live_at(ledger: Ledger, model: str, until: str = "") -> LiveVersion | None:
    """What was live at `until` (default: now); None when nothing was. The order is that of the events' numbers."""
    moves: list[Entry[Move | Undeployed]] = ledger.events(*MOVES, Undeployed, model=model, until=until)
    last = moves[-1] if moves else None
    if last is None or isinstance(last.event, Undeployed):
        return None
    return LiveVersion(last.event.version, last.event.slot, last.event.engine, last.at, last.event.digest or "")


def live_models(ledger: Ledger) -> list[str]:
    """The models of which a version is live, by the ledger."""
    return [model for model in sorted({move.model for move in ledger.events(*MOVES)}) if live_version(ledger, model)]


def live_version(ledger: Ledger, model: str) -> str:
    """The version that is live now; '' when none is."""
    live = live_at(ledger, model)
    return live.version if live is not None else ""


def trusted_predecessor(ledger: Ledger, model: str, version: str) -> str | None:
    """The newest version that was live before `version` and was not left by a rollback, or None.

    A version that was rolled back counts again once it is deployed again.
    """
    rolled_back = rolled_back_versions(ledger, model)
    others = [move.event.version for move in ledger.events(*MOVES, model=model) if move.event.version != version]
    return next((other for other in reversed(others) if other not in rolled_back), None)


def rolled_back_versions(ledger: Ledger, model: str) -> list[str]:
    """The versions that a rollback left and that were not deployed again since, the newest last."""
    rolled_back: dict[str, None] = {}
    for move in ledger.events(*MOVES, model=model):
        rolled_back.pop(move.event.version, None)
        if isinstance(move.event, RolledBack) and move.event.left:
            rolled_back.pop(move.event.left, None)
            rolled_back[move.event.left] = None
    return list(rolled_back)


def live_periods(ledger: Ledger, model: str, version: str) -> list[LivePeriod]:
    """When `version` was live, oldest first."""
    periods: list[LivePeriod] = []
    current, start = None, ""
    moves: list[Entry[Move | Undeployed]] = ledger.events(*MOVES, Undeployed, model=model)
    for move in moves:
        live = None if isinstance(move.event, Undeployed) else move.event.version
        if live == current:
            continue
        if current == version:
            periods.append(LivePeriod(start, move.at))
        current, start = live, move.at
    return [*periods, LivePeriod(start, None)] if current == version else periods
