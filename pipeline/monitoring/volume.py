"""Whether so many requests come as used to: each day against the same weekday before, by limits from the log's own history.

A day's share is its rows divided by the median of the same weekday in the eight weeks before. Its limits are what the history's shares went beyond
no oftener than the budget of false alarms allows for, a half further from their middle: so growth is usual, and so are holidays that the history has.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

WEEK, QUARTER_DAYS = 7, 91
# Of so many weeks before, the median of one weekday is what is usual on it; of fewer than LEAST_WEEKS nobody knows.
USUAL_WEEKS, LEAST_WEEKS = 8, 4
# So small a share is an alarm also where the history is too short for limits.
NEARLY_NONE = 0.1
# Of fewer rows a day a tenth may be chance.
LEAST_USUAL = 20
# A smaller factor is nothing to look after.
LEAST_FACTOR = 1.5
# Limits take so many days, and from LIMITS_PROVEN on are widened as those of drift.
LIMITS_DAYS, LIMITS_PROVEN = 28, 91
WIDENED, WIDENED_EARLY = 1.5, 2.0


@dataclass(frozen=True)
class Limits:
    """Shares of usual rows between which a day is usual; `high` is infinite where the history is too short."""

    low: float
    high: float

    def beyond(self, share: float) -> bool:
        return share < self.low or self.high < share < math.inf


@dataclass(frozen=True)
class Volume:
    """The newest days, the newest first: `shares` of what is usual (infinite where nobody knows), and the limits of each."""

    days: Sequence[int]
    newest: int
    allowed: int
    limits: Limits

    @classmethod
    def of(cls, days: Sequence[int], newest: int, budget: float) -> Volume:
        """`days` has the rows of each 24 hours, the newest first, all of them whole; the `newest` are judged by those before."""
        allowed = math.floor(budget * (len(days) - newest) / QUARTER_DAYS)
        known = [share_of(days, day) for day in range(newest, len(days))]
        return cls(days, newest, allowed, limits([share for share in known if share < math.inf], allowed))

    @property
    def least(self) -> int:
        """The day that has least of what is usual."""
        return min(range(self.newest), key=lambda day: share_of(self.days, day))

    @property
    def unusual(self) -> list[int]:
        """The days beyond the limits: the one with least, and the one with most."""
        known = [day for day in range(self.newest) if usual_of(self.days, day) is not None]
        most = max(known, key=lambda day: share_of(self.days, day), default=self.least)
        return [day for day in dict.fromkeys((self.least, most)) if self.limits.beyond(share_of(self.days, day))]

    def said(self, day: int) -> str:
        rows, usual = self.days[day], usual_of(self.days, day)
        if usual is None:
            return f"{rows:,} in {hours_of(day)}"
        told = f"{rows:,} in {hours_of(day)}, {usual:,.0f} are usual there"
        if rows and self.limits.beyond(rows / usual) and self.limits.high < math.inf:
            return f"{told} ({self.limits.low * usual:,.0f} to {self.limits.high * usual:,.0f} by its history)"
        return told


def limits(shares: Sequence[float], allowed: int) -> Limits:
    """Of a history of shares, of which so many may be further away on either side."""
    ordered = sorted(shares)
    # What the history had oftener than is allowed is usual, however little it was.
    nearly_none = min([NEARLY_NONE * (1 + 1e-9), *ordered[allowed : allowed + 1]])
    if allowed >= len(ordered):
        return Limits(nearly_none, math.inf)
    middle = median(ordered)
    if len(ordered) < LIMITS_DAYS or not middle:
        return Limits(nearly_none, math.inf)
    widened = WIDENED if len(ordered) >= LIMITS_PROVEN else WIDENED_EARLY
    low = min(1 / LEAST_FACTOR, (ordered[allowed] / middle) ** widened)
    high = max(LEAST_FACTOR, (ordered[-1 - allowed] / middle) ** widened)
    return Limits(max(middle * low, nearly_none), middle * high)


def usual_of(days: Sequence[int], day: int) -> float | None:
    """The rows of a usual one of such weekdays; None where they are too few weeks, or too few rows to miss some."""
    before = days[day + WEEK : day + WEEK * USUAL_WEEKS + 1 : WEEK]
    if len(before) < LEAST_WEEKS or (usual := float(median(before))) < LEAST_USUAL:
        return None
    return usual


def share_of(days: Sequence[int], day: int) -> float:
    """The rows of `days[day]`, the newest day first, over those of a usual one; infinite where nobody knows what is usual."""
    usual = usual_of(days, day)
    return math.inf if usual is None else days[day] / usual


def hours_of(day: int) -> str:
    """The day in words: so many days before the look."""
    return "the last 24 hours" if not day else f"the 24 hours up to {day} day{'s' if day > 1 else ''} before"
