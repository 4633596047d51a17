"""The events that a part of a roll-up reads: those after a number up to another, of one model or of all ('')."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from pipeline.ledger.events import Event
from pipeline.ledger.store import EVENTS, Entry, Ledger

Rows = list[list[Any]]


def between(after: int, upto: int, model: str) -> Any:
    """The condition on EVENTS."""
    between = sa.and_(EVENTS.c.seq > after, EVENTS.c.seq <= upto)
    return sa.and_(between, EVENTS.c.model == model) if model else between


def entries_between(ledger: Ledger, after: int, upto: int, model: str, *kinds: type[Event]) -> Iterator[Entry[Event]]:
    """The events of those kinds, with only what is in them."""
    columns = (EVENTS.c[name] for name in ("seq", "at", "model", "run", "step", "kind", "body", "hash"))
    query = sa.select(*columns).where(EVENTS.c.kind.in_([kind.KIND for kind in kinds]), between(after, upto, model))
    for row in ledger.rows(query.order_by(EVENTS.c.seq)):
        yield Entry(*row)
