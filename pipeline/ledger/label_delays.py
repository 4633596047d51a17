"""The label delays that a model's snapshots measured."""

from __future__ import annotations

from datetime import datetime

from pipeline.data.label_delay import LabelDelay
from pipeline.ledger.events import DataLanded
from pipeline.ledger.store import Ledger
from pipeline.settings.models import time_of


def newest(ledger: Ledger, model: str) -> LabelDelay | None:
    """What the snapshot of the newest as-of says; None before the first one, or without label times."""
    landed = _by_as_of(ledger, model)
    return LabelDelay.read(landed[-1].label_delay_s) if landed else None


def known_at(ledger: Ledger, model: str, as_of: datetime) -> LabelDelay | None:
    """The newest delay that a snapshot measured as of `as_of` or before; None when none was long enough to measure it.

    A later as-of tells nothing about an earlier one, so that a decision for the same as-of is the same tomorrow.
    """
    for landed in reversed(_by_as_of(ledger, model)):
        delay = LabelDelay.read(landed.label_delay_s)
        if time_of(landed.as_of) <= as_of and delay is not None and delay.p95_s is not None:
            return delay
    return None


def _by_as_of(ledger: Ledger, model: str) -> list[DataLanded]:
    """The snapshots in the order of their as-ofs; of one as-of in the order of their landing."""
    landed = [entry.event for entry in ledger.events(DataLanded, model=model)]
    return sorted(landed, key=lambda event: time_of(event.as_of))
