"""The newest lines of a model's audit, of a ledger of years: they are those of `audit`, and most of its events are not read.

What a line rests on may have happened long before it: its run's start and gates, its rollout's opening, the approvals and as-ofs of its
version. These are asked for by run, token and version, and are seen in their order before it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from pipeline.ledger.approval_events import Approved, Rejected
from pipeline.ledger.columns import holds, number, text
from pipeline.ledger.events import AnchorsAccepted, Event, GatesChecked, RunOpened, VersionRegistered
from pipeline.ledger.rollout_events import MOVES, SCHEMA_ACCEPTED, RolloutStarted
from pipeline.ledger.store import EVENTS, Entry, Ledger
from pipeline.runs.audit import BY_KIND, KINDS, MAY_OVERRIDE, OF_KIND, OPENED, AuditLine, check_kind, lines_of

# A database takes so many values in one query.
AT_ONCE = 500
WARNS = '"mode":"warn"'


@dataclass(frozen=True)
class NewestLines:
    """`lines` in the order in which they happened; `counts` has by kind how many there are in all. `older` lines are left out before them, and
    `before` is the number of the first event of these."""

    lines: Sequence[AuditLine]
    counts: dict[str, int]
    older: bool

    @property
    def before(self) -> int:
        return int(self.lines[0].evidence["event"]) if self.lines else 0


def newest_lines(ledger: Ledger, model: str, kind: str, count: int, before: int = 0) -> NewestLines:
    """The last `count` lines, a few more where an event has several; before the event number `before`, where it is given. Raises SettingsError
    as `audit` does."""
    check_kind(kind)
    with ledger.reading():
        overrides = _lines(ledger, model, "override", 0, 0)
        counts = _counts(ledger, model) | {"override": len(overrides)}
        found = overrides if kind == "override" else _lines(ledger, model, kind, count + 1, before)
    if kind == "override" and before:
        found = [line for line in found if line.evidence["event"] < before]
    newest = _whole(found, count)
    return NewestLines(newest, {name: counts.get(name, 0) for name in KINDS}, len(newest) < len(found))


def _whole(lines: Sequence[AuditLine], count: int) -> Sequence[AuditLine]:
    """The last `count`, and the others of the first one's event."""
    if len(lines) <= count:
        return lines
    first = lines[-count].evidence["event"]
    return [line for line in lines if line.evidence["event"] >= first]


def _counts(ledger: Ledger, model: str) -> dict[str, int]:
    """How many lines each kind has, but for those that override."""
    kinds = [cls.KIND for cls in OF_KIND if cls is not AnchorsAccepted]
    counted = sa.select(EVENTS.c.kind, sa.func.count()).where(EVENTS.c.kind.in_(kinds), EVENTS.c.model == model)
    found: dict[str, int] = {}
    for name, events in ledger.rows(counted.group_by(EVENTS.c.kind)):
        found[BY_KIND[name]] = found.get(BY_KIND[name], 0) + int(events)
    return found


def _lines(ledger: Ledger, model: str, kind: str, count: int, before: int) -> list[AuditLine]:
    """At least `count` of the newest lines of the kind, 0 for all, as far as there are so many."""
    limit = count
    while True:
        wanted = _newest(ledger, model, kind, limit, before)
        entries = {entry.seq: entry for entry in (*_rested_on(ledger, model, wanted), *wanted)}
        lines = lines_of([entries[seq] for seq in sorted(entries)], {entry.seq for entry in wanted})
        lines = [line for line in lines if kind in ("", line.kind)]
        # A gate that only warns and passed has no line.
        if not limit or len(lines) >= count or len(wanted) < limit:
            return lines
        limit *= 2


def _newest(ledger: Ledger, model: str, kind: str, count: int, before: int) -> list[Entry[Any]]:
    """The last `count` events that have a line of the kind, 0 for all, and between them those that may override something."""
    earlier = EVENTS.c.seq < before if before else sa.true()
    own = [cls for cls, of in OF_KIND.items() if kind in ("", of) and cls is not AnchorsAccepted]
    each = [sa.and_(EVENTS.c.kind == cls.KIND, EVENTS.c.model == model, earlier) for cls in own]
    if kind in ("", "override"):
        each += [sa.and_(of, earlier) for of in _overriding(ledger, model)]
    found = [sa.select(EVENTS.c.seq).where(of).order_by(EVENTS.c.seq.desc()) for of in each]
    limited = [(query.limit(count) if count else query).subquery() for query in found]
    seqs = sa.union(*(sa.select(query.c.seq) for query in limited)).subquery()
    newest = sa.select(seqs.c.seq).order_by(seqs.c.seq.desc())
    return _entries(ledger, EVENTS.c.seq.in_(newest.limit(count) if count else newest))


def _overriding(ledger: Ledger, model: str) -> list[Any]:
    """What may override something, told without its JSON: gates that only warn, other columns that were accepted, and a person's rollout."""
    gates, started = (sa.and_(EVENTS.c.kind == cls.KIND, EVENTS.c.model == model) for cls in MAY_OVERRIDE)
    accepted = sa.or_(EVENTS.c.run.concat("") == "", holds(ledger, SCHEMA_ACCEPTED))
    anchors = EVENTS.c.kind == AnchorsAccepted.KIND
    return [sa.and_(gates, holds(ledger, WARNS)), sa.and_(started, accepted), anchors]


def _rested_on(ledger: Ledger, model: str, wanted: Sequence[Entry[Any]]) -> list[Entry[Any]]:
    """The events of before that say who did them, and what proves them."""
    runs = {entry.run for entry in wanted if entry.run}
    events = [entry.event for entry in wanted if entry.kind != GatesChecked.KIND]
    tokens = {token for event in events if (token := getattr(event, "rollout", None)) is not None}
    moved = {event.version for event in events if isinstance(event, (RolloutStarted, *MOVES))}
    started = [entry.event for entry in wanted if entry.kind == RolloutStarted.KIND and not entry.run]
    by_name = {version for event in started for version in (event.version, event.before or "")}
    version = text(ledger, "version")
    found = _asked(ledger, "", (RunOpened, GatesChecked), EVENTS.c.run, runs)
    found += _asked(ledger, model, OPENED, number(ledger, "rollout"), tokens)
    found += _asked(ledger, model, (Approved, Rejected), version, moved)
    return found + _asked(ledger, model, (VersionRegistered,), version, by_name)


def _asked(
    ledger: Ledger, model: str, kinds: Collection[type[Event] | str], column: Any, values: Collection[Any]
) -> list[Entry[Any]]:
    """The events of those kinds in which the column has one of the values; of all models (''), by the index of the column."""
    names, ordered = [kind if isinstance(kind, str) else kind.KIND for kind in kinds], sorted(values)
    of = sa.and_(EVENTS.c.kind.in_(names), EVENTS.c.model == model) if model else EVENTS.c.kind.concat("").in_(names)
    batches = [ordered[start : start + AT_ONCE] for start in range(0, len(ordered), AT_ONCE)]
    return [entry for batch in batches for entry in _entries(ledger, sa.and_(of, column.in_(batch)))]


def _entries(ledger: Ledger, condition: Any) -> list[Entry[Any]]:
    # For the order of the index SQLite would read all that a model has.
    rows = ledger.rows(sa.select(EVENTS).where(condition).order_by(EVENTS.c.seq + 0))
    return [Entry(r.seq, r.at, r.model, r.run, r.step, r.kind, r.body, r.hash) for r in rows]
