"""The one parser of times.

YYYY-MM-DD, then optionally T or a space and HH:MM, :SS, a point or a comma with 1 to 9 digits (cut to microseconds), then optionally
Z, UTC, +HH, +HHMM or +HH:MM. A time without a zone is one of the schema's zone; a date alone is its begin. An hour that a clock goes
through twice is its second time, and one that it leaves out is the hour after, as in pipeline.data.source.

A number is a time only where the schema has an `epoch`, the unit of the time since 1970-01-01 UTC; its digits as a text are the same
number. A whole number is exact, nanoseconds are cut to microseconds; one with a fraction is rounded to microseconds.

No other form: without an epoch 20240201 is a number to half of all programs, and 2024-W05 a week. docs/params.md has the same list.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any, Literal
from zoneinfo import ZoneInfo

import numpy as np

from pipeline.serving.schema.spelling import MAX_DIGITS, MISSING, NUMBER, Unreadable, missing, shown

Unit = Literal["s", "ms", "us", "ns"]

FORMS = "2024-02-01, 2024-02-01T10:00:00Z or 2024-02-01 10:00:00.123+01:00 (all forms: docs/params.md, Times)"
# Where there is no epoch.
NO_NUMBER = "; a number is a time only as an event time, with models.NAME.source.epoch"
TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)"
    r"(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?\s?(?:(Z|UTC)|([+-])(\d\d):?(\d\d)?)?)?",
    re.ASCII,
)
# The forms of it that Python reads in the same way, in a fifth of the time.
USUAL = re.compile(
    r"\d{4}-\d\d-\d\d(?:[T ](?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d{1,6})?)?(?:Z|[+-][01]\d:[0-5]\d)?)?", re.ASCII
)
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
# In microseconds: a float, so that many times at once are divided in the same way.
DAY, MICROSECOND = 86_400_000_000.0, timedelta(microseconds=1)
DAY_AWAY = timedelta(days=1)
UNIX = datetime(1970, 1, 1, tzinfo=UTC)
# Microseconds of a unit; a nanosecond is none.
MICROS = {"s": 10**6, "ms": 10**3, "us": 1}
WHOLE = re.compile(r"[+-]?\d{1,30}", re.ASCII)


def zone_of(name: str) -> tzinfo:
    """The zone of that name. Raises ZoneInfoNotFoundError."""
    return UTC if name == "UTC" else ZoneInfo(name)


def instant(cell: Any, zone: tzinfo = UTC, epoch: Unit | None = None) -> datetime | None:
    """The time in UTC, of `zone` where it names none; a number is so many `epoch` since 1970. None for a missing value.

    A time of numpy has no zone of its own; what is finer than a microsecond is cut. Raises Unreadable.
    """
    if isinstance(cell, np.datetime64):
        cell = cell.astype("datetime64[us]").item()
    if isinstance(cell, datetime):
        if missing(cell):
            return None
        return _local(cell, zone) if cell.tzinfo is None else cell.astimezone(UTC)
    if isinstance(cell, date):
        return _local(datetime(cell.year, cell.month, cell.day), zone)
    if type(cell) is not str:
        if missing(cell):
            return None
        if isinstance(cell, bool) or not isinstance(cell, int | float | np.integer | np.floating | Decimal):
            raise _no_time(cell)
        if epoch is None:
            raise _no_time(cell, NO_NUMBER)
        return _since_1970(cell, int(cell) if isinstance(cell, int | np.integer) else float(cell), epoch)
    if USUAL.fullmatch(cell):
        try:
            time = datetime.fromisoformat(cell)
            return _local(time, zone) if time.tzinfo is None else time.astimezone(UTC)
        except (ValueError, OverflowError):
            raise _no_time(cell) from None
    text = cell.strip()
    if text in MISSING:
        return None
    parts = TIME.fullmatch(text)
    if parts is None and len(text) <= MAX_DIGITS and NUMBER.fullmatch(text):
        if epoch is None:
            raise _no_time(cell, NO_NUMBER)
        return _since_1970(cell, int(text) if WHOLE.fullmatch(text) else float(text), epoch)
    try:
        if parts is None:
            raise ValueError
        return _of_parts(parts, zone)
    except (ValueError, OverflowError):
        raise _no_time(cell) from None


def _no_time(cell: Any, why: str = "") -> Unreadable:
    return Unreadable(f"must be a time like {FORMS}; got {shown(cell)}{why}")


def _since_1970(cell: Any, number: int | float, unit: Unit) -> datetime:
    """The time of a number, exact for a whole one."""
    try:
        if isinstance(number, float) and number.is_integer():
            number = int(number)
        if isinstance(number, int):
            micros = number // 1000 if unit == "ns" else number * MICROS[unit]
        else:
            micros = round(number / 1000 if unit == "ns" else number * MICROS[unit])
        return UNIX + timedelta(microseconds=micros)
    except (ValueError, OverflowError):
        raise _no_time(cell) from None


def _local(time: datetime, zone: tzinfo) -> datetime:
    """A time without a zone as one of `zone`, in UTC."""
    if zone is UTC:
        return _in_utc(time)
    if 1 < time.year < 9999:
        offset = zone.utcoffset(time)
        # Far from any change of the clock there is one offset only.
        if offset is not None and zone.utcoffset(time - DAY_AWAY) == offset == zone.utcoffset(time + DAY_AWAY):
            return _in_utc(time - offset)
    return max(time.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))


def _in_utc(time: datetime) -> datetime:
    """The same as replace(tzinfo=UTC), in a fifth of the time."""
    return datetime.combine(time, time.time(), UTC)


def _of_parts(parts: re.Match[str], own: tzinfo) -> datetime:
    year, month, day, hour, minute, second = (int(part or 0) for part in parts.groups()[:6])
    fraction, named, sign, hours, minutes = parts.groups()[6:]
    micros = int(((fraction or "") + "000000")[:6])
    if not named and not sign:
        return _local(datetime(year, month, day, hour, minute, second, micros), own)
    zone = UTC
    if sign:
        offset = timedelta(hours=int(hours), minutes=int(minutes or 0))
        zone = timezone(-offset if sign == "-" else offset)
    return datetime(year, month, day, hour, minute, second, micros, tzinfo=zone).astimezone(UTC)


def canonical(cell: Any, zone: tzinfo = UTC, epoch: Unit | None = None) -> str | None:
    """The time's one text, in UTC: 2024-02-01T10:00:00Z, with microseconds where it has some."""
    if type(cell) is str and _of_canonical(cell) is not None:
        return cell
    time = instant(cell, zone, epoch)
    return None if time is None else time.isoformat().replace("+00:00", "Z")


