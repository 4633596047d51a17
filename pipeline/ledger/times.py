"""Times of the ledger as numbers. It imports no database: tables of the command line use it."""

from __future__ import annotations

from datetime import UTC, datetime


def ms_of(time: str) -> int:
    """Milliseconds since 1970 of a time of the ledger."""
    return round(datetime.fromisoformat(time).timestamp() * 1000)


def iso(ms: int) -> str:
    """Milliseconds since 1970 as the ledger writes a time."""
    at = datetime.fromtimestamp(ms // 1000, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z"
