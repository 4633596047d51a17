"""Many events, read a part at a time: a file of a ledger of years begins at once, and nobody holds all of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from pipeline.ledger.store import EVENTS, Entry, Ledger

# So many events in a part; a database takes so many values in one query.
AT_ONCE = 500


def in_parts(ledger: Ledger, condition: Any) -> Iterator[Entry[Any]]:
    """The events that the condition on EVENTS holds for now, in the order of their numbers. Raises LedgerError."""
    numbers = [row.seq for row in ledger.rows(sa.select(EVENTS.c.seq).where(condition).order_by(EVENTS.c.seq))]
    for part in parts_of(numbers):
        rows = ledger.rows(sa.select(EVENTS).where(EVENTS.c.seq.in_(part)).order_by(EVENTS.c.seq))
        yield from (Entry(r.seq, r.at, r.model, r.run, r.step, r.kind, r.body, r.hash) for r in rows)


def parts_of(values: Sequence[Any], at_once: int = AT_ONCE) -> Iterator[Sequence[Any]]:
    """The values, so many at a time."""
    return (values[start : start + at_once] for start in range(0, len(values), at_once))
