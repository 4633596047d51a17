"""Cron schedules as params.yaml writes them. Airflow's own check comes too late: it would take the model's Dag away.

Airflow reads a schedule with croniter, which takes some fields for what nobody meant: `1-1` and `2-2` for every day and month,
`*/90` for every hour. Such a field is refused too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, ValidationInfo

from pipeline.settings.section import RECORDED

# The runs of a preset in 13 weeks.
OFTEN = {
    "@hourly": 2184.0,
    "@daily": 91.0,
    "@midnight": 91.0,
    "@weekly": 13.0,
    "@monthly": 3.0,
    "@quarterly": 1.0,
    "@yearly": 0.25,
    "@annually": 0.25,
}
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
DAYS_OF_MONTH = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
EVERY = ("*", "?")
LAST = 99  # stands for the last day of a month
ALL_DAYS = set(range(1, 32))
# All values, one value or a range of values, then a step.
PART = re.compile(r"(?:\*|([0-9]+|[a-z]{3})(?:-([0-9]+|[a-z]{3}))?)(?:/([0-9]+))?")
# The second monday, or the last one, of a month.
NTH_WEEKDAY = re.compile(r"([0-7]|[a-z]{3})#([1-5])|l[0-7]")


@dataclass(frozen=True)
class _Field:
    name: str
    lowest: int
    highest: int
    names: tuple[str, ...] = ()

    def values(self, written: str) -> set[int]:
        """The values that a part of the field stands for. Raises ValueError for a part that is wrong."""
        part = PART.fullmatch(written)
        if part is None:
            raise ValueError(f"{self.name} {written!r} cannot be read")
        first, last, step = part.groups()
        low = self.lowest if first is None else self._number(first)
        high = self._number(last) if last else low if first and not step else self.highest
        if last and high == 0 and self is DAY_OF_WEEK:
            high = 7  # mon-sun
        if last and low >= high:
            raise ValueError(f"{self.name} {written!r} must go from a lower value to a higher one")
        if step and not 1 <= int(step) <= self.highest - self.lowest + 1:
            raise ValueError(f"{self.name} {written!r}: the step must be from 1 to {self.highest - self.lowest + 1}")
        return set(range(low, high + 1, int(step or 1)))

    def _number(self, written: str) -> int:
        if written in self.names:
            return self.names.index(written) + self.lowest
        if not written.isdigit() or not self.lowest <= int(written) <= self.highest:
            raise ValueError(f"{self.name} {written!r} must be from {self.lowest} to {self.highest}")
        return int(written)


MINUTE, HOUR, DAY_OF_MONTH = _Field("minute", 0, 59), _Field("hour", 0, 23), _Field("day of the month", 1, 31)
MONTH, DAY_OF_WEEK = _Field("month", 1, 12, MONTHS), _Field("day of the week", 0, 7, DAYS)


def _cron_schedule(cron: str, info: ValidationInfo) -> str:
    if info.context != RECORDED and cron not in OFTEN:
        _refuse_wrong(cron)
    return cron


def _refuse_wrong(cron: str) -> None:
    fields = cron.lower().split()
    if len(fields) != 5:
        raise ValueError("must be a cron schedule of five fields, like 0 6 * * *")
    minute, hour, day, month, weekday = fields
    for field, written in ((MINUTE, minute), (HOUR, hour)):
        _values(field, written)
    months, days = _values(MONTH, month), _days_of_month(day)
    nth = _days_of_nth_weekday(weekday)
    # With a plain day of the week too, Airflow runs on either of both days.
    if (nth or weekday in EVERY) and not any(_ever(m, days, nth or ALL_DAYS) for m in months):
        raise ValueError(
            f"day {day!r}, month {month!r} and day of the week {weekday!r} never meet, so it would never run"
        )


def _values(field: _Field, written: str) -> set[int]:
    return {value for part in written.split(",") for value in field.values(part)}


def _days_of_month(written: str) -> set[int]:
    """The days that the field stands for, LAST among them for the last one of a month."""
    if written == "?":
        return ALL_DAYS
    return {day for part in written.split(",") for day in ({LAST} if part == "l" else DAY_OF_MONTH.values(part))}


def _ever(month: int, days: set[int], nth: set[int]) -> bool:
    """Whether the month has, in some year, one of `days` that is in `nth` too. There LAST stands for its last seven days."""
    longest = DAYS_OF_MONTH[month - 1]
    shortest = 28 if month == 2 else longest
    of_month = days | ({shortest, longest} if LAST in days else set())
    of_weekday = nth | (set(range(shortest - 6, longest + 1)) if LAST in nth else set())
    return any(day <= longest for day in of_month & of_weekday - {LAST})


def _days_of_nth_weekday(weekday: str) -> set[int]:
    """The days of a month on which days such as its second monday can be; none for plain days of the week. Raises ValueError."""
    parts = weekday.split(",") if weekday != "?" else []
    nth = [match for part in parts if (match := NTH_WEEKDAY.fullmatch(part))]
    for part in parts:
        if not NTH_WEEKDAY.fullmatch(part):
            DAY_OF_WEEK.values(part)
    for day, _ in (match.groups() for match in nth if match[1]):
        DAY_OF_WEEK.values(day)
    if nth and len(nth) < len(parts):
        raise ValueError(f"day of the week {weekday!r} mixes plain days with a day such as the second one of a month")
    weeks = [{LAST} if match[2] is None else range(7 * int(match[2]) - 6, 7 * int(match[2]) + 1) for match in nth]
    return {day for week in weeks for day in week}


def runs_a_quarter(cron: str) -> float:
    """How often a schedule runs in 13 weeks, on average over a year."""
    if cron in OFTEN:
        return OFTEN[cron]
    minute, hour, day, month, weekday = cron.lower().split()
    a_day = len(_values(MINUTE, minute)) * len(_values(HOUR, hour))
    months = len(_values(MONTH, month)) / 12
    days = _days_of_month(day)
    some_days = min(1.0, len(days) / 30.4)
    if weekday in EVERY:
        share = some_days
    elif nth := _days_of_nth_weekday(weekday):
        share = min(1.0, len(nth) / 7 / 30.4)
    else:
        of_week = len({value % 7 for part in weekday.split(",") for value in DAY_OF_WEEK.values(part)}) / 7
        # With a plain day of the month too, it runs on either of both days.
        share = of_week if day in EVERY else 1 - (1 - of_week) * (1 - some_days)
    return a_day * months * share * 91


Cron = Annotated[str, AfterValidator(_cron_schedule)]
