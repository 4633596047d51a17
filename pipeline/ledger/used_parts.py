"""The parts of a roll-up about what a model takes by being there: of each slot one row a month, so that years of days stay short, and bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa

from pipeline.ledger.events import Event
from pipeline.ledger.store import EVENTS, Entry, Ledger
from pipeline.ledger.times import iso, ms_of
from pipeline.ledger.usage_events import BytesStored, SlotUsed

E = TypeVar("E", bound=Event)

USED, STORED = "used", "stored"
# So many places of a row name what it is of; the fourth of them is the month.
NAMED, MONTH = 5, 3


def used(ledger: Ledger, after: int, upto: int, model: str) -> list[list[Any]]:
    """[model, slot, version, month, whether it was a second slot, start and end in ms since 1970, ms watched, ms of a processor]"""
    return together(_row(entry) for entry in _entries(ledger, SlotUsed, after, upto, model))


def stored(ledger: Ledger, after: int, upto: int, model: str) -> list[list[Any]]:
    """[model, at in ms since 1970, bytes by place]"""
    entries = _entries(ledger, BytesStored, after, upto, model)
    return [[entry.model, ms_of(entry.at), dict(entry.event.places)] for entry in entries]


def _entries(ledger: Ledger, kind: type[E], after: int, upto: int, model: str) -> Iterator[Entry[E]]:
    chosen = sa.and_(EVENTS.c.kind == kind.KIND, EVENTS.c.seq > after, EVENTS.c.seq <= upto)
    chosen = sa.and_(chosen, EVENTS.c.model == model) if model else chosen
    columns = (EVENTS.c[name] for name in ("seq", "at", "model", "run", "step", "kind", "body", "hash"))
    for row in ledger.rows(sa.select(*columns).where(chosen).order_by(EVENTS.c.seq)):
        yield Entry(*row)


def together(rows: Iterable[Sequence[Any]]) -> list[list[Any]]:
    """The rows with those of the same name added up; however they are cut before, the sums are the same."""
    found: dict[tuple[Any, ...], list[Any]] = {}
    for row in rows:
        name = tuple(row[:NAMED])
        if (of := found.get(name)) is None:
            found[name] = [*row]
            continue
        start, end, watched, busy = row[NAMED:]
        of[NAMED:] = [min(of[NAMED], start), max(of[NAMED + 1], end), of[NAMED + 2] + watched, of[NAMED + 3] + busy]
    return list(found.values())


def _row(entry: Entry[SlotUsed]) -> list[Any]:
    event = entry.event
    start, end = ms_of(event.start), ms_of(event.end)
    measures = (round(event.covered_s * 1000), round(event.busy_s * 1000))
    # What ends as a month begins was in the month before.
    month = iso(max(start, end - 1))[:7]
    return [entry.model, event.slot, event.version, month, bool(event.second), start, end, *measures]
