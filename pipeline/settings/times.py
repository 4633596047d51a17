"""Times and schedules as params.yaml writes them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

PRESETS = {
    f"@{often}" for often in ("hourly", "daily", "midnight", "weekly", "monthly", "quarterly", "yearly", "annually")
}
# The highest minute, hour, day, month and day of the week.
HIGHEST = (59, 23, 31, 12, 7)
# A value or a range of values, each a number or a name like mon, then a step; or the last, or the second monday of a month.
FIELD = re.compile(r"(?:\*|\?|([0-9]+|[a-z]{3})(?:-([0-9]+|[a-z]{3}))?)(?:/[0-9]+)?(?:#[1-5]|l)?|l[0-7]?")


def utc(value: datetime) -> datetime:
    """The time in UTC; a time without a zone is UTC already."""
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _written_as_time(value: object) -> object:
    if isinstance(value, bool | int | float):
        raise ValueError("write it like 2013-04-01T00:00:00Z")
    return value


def _in_supported_years(value: datetime) -> datetime:
    if not 1900 <= value.year < 9999:
        raise ValueError("the year must be from 1900 to 9998")
    return value


UtcTime = Annotated[
    datetime, BeforeValidator(_written_as_time), AfterValidator(utc), AfterValidator(_in_supported_years)
]


def _cron_schedule(cron: str) -> str:
    """As Airflow reads it, whose own check comes too late: it would take the model's Dag away."""
    fields = cron.split()
    fit = len(fields) == len(HIGHEST) and all(map(_fits, fields, HIGHEST))
    if cron not in PRESETS and not fit:
        raise ValueError("must be a cron schedule of five fields, like 0 6 * * *")
    return cron


def _fits(field: str, highest: int) -> bool:
    """Whether each value of a cron schedule's field has its form, and each number is at most `highest`."""
    parts = [FIELD.fullmatch(part) for part in field.lower().split(",")]
    return all(
        part is not None and all(int(n) <= highest for n in part.groups()[:2] if n and n.isdigit()) for part in parts
    )


Cron = Annotated[str, AfterValidator(_cron_schedule)]
