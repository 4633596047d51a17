"""Which of the source's newest partitions have more rows in quarantine than any before, by the newest run's data.

The limit is one and a half times the share that the days before went beyond no oftener than the budget of false alarms allows for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from typing import Any

from pipeline.monitoring.drift import WIDENED
from pipeline.monitoring.volume import LEAST_WEEKS, QUARTER_DAYS, WEEK

# Fewer rows may be chance.
FEWEST_ROWS = 5


@dataclass(frozen=True)
class QuarantineRates:
    """Of `days` partitions of the snapshot as of `as_of`: (rows in quarantine, all labelled rows) of those among the newest seven that have
    any, by day; `unusual` are those whose share is over `limit`, None where the days are too few to say."""

    as_of: str
    days: int
    newest: Mapping[str, Sequence[int]] = field(default_factory=dict)
    limit: float | None = None
    unusual: Sequence[str] = ()

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        of = f"the newest {min(WEEK, self.days)} of {self.days} partitions as of {self.as_of[:10]}"
        if not self.newest:
            return f"quarantine: none of the rows of {of}"
        shares = ", ".join(
            f"{broken / rows:.1%} of {day} ({broken:,} rows)" for day, (broken, rows) in self.newest.items()
        )
        usual = "not known to be usual" if self.limit is None else f"up to {self.limit:.1%} are usual"
        named = f"; unusual: {', '.join(self.unusual)}" if self.unusual else ""
        return f"quarantine: {shares}, of {of}; {usual}{named}"


def judged(a_day: Mapping[str, Sequence[int]], as_of: str, budget: float) -> QuarantineRates:
    """`a_day` has (rows in quarantine, all rows) of each partition."""
    days = sorted(a_day)
    first_new = (date.fromisoformat(days[-1]).toordinal() - WEEK + 1) if days else 0
    before, newest = (
        [day for day in days if (date.fromisoformat(day).toordinal() >= first_new) == is_new]
        for is_new in (False, True)
    )
    limit = None
    if len(before) >= LEAST_WEEKS * WEEK:
        shares = sorted((_share(a_day[day]) for day in before), reverse=True)
        limit = WIDENED * shares[min(math.floor(budget * len(before) / QUARTER_DAYS), len(shares) - 1)]
    unusual = [
        day for day in newest if limit is not None and a_day[day][0] >= FEWEST_ROWS and _share(a_day[day]) > limit
    ]
    return QuarantineRates(as_of, len(days), {day: a_day[day] for day in newest if a_day[day][0]}, limit, unusual)


def _share(counted: Sequence[int]) -> float:
    broken, rows = counted
    return broken / rows if rows else 0.0
