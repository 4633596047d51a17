"""What the ledger says of a rollout that is going on, and of the version that is live."""

from __future__ import annotations

from pipeline.ledger.rollout_events import CLOSINGS, OPENINGS, Opening
from pipeline.ledger.store import Entry, Ledger
from pipeline.ledger.timeline import live_at
from pipeline.rollout.routing.route import RoutedSlot


def is_recorded(ledger: Ledger, model: str, live: RoutedSlot) -> bool:
    """Whether the ledger says that this version is live, and with this package as far as both name one."""
    last = live_at(ledger, model)
    return last is not None and last.package.is_same(live.package)


def open_rollout(ledger: Ledger, model: str) -> Entry[Opening] | None:
    """The newest start of a rollout or a rollback with no closing event after it, or None."""
    closed = ledger.last(*CLOSINGS, model=model)
    opened = ledger.last(*OPENINGS, model=model)
    return opened[-1] if opened and (not closed or opened[-1].seq > closed[-1].seq) else None
