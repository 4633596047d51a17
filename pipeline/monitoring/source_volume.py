"""Whether the source has so many rows a day as it used to, by the newest run's partitions: a day with far fewer or more, or with none at all.

The rule is that of requests (see volume), on days whose labels have matured: a partition counts labelled rows alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from pipeline.monitoring.volume import LEAST_WEEKS, WEEK, Volume, usual_of


@dataclass(frozen=True)
class SourceVolume:
    """Of the snapshot as of `as_of`: `unusual` has the labelled rows of each of the newest seven mature days, the last of which is `newest`, that is
    unusual, and what is usual there. `days` are known in all; `reason` says why there is no verdict, '' where there is one."""

    as_of: str
    days: int
    newest: str = ""
    unusual: Mapping[str, Sequence[float]] = field(default_factory=dict)
    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        if self.reason:
            return f"the source's rows: no verdict, {self.reason}"
        of = f"of the {WEEK} days up to {self.newest}, as of {self.as_of[:10]}"
        if not self.unusual:
            return f"the source's rows: usual on each {of}"
        each = ", ".join(
            f"{rows:,.0f} on {day} ({usual:,.0f} are usual)" for day, (rows, usual) in self.unusual.items()
        )
        return f"the source's rows: unusual, {each}, {of}"


def judged(a_day: Mapping[str, Sequence[int]], as_of: str, mature: timedelta | None, budget: float) -> SourceVolume:
    """`a_day` has (rows in quarantine, all rows) of each partition that has any; labels are known so long after their rows, as most are. None where
    nobody knows how long: of the newest days rows may be missing then, since their labels still come."""
    if mature is None:
        return SourceVolume(as_of, len(a_day), reason="nobody knows how long labels take; set source.label_delay_days")
    first = date.fromisoformat(min(a_day))
    end = (datetime.fromisoformat(as_of).astimezone(UTC) - mature).date()
    # The first day may be a part of one, and the day that the labels reach into is one.
    days = [end - timedelta(days=1 + back) for back in range((end - first).days - 1)]
    needed = (LEAST_WEEKS + 1) * WEEK
    if len(days) < needed:
        short = f"{max(len(days), 0)} whole days have mature labels, {needed} required"
        return SourceVolume(as_of, max(len(days), 0), reason=short)
    rows = [a_day.get(f"{day}", (0, 0))[1] for day in days]
    found = Volume.of(rows, WEEK, budget)
    unusual = {f"{days[day]}": (float(rows[day]), usual_of(rows, day) or 0.0) for day in found.unusual}
    return SourceVolume(as_of, len(days), f"{days[0]}", unusual)
