"""A connection without a socket: how it ends, and what it says when the model breaks."""

from __future__ import annotations

import asyncio

import pytest
from uvicorn.config import Config
from uvicorn.server import ServerState

from harness.project import BODY
from pipeline.serving.app import App
from pipeline.serving.http_connection import Connection
from pipeline.serving.identity import Identity
from pipeline.serving.runtime import Runtime
from pipeline.serving.settings import Settings
from tests.support import raw_http


class _Wire(asyncio.Transport):
    """What a connection writes, and whether it has closed."""

    def __init__(self):
        super().__init__()
        self.written, self.closed = b"", False

    def write(self, data):
        assert not self.closed
        self.written += data

    def close(self):
        self.closed = True

    def is_closing(self):
        return self.closed

    def pause_reading(self):
        pass

    def resume_reading(self):
        pass


@pytest.mark.parametrize(("first", "second"), [("short", None), ("short", "long"), ("long", None)])
def test_an_end_lets_every_request_that_has_begun_be_answered(churn_package, first, second):
    """The server ends in the very turn of the loop in which they came; then the connection closes."""
    app = App(Runtime.load(churn_package), None, Identity("churn", "1", "blue"), Settings(batching="on"))
    config = Config(app, http=Connection, lifespan="off", proxy_headers=False, log_level="warning")
    sent = {"short": raw_http.request("a"), "long": raw_http.request("b", method="GET", path="/ping")}

    async def end():
        wire, connection = _Wire(), Connection(config, ServerState(), {})
        connection.connection_made(wire)
        connection.data_received(sent[first] + (sent[second] if second else b""))
        connection.shutdown()
        assert not wire.closed
        for _ in range(20):
            await asyncio.sleep(0)
        connection.connection_lost(None)
        return wire

    wire = asyncio.run(end())
    assert wire.written.count(b"HTTP/1.1 200 OK") == (2 if second else 1)
    assert wire.closed


def test_what_breaks_in_the_model_is_every_requests_answer(churn_package, capsys):
    """Of those that run together; the server goes on."""
    app = App(Runtime.load(churn_package), None, Identity("churn", "1", "blue"), Settings(batching="on"))
    told = []

    async def two():
        app.runtime.predict = None
        for _ in range(2):
            assert app.at_once(b"/invocations", [], BODY, lambda status, lines, body: told.append((status, body)))
        await asyncio.sleep(0)

    asyncio.run(two())
    assert [status for status, _ in told] == [500, 500]
    assert "TypeError" in capsys.readouterr().err
    (line,) = [line for line in app.counts.text()[0].splitlines() if b'code="500"' in line]
    assert line.endswith(b" 2.0")
