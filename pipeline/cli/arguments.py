"""What arguments of commands are, as their texts say."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from datetime import datetime

EMPTY = re.compile(r"(--[a-z-]+=)?")


def refuse_empty(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """Wrong usage (SystemExit 2) where one of a command's words is empty, as a variable of the shell is that is not set: no name would
    mean all models, or the newest version, and no folder the one that the command runs in. A reason may be empty."""
    for before, word in zip(("", *words), words, strict=False):
        if EMPTY.fullmatch(word) and before != "--reason" and not word.startswith("--reason"):
            what = word.rstrip("=") or (before if before.startswith("--") else f"what follows {before or 'perennial'}")
            parser.error(f"{what} is empty; is a variable of the shell not set?")


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
