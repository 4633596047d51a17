"""How requests come over a socket: whole, in pieces, several at once; each is answered in its turn, by the short way or the long."""

from __future__ import annotations

import json
import socket

import pytest

from harness.project import BODY
from harness.slot_server import server
from pipeline.serving.settings import Settings
from tests.support import raw_http


@pytest.fixture(scope="module", params=["auto", "on", "off"])
def running(request, churn_package, tmp_path_factory):
    settings = Settings(batching=request.param)
    with server(churn_package, tmp_path_factory.mktemp("server"), settings) as started:
        yield started


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
    connection.sendall(raw_http.request("wanted"))
    ((status, headers, body),) = answers(connection, 1)
    assert (status, headers["x-request-id"], headers["x-slot"]) == (200, "wanted", "blue")
    return body


def test_requests_sent_together_are_answered_in_their_order(connection):
    """Good and bad ones, predictions and pages, all in one piece."""
    wanted = prediction(connection)
    large = json.dumps({"dataframe_records": json.loads(BODY)["dataframe_records"] * 600}).encode()
    sent = [
        raw_http.request("a"),
        raw_http.request("b", b"no json"),
        raw_http.request("c", large),
        raw_http.request("d", method="GET", path="/ping"),
        raw_http.request("e"),
    ]
    sent += [
        raw_http.request("f", b'{"dataframe_records": []}'),
        raw_http.request("g", path="/nowhere"),
        raw_http.request("h"),
    ]
    connection.sendall(b"".join(sent))
    told = answers(connection, len(sent))
    assert [status for status, _, _ in told] == [200, 400, 200, 200, 200, 400, 404, 200]
    named = [headers.get("x-request-id") for _, headers, _ in told]
    assert named == ["a", "b", "c", None, "e", "f", None, "h"]
    assert told[0][2] == told[4][2] == told[7][2] == wanted
    assert len(json.loads(told[2][2])["predictions"]) == 600


@pytest.mark.parametrize("cut", [1, 20, 60, len(raw_http.request("p")) - len(BODY), len(raw_http.request("p")) - 3])
def test_a_request_in_pieces_is_answered_as_a_whole_one(connection, cut):
    wanted, request = prediction(connection), raw_http.request("p")
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for piece in (request[:cut], request[cut:] + raw_http.request("q")[:cut], raw_http.request("q")[cut:]):
        connection.sendall(piece)
    assert [(status, headers["x-request-id"], body) for status, headers, body in answers(connection, 2)] == [
        (200, "p", wanted),
        (200, "q", wanted),
    ]


@pytest.mark.parametrize("how", [{"headers": ["connection: close"]}, {"http": "1.0"}])
def test_who_wants_the_connection_closed_gets_it_closed(connection, how):
    connection.sendall(raw_http.request("last", BODY, *how.get("headers", []), http=how.get("http", "1.1")))
    ((status, headers, _),) = answers(connection, 1)
    assert (status, headers["x-request-id"], headers["connection"]) == (200, "last", "close")
    assert connection.recv(1) == b""


def test_chunks_that_come_at_once_are_one_body(connection):
    wanted = prediction(connection)
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (BODY[:9], BODY[9:], b""))
    connection.sendall(raw_http.request("chunks", chunks, "transfer-encoding: chunked") + raw_http.request("next"))
    assert [(s, b) for s, _, b in answers(connection, 2)] == [(200, wanted), (200, wanted)]


def test_chunks_that_lie_are_refused_and_the_connection_ends(connection):
    connection.sendall(raw_http.request("lie", b"5\r\nabcdefgh", "transfer-encoding: chunked"))
    file = connection.makefile("rb")
    assert int(file.readline().split()[1]) == 400
    assert file.read().endswith(b"Invalid HTTP request received.")


def test_who_expects_to_be_told_to_continue_is(connection):
    request = raw_http.request("patient", BODY, "expect: 100-continue")
    connection.sendall(request[: -len(BODY)])
    assert connection.recv(100).startswith(b"HTTP/1.1 100")
    connection.sendall(BODY)
    assert answers(connection, 1)[0][0] == 200
