"""How Airflow opens its SQLite file on one machine.

It waits for another writer as long as a busy machine may need. And a SAVEPOINT begins a transaction that may write:
left to itself Python's driver begins none there, SQLite one that reads first, and the write that follows is refused at
once ("database is locked", whatever the timeout) when anybody has written in between. Airflow creates backfills so; one
that is refused half-way is deleted under the scheduler, which ends.

A commit does not wait for the disk (synchronous=NORMAL): in WAL mode nothing is torn by it, and a machine that loses its
power loses the last states of tasks, which are safe to run again. Waiting, each of the processes of eight runs at once
holds the one write lock for as long as a slow disk takes, and another may give up. The ledger is another file, and waits.
"""

from __future__ import annotations

import sqlite3
from typing import Any


class Cursor(sqlite3.Cursor):
    def execute(self, sql: str, parameters: Any = ()) -> Cursor:
        if sql.startswith("SAVEPOINT") and not self.connection.in_transaction:
            super().execute("BEGIN IMMEDIATE")
        return super().execute(sql, parameters)


class Connection(sqlite3.Connection):
    def __init__(self, *arguments: Any, **more: Any):
        super().__init__(*arguments, **more)
        self.execute("PRAGMA synchronous=NORMAL")

    def cursor(self, factory: Any = Cursor) -> Any:
        return super().cursor(factory)


CONNECT_ARGUMENTS = {"timeout": 60, "factory": Connection}
ASYNC_CONNECT_ARGUMENTS = {"timeout": 60}
