"""How Airflow opens its SQLite file on one machine, and how its API server writes to it: one request after the other.

It waits for another writer as long as a busy machine may need. And a SAVEPOINT begins a transaction that may write:
left to itself Python's driver begins none there, SQLite one that reads first, and the write that follows is refused at
once ("database is locked", whatever the timeout) when anybody has written in between. Airflow creates backfills so; one
that is refused half-way is deleted under the scheduler, which ends.

A commit does not wait for the disk (synchronous=NORMAL): in WAL mode nothing is torn by it, and a machine that loses its
power loses the last states of tasks, which are safe to run again. The ledger is another file, and waits.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from typing import Any

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
READS = ("GET", "HEAD", "OPTIONS")


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


class OneWriterAtATime:
    """ASGI middleware: a request that may write begins when the one before has ended.

    Airflow writes each action to its log in the event loop itself. When that has to wait for another request's transaction, the
    loop stands still, and the other request needs the loop to commit: both wait until the timeout, a minute, in which nobody is
    answered and no task can tell that it lives; then the first is refused.
    """

    def __init__(self, app: Callable[[Message, Receive, Send], Awaitable[None]]):
        self._app = app
        self._turn = asyncio.Lock()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in READS:
            await self._app(scope, receive, send)
            return
        # All of it first: a client that is slow to send must not hold up the others.
        sent = [await receive()]
        while sent[-1]["type"] == "http.request" and sent[-1].get("more_body"):
            sent.append(await receive())

        async def again() -> Message:
            return sent.pop(0) if sent else await receive()

        async with self._turn:
            await self._app(scope, again, send)
