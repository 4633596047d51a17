"""What arguments of commands are, as their texts say."""

from __future__ import annotations

import argparse
from datetime import datetime


def count(text: str) -> int:
    """A number of things that are shown, 0 for all. Raises argparse.ArgumentTypeError."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number; write it like 1000")
    return int(text)


def time(text: str) -> datetime:
    """A time in UTC, from ISO 8601. Raises argparse.ArgumentTypeError, also for a year that params.yaml refuses."""
    from pipeline.settings.times import YEARS, in_supported_years, utc

    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time; write it like 2013-04-01T00:00:00Z") from error
    try:
        return in_supported_years(utc(found))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {YEARS}") from error


def reason(text: str) -> str:
    """Why a person does something: one line, as the ledger, tables and messages have it."""
    return " ".join(text.split())
