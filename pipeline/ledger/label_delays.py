"""The label delays that a model's snapshots measured, and looks that found no label where one was due."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pipeline.data.label_delay import LabelDelay
from pipeline.ledger.events import DataLanded
from pipeline.ledger.label_events import LabelsMeasured
from pipeline.ledger.store import Entry, Ledger
from pipeline.settings.models import time_of

Measure = DataLanded | LabelsMeasured
MEASURED = (DataLanded, LabelsMeasured)
# A model's newest measures: among them is that of the newest as-of, unless a long backfill came after it.
LOOKED_AT = 10


@dataclass(frozen=True)
class _Said:
    as_of: datetime
    delay: LabelDelay | None


# By the hash of its event what a measure says, as a server asks for it again and again: of years a landing lists hundreds of files beside it.
_SAID: dict[str, _Said] = {}
MOST_SAID = 20_000


def newest_of(ledger: Ledger, models: Sequence[str]) -> dict[str, LabelDelay]:
    """By model what its measure of the newest as-of says, of its LOOKED_AT newest; without models that have none, or no label times."""
    found: dict[str, _Said] = {}
    # By themselves: a model whose labels do not come has a measure a week that found none.
    entries: list[Entry[Any]] = [*ledger.newest(DataLanded, models=models, count=LOOKED_AT)]
    entries += ledger.newest(LabelsMeasured, models=models, count=LOOKED_AT)
    for entry in entries:
        said = _said(entry)
        if entry.kind == LabelsMeasured.KIND and said.delay == LabelDelay():
            continue
        known = found.get(entry.model)
        if known is None or said.as_of >= known.as_of:
            found[entry.model] = said
    return {model: said.delay for model, said in found.items() if said.delay is not None}


def _said(entry: Entry[Measure]) -> _Said:
    if entry.hash not in _SAID:
        if len(_SAID) >= MOST_SAID:
            _SAID.clear()
        _SAID[entry.hash] = _Said(time_of(entry.event.as_of), LabelDelay.read(entry.event.label_delay_s))
    return _SAID[entry.hash]


def newest(ledger: Ledger, model: str) -> LabelDelay | None:
    """The same of one model; None before the first snapshot, or without label times."""
    return newest_of(ledger, [model]).get(model)


def known_at(ledger: Ledger, model: str, as_of: datetime) -> LabelDelay | None:
    """The newest delay that was measured as of `as_of` or before; None when no snapshot was long enough to measure it.

    A later as-of tells nothing about an earlier one, so that a decision for the same as-of is the same tomorrow.
    """
    for landed in reversed(_by_as_of(ledger, model)):
        delay = LabelDelay.read(landed.label_delay_s)
        if time_of(landed.as_of) <= as_of and delay is not None and delay.p95_s is not None:
            return delay
    return None


def _by_as_of(ledger: Ledger, model: str) -> list[Measure]:
    """The measures in the order of their as-ofs; of one as-of in the order of the ledger."""
    entries: list[Entry[Any]] = ledger.events(*MEASURED, model=model)
    return sorted((entry.event for entry in entries), key=lambda event: time_of(event.as_of))
