"""The bodies of a model's events of one kind, without an object for each event: what accounts add up of hundreds of thousands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy as sa

from pipeline.ledger.events import Event
from pipeline.ledger.json_text import read_json
from pipeline.ledger.store import EVENTS, Entry, Ledger


def bodies(ledger: Ledger, kind: type[Event], model: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """(number, body) of each event, in their order; a body has the required fields at least. Raises LedgerError as `Entry.event` does."""
    query = sa.select(EVENTS.c.seq, EVENTS.c.body).where(EVENTS.c.kind == kind.KIND, EVENTS.c.model == model)
    required = set(kind.REQUIRED)
    for seq, text in ledger.rows(query.order_by(EVENTS.c.seq)):
        try:
            body = read_json(text)
            whole = required <= body.keys()
        except (ValueError, TypeError, AttributeError):
            whole = False
        if not whole:
            # It says what is wrong with it.
            body = Entry[Event](seq, "", model, "", "", kind.KIND, text, "").event.body()
        yield seq, body
