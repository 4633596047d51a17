"""Did receipts come true? What decisions expected to save beside what they saved, by the labels that came.

A receipt expects a saving over the windows ahead, and is settled by fewer. So it is compared with the share of its expectation that falls
on those: a saving grows about evenly with the windows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import sqlalchemy as sa

from pipeline.ledger.events import MissingField
from pipeline.ledger.json_text import read_json
from pipeline.ledger.receipt_events import DecisionSettled
from pipeline.ledger.store import EVENTS, Entry, Ledger


@dataclass(frozen=True)
class Calibration:
    """The settled decisions of a model, in the order of their time; `known` are those that expected something, in one currency."""

    settled: tuple[DecisionSettled, ...]

    @cached_property
    def known(self) -> tuple[DecisionSettled, ...]:
        found = [event for event in self.settled if event.expected is not None and event.ahead]
        return tuple(event for event in found if event.currency == found[-1].currency)

    @cached_property
    def expected(self) -> float:
        return sum(event.expected_by_now or 0.0 for event in self.known)

    @property
    def saved(self) -> float:
        return sum(event.saved for event in self.known)

    @property
    def as_expected(self) -> int:
        """How many expected what lies in the interval of what they saved."""
        return sum(event.low <= (event.expected_by_now or 0.0) <= event.high for event in self.known)

    def sentence(self) -> str:
        """'' while nothing is settled."""
        if not self.settled:
            return ""
        paid = sum(event.paid == "it paid" for event in self.settled)
        line = f"{len(self.settled)} decision{'s' if len(self.settled) > 1 else ''} settled, {paid} paid"
        # Neither paid nor did not pay: its interval has the cost in it.
        if opened := sum(each.low <= each.cost <= each.high for each in self.settled):
            line += f", {opened} open"
        if not (known := self.known):
            return line
        share = f", {self.saved / self.expected:.2f} times what they expected" if self.expected > 0 else ""
        return (
            f"{line}; {len(known)} expected {self.expected:,.2f} {known[-1].currency} by then and saved {self.saved:,.2f}{share}; "
            f"{self.as_expected} as expected within the interval"
        )

    def as_dict(self) -> dict[str, Any]:
        return {
            "settled": len(self.settled),
            "expected": self.expected,
            "saved": self.saved,
            "as_expected": self.as_expected,
            "compared": len(self.known),
            "sentence": self.sentence(),
        }


def calibration(ledger: Ledger, model: str) -> Calibration:
    """Of all that is settled. Raises LedgerError for an event that cannot be read."""
    query = sa.select(EVENTS.c.seq, EVENTS.c.body).where(EVENTS.c.kind == DecisionSettled.KIND, EVENTS.c.model == model)
    return Calibration(tuple(_settled(model, *row) for row in ledger.rows(query.order_by(EVENTS.c.seq))))


def _settled(model: str, seq: int, text: str) -> DecisionSettled:
    try:
        return DecisionSettled.read(read_json(text))
    except (ValueError, TypeError, MissingField):
        # It says what is wrong with it.
        entry: Entry[DecisionSettled] = Entry(seq, "", model, "", "", DecisionSettled.KIND, text, "")
        return entry.event
