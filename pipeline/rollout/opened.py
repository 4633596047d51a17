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
    closings = ledger.events(*CLOSINGS, model=model)
    openings = ledger.events(*OPENINGS, model=model, after=closings[-1].seq if closings else 0)
    return openings[-1] if openings else None
