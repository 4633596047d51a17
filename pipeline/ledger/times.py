"""Times of the ledger as numbers. It imports no database: tables of the command line use it."""

from __future__ import annotations

from datetime import datetime


def ms_of(time: str) -> int:
    """Milliseconds since 1970 of a time of the ledger."""
    return round(datetime.fromisoformat(time).timestamp() * 1000)