def _of_canonical(text: str) -> datetime | None:
    """The time of a text that is a time's one text, without a fraction. Most clients write it so, and this takes a fifth of the time."""
    if len(text) != 20 or text[19] != "Z" or text[10] != "T" or not text.isascii():
        return None
    if text[4] + text[7] + text[13] + text[16] != "--::":
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def days(cell: Any, zone: tzinfo = UTC, epoch: Unit | None = None) -> float | None:
    """What a model gets of a datetime: days since 2000-01-01 UTC."""
    time = (_of_canonical(cell) if type(cell) is str else None) or instant(cell, zone, epoch)
    return None if time is None else (time - EPOCH) // MICROSECOND / DAY


def days_since_1970(milliseconds: int) -> float:
    """The same of a time in milliseconds since 1970, as the prediction log has the time of a receipt."""
    return (UNIX + timedelta(milliseconds=milliseconds) - EPOCH) // MICROSECOND / DAY


def days_of(times: np.ndarray) -> np.ndarray:
    """The same of many times in UTC: float64 for a datetime64 of any unit, NaN where one is missing."""
    micros = times.astype("datetime64[us]") - np.datetime64(EPOCH.replace(tzinfo=None), "us")
    return np.where(np.isnat(times), np.nan, micros.astype("int64") / DAY)


# What a model may get of a datetime beside its days, in the schema's zone: each a whole number.
PARTS: dict[str, Callable[[datetime], int]] = {
    "hour": lambda time: time.hour,
    "weekday": lambda time: time.weekday(),
    "month": lambda time: time.month,
    "year_day": lambda time: time.timetuple().tm_yday,
}
# The days from the time to its row's event time, which a calendar does not know: see `ages`.
AGE = "age"


def calendar(value: float, parts: Sequence[str], zone: tzinfo = UTC) -> tuple[float, ...]:
    """The parts of a time in days, as its calendar has them in `zone`; NaN where it is missing, and for an age."""
    if value != value:
        return (math.nan,) * len(parts)
    time = of_days(value)
    # In the first and the last hours that there are it stays UTC.
    with contextlib.suppress(OverflowError):
        time = time if zone is UTC else time.astimezone(zone)
    return tuple(math.nan if part == AGE else float(PARTS[part](time)) for part in parts)


def calendars(days: np.ndarray, parts: Sequence[str], zone: tzinfo = UTC) -> np.ndarray:
    """The same of many, float64 (times, parts)."""
    different, places = np.unique(days, return_inverse=True)
    found = [calendar(value, parts, zone) for value in different.tolist()]
    return np.array(found, "float64").reshape(len(different), len(parts))[places]


def in_calendar(days: float, parts: Sequence[str], given: Sequence[float], zone: tzinfo = UTC) -> datetime:
    """A time that is `days`, which float32 may have moved by a minute, and has the `given` parts: where the minute changes the hour, the
    first or the last moment of the hour beside it. An age is none of them."""
    time = of_days(days)
    if calendar(days, parts, zone) == tuple(given):
        return time
    quarter = time.replace(minute=time.minute // 15 * 15, second=0, microsecond=0)
    for other in (quarter + timedelta(minutes=15), quarter - timedelta(microseconds=1)):
        if calendar((other - EPOCH) // MICROSECOND / DAY, parts, zone) == tuple(given):
            return other
    return time


def of_days(value: float) -> datetime:
    """The time of `days`. A float32 may lie beyond the last time that there is."""
    try:
        return EPOCH + timedelta(days=value)
    except OverflowError:
        return (datetime.max if value > 0 else datetime.min).replace(tzinfo=UTC)
