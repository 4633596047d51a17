"""What happened to a model, and which version was live at a given time, as the ledger has it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from pipeline.errors import LedgerError
from pipeline.ledger.events import Event, timeline_kinds
from pipeline.ledger.package_of_version import PackageOfVersion
from pipeline.ledger.rollout_events import MOVES, Move, RolledBack, Undeployed
from pipeline.ledger.rollup_parts import MOVED
from pipeline.ledger.rollups import rolled_up
from pipeline.ledger.store import EVENTS, Entry, Ledger

# Among so many of the newest moves a predecessor is looked for, one after the other, and then among all.
MOVES_READ = (4, 20)


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
        return {name: value for name, value in vars(self).items() if name not in ("details", "earlier") or value}


@dataclass(frozen=True)
class LiveVersion:
    """A version with all traffic since `since` (UTC, ISO 8601); `digest` is its package's. Older events lack engine or digest."""

    version: str
    slot: str
    engine: str | None
    since: str
    digest: str = ""

    @property
    def package(self) -> PackageOfVersion:
        return PackageOfVersion(self.version, self.digest)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class LivePeriod:
    """A version was live from `start` to `end` (UTC, ISO 8601); `end` is None while it is live."""

    start: str
    end: str | None

    def as_dict(self) -> dict[str, Any]:
        return {"from": self.start, "until": self.end}


def timeline(ledger: Ledger, model: str, until: str = "", last: int = 0) -> list[TimelineEvent]:
    """The model's events that have a sentence, in the order in which they happened; with `last` only so many of the newest."""
    told = _told(ledger, model, until, last)
    steps = ledger.clock_steps(told[0].seq - 1, told[-1].seq) if told else []
    set_back = {step.seq: step.earlier for step in steps}
    return [
        TimelineEvent(entry.at, entry.kind, entry.run, entry.event.sentence(), entry.body, set_back.get(entry.seq, ""))
        for entry in told
    ]


def _told(ledger: Ledger, model: str, until: str, last: int) -> list[Entry[Event]]:
    if last and not until:
        return ledger.latest(*timeline_kinds(), model=model, count=last)
    if last:
        return _told_before(ledger, model, until, last)
    return ledger.events(*timeline_kinds(), model=model, until=until)[-last:]


def _told_before(ledger: Ledger, model: str, until: str, last: int) -> list[Entry[Event]]:
    """The last ones of those that `Ledger.events` gives up to `until`: of years only these are read."""
    later = ledger.rows(sa.select(EVENTS.c.seq).where(EVENTS.c.at > until).order_by(EVENTS.c.seq).limit(1))
    kinds = EVENTS.c.kind.in_([kind.KIND for kind in timeline_kinds()])
    query = sa.select(EVENTS).where(kinds, EVENTS.c.model == model)
    query = query.where(EVENTS.c.seq < later[0].seq) if later else query
    rows = ledger.rows(query.order_by(EVENTS.c.seq.desc()).limit(last))
    return [Entry(r.seq, r.at, r.model, r.run, r.step, r.kind, r.body, r.hash) for r in reversed(rows)]


def live_at(ledger: Ledger, model: str, until: str = "") -> LiveVersion | None:
    """What was live at `until` (default: now); None when nothing was. The order is that of the events' numbers."""
    moves: list[Entry[Move | Undeployed]]
    if until:
        moves = ledger.events(*MOVES, Undeployed, model=model, until=until)
    else:
        moves = ledger.last(*MOVES, Undeployed, model=model)
    last = moves[-1] if moves else None
    if last is None or isinstance(last.event, Undeployed):
        return None
    return LiveVersion(last.event.version, last.event.slot, last.event.engine, last.at, last.event.digest or "")


def live_models(ledger: Ledger) -> list[str]:
    """The models of which a version is live, by the ledger."""
    moves: list[Entry[Move | Undeployed]] = ledger.newest(*MOVES, Undeployed)
    return sorted(move.model for move in moves if not isinstance(move.event, Undeployed))


