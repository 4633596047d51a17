"""A line of an account: what one part of a model's bill came to in a month, and how each of its two factors is known."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from pipeline.accounts.money import cents, whole
from pipeline.ledger.times import iso as iso
from pipeline.ledger.times import ms_of as ms_of
from pipeline.settings.accounts import Prices

DAY_MS = 86_400_000
Known = Literal["measured", "yours", "guess", "claimed"]

# The parts of a bill, each with its unit. They do not overlap.
STEPS, FAILED, KILLED = "steps", "failed attempts", "killed steps"
ENERGY, STORAGE, STORED, TRANSFER = "energy", "storage", "other storage", "transfer"
SLOT, SECOND_SLOT = "live slot", "second slot"
SERVICES, PEOPLE = "services", "people"
UNITS = {
    STEPS: "processor hours",
    FAILED: "processor hours",
    KILLED: "attempts",
    ENERGY: "kWh",
    STORAGE: "GB-months",
    STORED: "GB-months",
    TRANSFER: "GB",
    SLOT: "hours",
    SECOND_SLOT: "hours",
    SERVICES: "hours",
    PEOPLE: "minutes",
}


class Line(NamedTuple):
    """`amount` is in parts of the prices' currency (money.py), `quantity` in UNITS[part]; `month` is like 2026-03. `run` and `step` are '' where the
    part has none. `price` says how the price is known and `counted` how the quantity is."""

    part: str
    model: str
    month: str
    amount: int
    quantity: float
    run: str = ""
    step: str = ""
    counted: Known = "measured"
    price: Known = "yours"
    attempts: int = 0

    @property
    def known(self) -> Known:
        """The weaker of the two: a guess makes the product a guess."""
        return "guess" if "guess" in (self.counted, self.price) else self.counted


@dataclass
class Sum:
    """What a line is made of while it is added up."""

    value: float = 0.0
    quantity: float = 0.0

    def add(self, quantity: float, price: float) -> None:
        self.value += quantity * price
        self.quantity += quantity

    @property
    def amount(self) -> int:
        return whole(self.value)


def total(lines: Iterable[Line]) -> int:
    """The sum, exact, in 10^-12 of the currency."""
    return sum(line.amount for line in lines)


def guessed_parts(lines: Iterable[Line]) -> tuple[str, ...]:
    """The parts that come to a cent or more by a guess, the dearest first."""
    amounts: Counter[str] = Counter()
    for line in lines:
        if line.known == "guess":
            amounts[line.part] += line.amount
    return tuple(part for part, amount in amounts.most_common() if cents(amount))


class Span(NamedTuple):
    """A piece of time inside one month and one period of prices, in milliseconds since 1970; `first` to `after` is its whole month."""

    start: int
    end: int
    month: str
    first: int
    after: int

    @property
    def hours(self) -> float:
        return (self.end - self.start) / 3_600_000

    @property
    def months(self) -> float:
        """Its share of its month."""
        return (self.end - self.start) / (self.after - self.first)

    def prices(self, prices: Prices) -> Prices:
        """Those that hold in it."""
        return prices.at(iso(self.start)) if prices.changes else prices


def spans(start: int, end: int, changes: Sequence[int]) -> Iterator[Span]:
    """[start, end) cut where a month begins and where prices change, each in milliseconds since 1970."""
    dates = sorted(change for change in changes if start < change < end)
    while start < end:
        month, first, after = _month(start // DAY_MS)
        until = min([after, end, *dates[:1]])
        if dates and until == dates[0]:
            dates.pop(0)
        yield Span(start, until, month, first, after)
        start = until


def spans_of(month: str, start: int, end: int, changes: Sequence[int]) -> Iterator[Span]:
    """The spans that lie in `month` (2026-03), '' for all."""
    if month:
        _, first, after = month_of(month)
        start, end = max(start, first), min(end, after)
    return spans(start, end, changes)


def month_of(month: str) -> tuple[str, int, int]:
    """(2026-03, its start and its end in milliseconds since 1970)."""
    return _month(ms_of(f"{month}-01T00:00:00+00:00") // DAY_MS)


@functools.cache
def _month(day: int) -> tuple[str, int, int]:
    """(the name, the start and the end of the month with that day since 1970)."""
    at = datetime.fromtimestamp(day * 86_400, UTC)
    first = datetime(at.year, at.month, 1, tzinfo=UTC)
    after = datetime(at.year + at.month // 12, at.month % 12 + 1, 1, tzinfo=UTC)
    return f"{at:%Y-%m}", int(first.timestamp() * 1000), int(after.timestamp() * 1000)
