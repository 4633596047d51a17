"""How rows are added on SQLite: the driver itself does it, because SQLAlchemy takes as long over two statements as the disk and the database.

What is guaranteed is what `Ledger` guarantees: one transaction, begun with the write lock (BEGIN IMMEDIATE), so that no two rows follow the
same one; WAL with synchronous FULL, so that a row that was returned is on the disk (fsync) before the next line of the caller runs; and the
file is whole by itself when the connection is closed and no other one is open. A connection is opened for each write: a file that was
restored or replaced in between is the one that is written.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa

LAST = "SELECT seq, hash FROM events ORDER BY seq DESC LIMIT 1"
COLUMNS = ("seq", "at", "run", "model", "kind", "step", "body", "previous", "hash")
INSERT = f"INSERT INTO events ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"
# So long a writer waits for another one.
WAIT_S = 30.0


def add_rows(engine: sa.Engine, rows_after: Callable[[int, str], Sequence[dict[str, Any]]], genesis: str) -> None:
    """Adds what `rows_after` makes of the last row's number and hash (0 and `genesis` without one), all or nothing. Raises sqlite3.Error."""
    # `Ledger` has made the file a WAL one; one that was put in its place and is none is as durable with its own journal.
    with contextlib.closing(_opened(engine)) as connection:
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("BEGIN IMMEDIATE")
        try:
            last = connection.execute(LAST).fetchone() or (0, genesis)
            rows = rows_after(*last)
            connection.executemany(INSERT, [tuple(row[name] for name in COLUMNS) for row in rows])
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise


def _opened(engine: sa.Engine) -> sqlite3.Connection:
    """As SQLAlchemy opens it, without its time."""
    names, options = engine.dialect.create_connect_args(engine.url)
    connection: sqlite3.Connection = sqlite3.connect(
        names[0], **{**options, "timeout": WAIT_S, "isolation_level": None}
    )
    return connection
