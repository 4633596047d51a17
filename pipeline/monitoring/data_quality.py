"""Whether requests come as they used to: a day with far fewer or more of them than such a weekday has, a silence longer than any, or more of
them than usual that were refused, broke a rule of the contract, or had a category that training never saw.

It says that something before the model is broken, and is no reason to retrain. The limits keep the budget of false alarms on the log's own
history: what it had oftener than the budget allows is usual, however little it was. The history begins with the log's first row.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from pipeline.monitoring import day_rates
from pipeline.monitoring.drift import WIDENED
from pipeline.monitoring.logged_quality import LoggedQuality
from pipeline.monitoring.volume import LEAST_WEEKS, QUARTER_DAYS, WEEK, Volume, usual_of

# A smaller share of repeated rows is nothing to name.
REPEATS = 0.2


@dataclass(frozen=True)
class DataQuality:
    """`verdict` is that on volume and freshness, for the `reason`. `since` is the as-of of the look that raised the alarm, '' without one.

    `day_rows` came in the 24 hours that are furthest from what is usual, `usual_rows`; none had come for `silent_h` hours, of at most
    `silence_limit_h`. `breaches`, `unknown` and `refused` are of LoggedQuality; `rows` are the window's. Of the day that was worst, a share
    `refused_share` of the requests was refused, of at most `refused_limit`: None where that is not known, or no slot counts them. So it is
    with the share of rows that broke a rule and were answered, `broken_share`, and of those with an unknown category, `unknown_share`.
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
    broken_share: float | None = None
    broken_limit: float | None = None
    unknown_share: float | None = None
    unknown_limit: float | None = None

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
        return told + list(filter(None, [day_rates.said(self.refused)]))


def judged(logged: LoggedQuality, rows: int, budget: float, looks: float) -> DataQuality:
    """The verdict of a look, of which there are so many `looks` a quarter with `budget` false alarms; `rows` are in its window."""
    found = replace(_of_times(logged, rows, budget, looks), refused=logged.refused)
    days = {"refused": logged.refused_days, "broken": logged.broken_days, "unknown": logged.unknown_days}
    rates = {what: day_rates.judged(of, budget, looks, day_rates.SAID[what]) for what, of in days.items()}
    refused, broken, unknown = rates.values()
    found = replace(
        found,
        refused_share=refused.share if refused else None,
        refused_limit=refused.limit if refused else None,
        broken_share=broken.share if broken else None,
        broken_limit=broken.limit if broken else None,
        unknown_share=unknown.share if unknown else None,
        unknown_limit=unknown.limit if unknown else None,
    )
    if unusual := [of.reason for of in rates.values() if of is not None and of.unusual]:
        others = [found.reason] if found.verdict == "alarm" else []
        found = replace(found, verdict="alarm", reason=" and ".join([*others, *unusual]))
    return found


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
    volume = Volume.of(logged.days[:-1], min(math.ceil(QUARTER_DAYS / looks), WEEK), budget)
    unusual = volume.unusual
    shown = (unusual or [volume.least])[0]
    silent, silence = logged.silent_h or 0.0, max(1.0, WIDENED * _longest(logged.silences_h, volume.allowed))
    of_days = [f"{volume.said(day)}{_repeats(logged, day)}" for day in unusual or [shown]]
    of_silence = f"none for {silent:,.1f} hours, up to {silence:,.1f} are usual"
    known = replace(
        known, day_rows=volume.days[shown], usual_rows=usual_of(volume.days, shown), silence_limit_h=silence
    )
    if unusual or silent > silence:
        told = of_days * bool(unusual) + [of_silence] * (silent > silence)
        return replace(known, verdict="alarm", reason=" and ".join(told))
    return replace(known, verdict="usual", reason=f"{of_days[0]}; {of_silence}")


def _repeats(logged: LoggedQuality, day: int) -> str:
    """How many of the day's rows repeat another one; nothing where few do."""
    repeated = logged.repeated[day] if day < len(logged.repeated) else 0
    few = repeated < REPEATS * logged.days[day]
    return "" if few or not repeated else f", of which {repeated:,} repeat the key and the time of another"


def _longest(silences: Sequence[float], allowed: int) -> float:
    """The silence that was exceeded as often as is allowed."""
    return silences[min(allowed, len(silences) - 1)] if silences else 0.0
