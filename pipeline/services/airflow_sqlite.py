"""Lets Airflow's processes share one SQLite file on one machine: connection arguments, and one writing request at a time.

1. A writer waits for another writer for up to a minute: a busy machine needs that.
2. A SAVEPOINT begins a write transaction. Python's driver begins none there, so SQLite begins one that reads first, and the
   write that follows is refused at once ("database is locked", whatever the timeout) when another connection has written in
   between. Airflow creates backfills this way; a refused one is deleted while the scheduler works on it, and the scheduler ends.
3. A commit does not wait for the disk (synchronous=NORMAL). In WAL mode this tears nothing. After a loss of power the last
   states of tasks are missing, and those tasks run again. The ledger is another file, whose commits wait.

docs/decisions.md compares this with Postgres as a wheel.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from typing import Any

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
READING_METHODS = ("GET", "HEAD", "OPTIONS")


class Cursor(sqlite3.Cursor):
    """Begins a write transaction before a SAVEPOINT that is in none."""

    def execute(self, sql: str, parameters: Any = ()) -> Cursor:
        if sql.startswith("SAVEPOINT") and not self.connection.in_transaction:
            super().execute("BEGIN IMMEDIATE")
        return super().execute(sql, parameters)


class Connection(sqlite3.Connection):
    """Commits without waiting for the disk, and makes cursors of the class above."""

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self.execute("PRAGMA synchronous=NORMAL")

    def cursor(self, factory: Any = Cursor) -> Any:
        return super().cursor(factory)


CONNECT_ARGUMENTS = {"timeout": 60, "factory": Connection}
ASYNC_CONNECT_ARGUMENTS = {"timeout": 60}


class OneWriterAtATime:
    """ASGI middleware: a request that may write begins when the request before it has ended.

    Airflow writes each action to its log in the event loop itself. When that write waits for another request's transaction,
    the loop stands still, and the other request needs the loop to commit. Both wait until the timeout of a minute, in which
    no request is answered and no task can report its heartbeat; then the first one is refused.
    """

    def __init__(self, app: Callable[[Message, Receive, Send], Awaitable[None]]):
        self._app = app
        self._turn = asyncio.Lock()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in READING_METHODS:
            await self._app(scope, receive, send)
            return
        # The whole request is read first: a client that sends slowly must not hold up the others.
        messages = [await receive()]
        while messages[-1]["type"] == "http.request" and messages[-1].get("more_body"):
            messages.append(await receive())

        async def replay() -> Message:
            return messages.pop(0) if messages else await receive()

        async with self._turn:
            await self._app(scope, replay, send)
