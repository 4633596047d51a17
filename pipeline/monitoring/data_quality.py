"""Whether requests come as they used to: a day without them, or with a tenth of what such a weekday has, a silence longer than any, or
more of them refused than usual.

It says that something before the model is broken, and is no reason to retrain. The limits keep the budget of false alarms on the log's own
history: what it had oftener than the budget allows is usual, however little it was. The history begins with the log's first row.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import median
from typing import Any, Literal

from pipeline.monitoring import refused_rates
from pipeline.monitoring.drift import WIDENED
from pipeline.monitoring.logged_quality import LoggedQuality

WEEK = 7
# Of so many weeks before, the median of one weekday is what is usual on it; of fewer than LEAST_WEEKS nobody knows.
USUAL_WEEKS, LEAST_WEEKS = 8, 4
SHARE = 0.1
# Of fewer rows a day a tenth may be chance.
LEAST_USUAL = 20
QUARTER_DAYS = 91


@dataclass(frozen=True)
class DataQuality:
    """`verdict` is that on volume and freshness, for the `reason`. `since` is the as-of of the look that raised the alarm, '' without one.

    `day_rows` came in the 24 hours that were least of what is usual, `usual_rows`; none had come for `silent_h` hours, of at most
    `silence_limit_h`. `breaches`, `unknown` and `refused` are of LoggedQuality; `rows` are the window's. Of the day that was worst, a share
    `refused_share` of the requests was refused, of at most `refused_limit`: None where that is not known, or no slot counts them.
    """

    verdict: Literal["alarm", "usual", "no verdict"]
    reason: str
    rows: int
    day_rows: int | None = None
    usual_rows: float | None = None
    silent_h: float | None = None
    silence_limit_h: float | None = None
    breaches: Mapping[str, int] = field(default_factory=dict)
    unknown: Mapping[str, int] = field(default_factory=dict)
    since: str = ""
    refused: Mapping[str, int] = field(default_factory=dict)
    refused_share: float | None = None
    refused_limit: float | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def lines(self) -> list[str]:
        """For people: volume and freshness, then what rows there were that break a rule, or were never learnt."""
        since = f" since the look of {self.since[:16]}" if self.since else ""
        told = [f"requests: {self.verdict}{since}, {self.reason}"]
        for what, counted in (
            ("break a rule and were answered", self.breaches),
            ("have unknown categories", self.unknown),
        ):
            if counted:
                each = ", ".join(f"{name} ({rows:,})" for name, rows in counted.items())
                told.append(f"of the window's {self.rows:,} requests some {what}: {each}")
        return told + list(filter(None, [refused_rates.said(self.refused)]))


def judged(logged: LoggedQuality, rows: int, budget: float, looks: float) -> DataQuality:
    """The verdict of a look, of which there are so many `looks` a quarter with `budget` false alarms; `rows` are in its window."""
    found = replace(_of_times(logged, rows, budget, looks), refused=logged.refused)
    rates = refused_rates.judged(logged.refused_days, budget, looks)
    if rates is None:
        return found
    found = replace(found, refused_share=rates.share, refused_limit=rates.limit)
    if not rates.unusual:
        return found
    others = f"{found.reason} and " if found.verdict == "alarm" else ""
    return replace(found, verdict="alarm", reason=f"{others}{rates.reason}")


def _of_times(logged: LoggedQuality, rows: int, budget: float, looks: float) -> DataQuality:
    """What the times of receipt say."""
    whole = len(logged.days) - 1
    known = DataQuality(
        "no verdict", "", rows, silent_h=logged.silent_h, breaches=logged.breaches, unknown=logged.unknown
    )
    if whole < (LEAST_WEEKS + 1) * WEEK:
        short = f"the log has {max(whole, 0)} whole days before this look, {(LEAST_WEEKS + 1) * WEEK} required"
        return replace(known, reason=short)
    # The log's first day was a part of one.
    days = logged.days[:-1]
    newest = min(math.ceil(QUARTER_DAYS / looks), WEEK)
    allowed = math.floor(budget * (whole - newest) / QUARTER_DAYS)
    least = min(range(newest), key=lambda day: _share(days, day))
    share, usual = _share(days, least), _usual(days, least)
    history = sorted(_share(days, day) for day in range(newest, whole) if _usual(days, day) is not None)
    limit = history[allowed] if allowed < len(history) else math.inf
    silent, silence = logged.silent_h or 0.0, max(1.0, WIDENED * _longest(logged.silences_h, allowed))
    of_day = f"{days[least]:,} in {_hours(least)}" + (f", {usual:,.0f} are usual there" if usual is not None else "")
    of_silence = f"none for {silent:,.1f} hours, up to {silence:,.1f} are usual"
    known = replace(known, day_rows=days[least], usual_rows=usual, silence_limit_h=silence)
    few, quiet = share <= SHARE and share < limit, silent > silence
    if few or quiet:
        return replace(known, verdict="alarm", reason=" and ".join([of_day] * few + [of_silence] * quiet))
    return replace(known, verdict="usual", reason=f"{of_day}; {of_silence}")


def _usual(days: Sequence[int], day: int) -> float | None:
    """The rows of a usual one of such weekdays; None where they are too few weeks, or too few rows to miss some."""
    before = days[day + WEEK : day + WEEK * USUAL_WEEKS + 1 : WEEK]
    if len(before) < LEAST_WEEKS or (usual := float(median(before))) < LEAST_USUAL:
        return None
    return usual


def _share(days: Sequence[int], day: int) -> float:
    usual = _usual(days, day)
    return math.inf if usual is None else days[day] / usual


def _longest(silences: Sequence[float], allowed: int) -> float:
    """The silence that was exceeded as often as is allowed."""
    return silences[min(allowed, len(silences) - 1)] if silences else 0.0


def _hours(day: int) -> str:
    """The day in words: so many days before the look."""
    return "the last 24 hours" if not day else f"the 24 hours up to {day} day{'s' if day > 1 else ''} before"
