"""A connection without a socket: how it ends, and how a failing model is answered."""

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
    """Records what a connection writes and whether it has closed."""

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


@pytest.mark.parametrize(("first", "second"), [("direct", None), ("direct", "asgi"), ("asgi", None)])
def test_an_end_lets_every_request_that_has_begun_be_answered(churn_package, first, second):
    """The server ends in the turn of the event loop in which they arrived; the connection closes after the last answer."""
    app = App(Runtime.load(churn_package), None, Identity("churn", "1", "blue"), Settings(batching="on"))
    config = Config(app, http=Connection, lifespan="off", proxy_headers=False, log_level="warning")
    sent = {"direct": raw_http.request("a"), "asgi": raw_http.request("b", method="GET", path="/ping")}

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


def test_a_model_that_fails_is_answered_by_500_and_logged(churn_package, caplog):
    """Every request of the batch gets the 500, the log gets the traceback, and both are counted."""
    app = App(Runtime.load(churn_package), None, Identity("churn", "1", "blue"), Settings(batching="on"))
    responses = []

    async def two():
        app.runtime.predict = None
        for _ in range(2):
            assert app.handle_direct(b"/invocations", [], BODY, lambda status, lines, body: responses.append(status))
        await asyncio.sleep(0)

    asyncio.run(two())
    assert responses == [500, 500]
    assert "TypeError" in caplog.text
    (line,) = [line for line in app.metrics.page()[0].splitlines() if b'code="500"' in line]
    assert line.endswith(b" 2.0")
