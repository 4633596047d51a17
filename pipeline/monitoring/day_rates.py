"""Whether more of a day's requests than usual were refused, broke a rule, or had a category that training never saw, counted day by day.

The limit is one and a half times the share that the days before went beyond no oftener than the budget of false alarms allows for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.monitoring.drift import WIDENED
from pipeline.monitoring.volume import LEAST_WEEKS, QUARTER_DAYS, WEEK, hours_of

# Fewer such requests of a day, or a smaller share of them, are nothing to look after.
FEWEST, LEAST_SHARE = 20, 0.005
# What is counted, in words.
SAID = {
    "refused": "requests were refused",
    "broken": "requests break a rule of the contract",
    "unknown": "requests have a category that training never saw",
}


@dataclass(frozen=True)
class DayRates:
    """The day with the largest share among those since the look before; `limit` is None where the history is too short."""

    share: float
    limit: float | None
    reason: str

    @property
    def unusual(self) -> bool:
        return self.limit is not None and self.share > self.limit


def judged(days: Sequence[Sequence[int]], budget: float, looks: float, what: str) -> DayRates | None:
    """`days` has (such, all) requests of each 24 hours, the newest first; `what` says which ones in words. None where nothing was counted."""
    if not days:
        return None
    newest = min(math.ceil(QUARTER_DAYS / looks), WEEK, len(days))
    # The first day was a part of one.
    history = sorted((_counting_share(day) for day in days[newest:-1] if day[1]), reverse=True)
    worst = max(range(newest), key=lambda day: (_counting_share(days[day]), _share(days[day])))
    such, every = days[worst]
    told = f"{such:,} of {every:,} {what} in {hours_of(worst)}{' the look' if worst else ''}"
    if len(history) < LEAST_WEEKS * WEEK:
        short = f"{told}, {len(history)} days are known before, {LEAST_WEEKS * WEEK} required"
        return DayRates(_share(days[worst]), None, short)
    allowed = math.floor(budget * len(history) / QUARTER_DAYS)
    limit = max(LEAST_SHARE, WIDENED * history[min(allowed, len(history) - 1)])
    return DayRates(_counting_share(days[worst]), limit, f"{told}, up to {limit:.1%} are usual")


def _share(day: Sequence[int]) -> float:
    return day[0] / day[1] if day[1] else 0.0


def _counting_share(day: Sequence[int]) -> float:
    """Of a day with few such requests the share says nothing."""
    return _share(day) if day[0] >= FEWEST else 0.0


def said(refused: Mapping[str, int]) -> str:
    """The refused requests of a window by kind, in words; '' for none."""
    if not refused:
        return ""
    each = ", ".join(f"{kind} ({count:,})" for kind, count in refused.items())
    return f"{sum(refused.values()):,} requests of the window were refused: {each}"