def live_version(ledger: Ledger, model: str) -> str:
    """The version that is live now; '' when none is."""
    live = live_at(ledger, model)
    return live.version if live is not None else ""


def trusted_predecessor(
    ledger: Ledger, model: str, live: PackageOfVersion, version: str = ""
) -> PackageOfVersion | None:
    """The newest package that was live before `live` and was not left by a rollback, or None; with `version` only of that number.

    A version that was rolled back counts again once it is deployed again.
    """
    # A package of the newest moves was last rolled back among them too, if ever. All are read where these do not have it.
    for count in MOVES_READ:
        newest: list[Entry[Move]] = ledger.last(*MOVES, model=model, count=count)
        found = _predecessor_in(newest, live, version)
        if found is not None or len(newest) < count:
            return found
    return _predecessor_in(ledger.events(*MOVES, model=model), live, version)


def _predecessor_in(moves: Sequence[Entry[Move]], live: PackageOfVersion, version: str) -> PackageOfVersion | None:
    rolled_back = _left_in(moves)
    for move in reversed(moves):
        package = _package(move.event)
        pulled = any(package.is_same(left) for left in rolled_back)
        if not pulled and not package.is_same(live) and version in ("", package.version):
            return package
    return None


def rolled_back_versions(ledger: Ledger, model: str) -> list[PackageOfVersion]:
    """What a rollback left and what was not deployed again since, the newest last."""
    return _left_in(ledger.events(*MOVES, model=model))


def _left_in(moves: Sequence[Entry[Move]]) -> list[PackageOfVersion]:
    rolled_back: list[PackageOfVersion] = []
    for move in moves:
        again = [_package(move.event)]
        if isinstance(move.event, RolledBack) and move.event.left:
            again.append(PackageOfVersion(move.event.left, move.event.left_digest or ""))
        rolled_back = [left for left in rolled_back if not any(left.is_same(package) for package in again)] + again[1:]
    return rolled_back


def number_is_its_own_since(ledger: Ledger, model: str, live: PackageOfVersion) -> str:
    """The time (ISO 8601) until which another package was live under this number; '' when none ever was."""
    since, other = "", False
    moves: list[Entry[Move | Undeployed]] = ledger.events(*MOVES, Undeployed, model=model)
    for move in moves:
        if other:
            since = move.at
        package = None if isinstance(move.event, Undeployed) else _package(move.event)
        other = package is not None and package.version == live.version and not package.is_same(live)
    return since


def _package(move: Move) -> PackageOfVersion:
    return PackageOfVersion(move.version, move.digest or "")


def live_periods(ledger: Ledger, model: str, version: str) -> list[LivePeriod]:
    """When `version` was live, oldest first."""
    return _periods(rolled_up(ledger, MOVED, model=model)[MOVED]).get(version, [])


def live_periods_of(ledger: Ledger, models: Collection[str]) -> dict[str, dict[str, list[LivePeriod]]]:
    """The same of all versions of the models, by model and version. Raises LedgerError."""
    rows: dict[str, list[Any]] = {model: [] for model in models}
    try:
        for row in rolled_up(ledger, MOVED)[MOVED]:
            if row[0] in rows:
                rows[row[0]].append(row)
    except LedgerError:
        # An event that cannot be read is the trouble of its own model.
        rows = {model: list(rolled_up(ledger, MOVED, model=model)[MOVED]) for model in models}
    return {model: _periods(moves) for model, moves in rows.items()}


def _periods(moves: Iterable[Any]) -> dict[str, list[LivePeriod]]:
    """By version, of one model's rows of MOVED."""
    found: dict[str, list[LivePeriod]] = {}
    current, start = None, ""
    for _, _, at, kind, _, moved, _, _ in moves:
        live = None if kind == Undeployed.KIND else moved
        if live == current:
            continue
        if current is not None:
            found.setdefault(current, []).append(LivePeriod(start, at))
        current, start = live, at
    if current is not None:
        found.setdefault(current, []).append(LivePeriod(start, None))
    return found
