"""Times as params.yaml writes them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator

LONGEST_DAYS = 36_500
# An hour may be written as 0.04: the windows of years, each with versions to compare, are then a number that memory holds.
SHORTEST_WINDOW_DAYS = 0.04
YEARS = "the year must be from 1900 to 9998"
NUMBER = re.compile(r"[-+]?[0-9]*\.?[0-9]*(?:e[-+]?[0-9]+)?", re.IGNORECASE)


def utc(value: datetime) -> datetime:
    """The time in UTC; a time without a zone is UTC already. Raises ValueError for one that UTC has no year for."""
    try:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(YEARS) from error


def _written_as_time(value: object) -> object:
    # Digits alone, with quotes or without, would be seconds since 1970.
    if isinstance(value, bool | int | float) or (isinstance(value, str) and NUMBER.fullmatch(value.strip())):
        raise ValueError("write it like 2013-04-01T00:00:00Z")
    return value


def in_supported_years(value: datetime) -> datetime:
    """The time as it is. Raises ValueError for one from which a window could reach beyond what Python has years for."""
    if not 1900 <= value.year < 9999:
        raise ValueError(YEARS)
    return value


def _known_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"must be a time zone like Europe/Berlin or UTC; got {value}") from error
    return value


ZoneName = Annotated[str, AfterValidator(_known_zone)]
UtcTime = Annotated[
    datetime, BeforeValidator(_written_as_time), AfterValidator(utc), AfterValidator(in_supported_years)
]
