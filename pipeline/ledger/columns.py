"""Numbers inside the bodies as columns of SQL, on SQLite and Postgres: sums over a long ledger without reading its rows one by one."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from pipeline.ledger.store import EVENTS, Ledger

# 2026-03 of a time in ISO 8601.
MONTH = sa.func.substr(EVENTS.c.at, 1, 7)


def number(ledger: Ledger, *path: str) -> Any:
    """The number at that path in the body; NULL where the body has none."""
    if ledger.dialect == "sqlite":
        return sa.func.json_extract(EVENTS.c.body, _path(path), type_=sa.Float)
    return sa.cast(text(ledger, *path), sa.Float)


def text(ledger: Ledger, *path: str) -> Any:
    """The text at that path in the body; NULL where the body has none."""
    if ledger.dialect == "sqlite":
        return sa.func.json_extract(EVENTS.c.body, _path(path), type_=sa.String)
    return sa.func.json_extract_path_text(sa.cast(EVENTS.c.body, sa.JSON), *path, type_=sa.String)


def _path(path: tuple[str, ...]) -> Any:
    # In the statement itself: SQLite groups by an expression only where it sees that it is the same.
    return sa.literal_column("'$." + ".".join(path) + "'")
