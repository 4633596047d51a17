"""Pages are made ahead once the API server has started, by a thread that ends with it."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime

import pytest

from harness.project import ROOT
from pipeline.errors import LedgerError
from pipeline.pages import ahead


def test_each_page_is_made_once_and_one_that_fails_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread goes on to the next page after an error of ours and after any other."""
    made, all_made = [], threading.Event()

    def fails() -> None:
        raise LedgerError("ledger", "is away", "wait")

    looks = [lambda: made.append("first"), fails, lambda: 1 / 0, lambda: (made.append("last"), all_made.set())]
    monkeypatch.setattr(ahead, "import_pages", lambda: None)
    monkeypatch.setattr(ahead, "looks", lambda: looks)
    thread = ahead.Ahead()
    thread.start()
    assert all_made.wait(10)
    thread.stop()
    thread._thread.join(10)
    assert not thread._thread.is_alive()
    assert made == ["first", "last"]


def test_the_next_look_is_on_the_next_day() -> None:
    """It is one minute after midnight in UTC, also at the end of a year."""
    assert ahead._until_tomorrow(datetime(2026, 12, 31, 23, 59, tzinfo=UTC)) == 120


def test_only_a_server_that_started_makes_pages_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request begins nothing; the thread begins after the server was told of its start, and is told to stop at the end."""
    monkeypatch.syspath_prepend(str(ROOT / "plugins"))
    from pages_ahead import PagesAhead

    said: list[str] = []

    class Said:
        def start(self) -> None:
            said.append("started")

        def stop(self) -> None:
            said.append("stopped")

    monkeypatch.setattr(ahead, "Ahead", Said)

    async def app(scope: dict, receive: object, send: object) -> None:
        await send({"type": "lifespan.startup.complete" if scope["type"] == "lifespan" else "http.response.start"})

    async def send(message: dict) -> None:
        said.append(message["type"])

    asyncio.run(PagesAhead(app)({"type": "http"}, None, send))
    assert said == ["http.response.start"]
    said.clear()
    asyncio.run(PagesAhead(app)({"type": "lifespan"}, None, send))
    assert said == ["lifespan.startup.complete", "started", "stopped"]
