"""A figure of an account: its value, how it is known, how it was made, and the numbers of the events that it is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.accounts.lines import Known

# So many of a figure's events are named, the newest.
NAMED = 20


@dataclass(frozen=True)
class Figure:
    """`value` is in `unit`, None where nothing was there to measure. `events` are numbers of the ledger's events; `published` is
    what the study claims, ((low, high) by hand, (low, high) automated)."""

    name: str
    value: float | None
    unit: str
    known: Known
    how: str
    events: Sequence[int] = ()
    published: tuple[tuple[float, float], tuple[float, float]] | None = None

    def as_dict(self) -> dict[str, Any]:
        told: dict[str, Any] = {
            "value": self.value,
            "unit": self.unit,
            "known": self.known,
            "how": self.how,
            "count": len(self.events),
            "events": list(self.events)[-NAMED:],
        }
        if self.published is not None:
            by_hand, automated = self.published
            told["claimed"] = {"by_hand": list(by_hand), "automated": list(automated)}
        return told
