"""Whether more requests are refused than usual, by what the slots counted day by day.

The limit is one and a half times the share that the days before went beyond no oftener than the budget of false alarms allows for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.monitoring.drift import WIDENED

WEEK, QUARTER_DAYS, LEAST_WEEKS = 7, 91, 4
# Fewer refused requests of a day, or a smaller share of them, are nothing to look after.
FEWEST, LEAST_SHARE = 20, 0.005


@dataclass(frozen=True)
class RefusedRates:
    """The day with the largest share of refused requests among those since the look before; `limit` is None where the history is too short."""

    share: float
    limit: float | None
    reason: str

    @property
    def unusual(self) -> bool:
        return self.limit is not None and self.share > self.limit


def judged(days: Sequence[Sequence[int]], budget: float, looks: float) -> RefusedRates | None:
    """`days` has (refused, all) requests of each 24 hours, the newest first. None where nothing was counted."""
    if not days:
        return None
    newest = min(math.ceil(QUARTER_DAYS / looks), WEEK, len(days))
    # The first day was a part of one.
    history = sorted((_share(day) for day in days[newest:-1] if day[1]), reverse=True)
    worst = max(range(newest), key=lambda day: _share(days[day]))
    refused, every = days[worst]
    told = f"{refused:,} of {every:,} requests were refused in the 24 hours up to {worst} day{'s' if worst > 1 else ''} before the look"
    if not worst:
        told = f"{refused:,} of {every:,} requests were refused in the last 24 hours"
    if len(history) < LEAST_WEEKS * WEEK:
        return RefusedRates(
            _share(days[worst]), None, f"{told}, {len(history)} days are known before, {LEAST_WEEKS * WEEK} required"
        )
    allowed = math.floor(budget * len(history) / QUARTER_DAYS)
    limit = max(LEAST_SHARE, WIDENED * history[min(allowed, len(history) - 1)])
    share = _share(days[worst]) if refused >= FEWEST else 0.0
    return RefusedRates(share, limit, f"{told}, up to {limit:.1%} are usual")


def _share(day: Sequence[int]) -> float:
    return day[0] / day[1] if day[1] else 0.0


def said(refused: Mapping[str, int]) -> str:
    """The refused requests of a window by kind, in words; '' for none."""
    if not refused:
        return ""
    each = ", ".join(f"{kind} ({count:,})" for kind, count in refused.items())
    return f"{sum(refused.values()):,} requests of the window were refused: {each}"
