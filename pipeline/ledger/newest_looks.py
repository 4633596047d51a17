"""Each model's newest drift check or decision. One may be taken at any time as of a day that is past, by hand or by a run that came late, and
then it is the newest event and not the newest look."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import TypeVar

from pipeline.ledger.events import DriftChecked
from pipeline.ledger.receipt_events import RetrainDecided
from pipeline.ledger.store import Entry, Ledger
from pipeline.settings.models import time_of

Look = TypeVar("Look", DriftChecked, RetrainDecided)

# Of so many looks the one of the latest as-of counts. A monitor's own are as of the end of its interval.
LOOKS, OWN = 10, timedelta(days=1)


def newest_looks(ledger: Ledger, kind: type[Look], models: Collection[str] | None = None) -> dict[str, Entry[Look]]:
    """By model, of `models` or of all, its newest look; without those that had none."""
    newest = {entry.model: entry for entry in ledger.newest(kind, models=models)}
    odd = [name for name, entry in newest.items() if abs(_ahead(entry)) > OWN]
    for entry in ledger.newest(kind, models=odd, count=LOOKS) if odd else ():
        known = newest[entry.model]
        # Nobody knew at its time what a look at a day to come says it knew.
        if _ahead(entry) <= OWN and (_ahead(known) > OWN or _as_of(entry) >= _as_of(known)):
            newest[entry.model] = entry
    return newest


def _as_of(entry: Entry[Look]) -> datetime:
    return time_of(entry.event.as_of)


def _ahead(entry: Entry[Look]) -> timedelta:
    """By how much its as-of is after the time when it was taken."""
    return _as_of(entry) - time_of(entry.at)
