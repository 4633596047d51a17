"""How requests come over a socket: whole, in pieces, several at once; each is answered in its turn, by the short way or the long."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest
from uvicorn.config import Config
from uvicorn.server import ServerState

from pipeline.serving.app import App
from pipeline.serving.http_connection import Connection
from pipeline.serving.identity import Identity
from pipeline.serving.runtime import Runtime
from pipeline.serving.settings import Settings
from tests.support.server import server

BODY = b'{"dataframe_records": [{"spend": 10.0, "calls": 4, "plan": "plus"}]}'


@pytest.fixture(scope="module", params=["auto", "on", "off"])
def running(request, churn_package, tmp_path_factory):
    settings = Settings(batching=request.param)
    with server(churn_package, tmp_path_factory.mktemp("server"), settings) as started:
        yield started


def asked(name, body=BODY, *headers, path="/invocations", http="1.1", method="POST"):
    lines = [f"{method} {path} HTTP/{http}", "host: x", f"x-request-id: {name}", *headers]
    if method == "POST" and not any(header.startswith("transfer-encoding") for header in headers):
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (body if method == "POST" else b"")


def answers(connection, count):
    """(status, headers, body) of each answer, read off one connection."""
    file, told = connection.makefile("rb"), []
    for _ in range(count):
        status = int(file.readline().split()[1])
        headers = dict(line.decode().strip().lower().split(": ", 1) for line in iter(file.readline, b"\r\n"))
        told.append((status, headers, file.read(int(headers["content-length"]))))
    return told


@pytest.fixture
def connection(running):
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as opened:
        yield opened


def prediction(connection):
    connection.sendall(asked("wanted"))
    ((status, headers, body),) = answers(connection, 1)
    assert (status, headers["x-request-id"], headers["x-slot"]) == (200, "wanted", "blue")
    return body


def test_requests_sent_together_are_answered_in_their_order(connection):
    """Good and bad ones, predictions and pages, all in one piece."""
    wanted = prediction(connection)
    large = json.dumps({"dataframe_records": json.loads(BODY)["dataframe_records"] * 600}).encode()
    sent = [asked("a"), asked("b", b"no json"), asked("c", large), asked("d", method="GET", path="/ping"), asked("e")]
    sent += [asked("f", b'{"dataframe_records": []}'), asked("g", path="/nowhere"), asked("h")]
    connection.sendall(b"".join(sent))
    told = answers(connection, len(sent))
    assert [status for status, _, _ in told] == [200, 400, 200, 200, 200, 400, 404, 200]
    named = [headers.get("x-request-id") for _, headers, _ in told]
    assert named == ["a", "b", "c", None, "e", "f", None, "h"]
    assert told[0][2] == told[4][2] == told[7][2] == wanted
    assert len(json.loads(told[2][2])["predictions"]) == 600


@pytest.mark.parametrize("cut", [1, 20, 60, len(asked("p")) - len(BODY), len(asked("p")) - 3])
def test_a_request_in_pieces_is_answered_as_a_whole_one(connection, cut):
    wanted, request = prediction(connection), asked("p")
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for piece in (request[:cut], request[cut:] + asked("q")[:cut], asked("q")[cut:]):
        connection.sendall(piece)
    assert [(status, headers["x-request-id"], body) for status, headers, body in answers(connection, 2)] == [
        (200, "p", wanted),
        (200, "q", wanted),
    ]


@pytest.mark.parametrize("how", [{"headers": ["connection: close"]}, {"http": "1.0"}])
def test_who_wants_the_connection_closed_gets_it_closed(connection, how):
    connection.sendall(asked("last", BODY, *how.get("headers", []), http=how.get("http", "1.1")))
    ((status, headers, _),) = answers(connection, 1)
    assert (status, headers["x-request-id"], headers["connection"]) == (200, "last", "close")
    assert connection.recv(1) == b""


def test_chunks_that_come_at_once_are_one_body(connection):
    wanted = prediction(connection)
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (BODY[:9], BODY[9:], b""))
    connection.sendall(asked("chunks", chunks, "transfer-encoding: chunked") + asked("next"))
    assert [(s, b) for s, _, b in answers(connection, 2)] == [(200, wanted), (200, wanted)]


def test_chunks_that_lie_are_refused_and_the_connection_ends(connection):
    connection.sendall(asked("lie", b"5\r\nabcdefgh", "transfer-encoding: chunked"))
    file = connection.makefile("rb")
    assert int(file.readline().split()[1]) == 400
    assert file.read().endswith(b"Invalid HTTP request received.")


def test_who_expects_to_be_told_to_continue_is(connection):
    request = asked("patient", BODY, "expect: 100-continue")
    connection.sendall(request[: -len(BODY)])
    assert connection.recv(100).startswith(b"HTTP/1.1 100")
    connection.sendall(BODY)
    assert answers(connection, 1)[0][0] == 200


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
    sent = {"short": asked("a"), "long": asked("b", method="GET", path="/ping")}

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
