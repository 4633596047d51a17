"""The newest events of one kind and model, a bounded number of them: how long the ledger is makes no difference to who reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

import sqlalchemy as sa

from pipeline.ledger.events import Event
from pipeline.ledger.store import EVENTS, Entry, Ledger

# Bodies with the figures of many columns are long: so many characters are read at most, whatever the number of events.
MOST_CHARACTERS = 3_000_000
AT_ONCE = 100

E = TypeVar("E", bound=Event)


@dataclass(frozen=True)
class Newest(Generic[E]):
    """`entries` in the order of their numbers; `older` events of the kind are left out."""

    entries: list[Entry[E]]
    older: int

    @property
    def begins(self) -> str:
        """The time of the first that was read, where some are left out; else ''."""
        return self.entries[0].at if self.older and self.entries else ""


def newest_of(ledger: Ledger, kind: type[E], model: str, count: int) -> Newest[E]:
    """The last `count` events of the kind and model, or fewer where their bodies are long. Raises LedgerError."""
    found: list[Entry[E]] = []
    of_kind = sa.and_(EVENTS.c.kind == kind.KIND, EVENTS.c.model == model)
    while len(found) < count and sum(len(entry.text) for entry in found) < MOST_CHARACTERS:
        before = EVENTS.c.seq < found[-1].seq if found else sa.true()
        query = sa.select(EVENTS).where(of_kind, before).order_by(EVENTS.c.seq.desc())
        wanted = min(AT_ONCE, count - len(found))
        rows = ledger.rows(query.limit(wanted))
        found += [Entry(r.seq, r.at, r.model, r.run, r.step, r.kind, r.body, r.hash) for r in rows]
        if len(rows) < wanted:
            return Newest(found[::-1], 0)
    older = sa.select(sa.func.count()).select_from(EVENTS).where(of_kind, EVENTS.c.seq < found[-1].seq)
    return Newest(found[::-1], int(ledger.rows(older)[0][0]))


def has_events(ledger: Ledger, model: str) -> bool:
    """Whether the ledger has an event of the model."""
    return bool(ledger.rows(sa.select(EVENTS.c.seq).where(EVENTS.c.model == model).limit(1)))
