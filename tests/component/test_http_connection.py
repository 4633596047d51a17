"""Requests over a socket: whole, in pieces, several at once. Each is answered in its order, directly or through ASGI."""

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
    """(status, headers, body) of the next `count` answers on a connection."""
    file, read = connection.makefile("rb"), []
    for _ in range(count):
        status = int(file.readline().split()[1])
        headers = dict(line.decode().strip().lower().split(": ", 1) for line in iter(file.readline, b"\r\n"))
        read.append((status, headers, file.read(int(headers["content-length"]))))
    return read


@pytest.fixture
def connection(running):
    with socket.create_connection(("127.0.0.1", running.port), timeout=60) as opened:
        yield opened


def prediction(connection):
    connection.sendall(raw_http.request("single"))
    ((status, headers, body),) = answers(connection, 1)
    assert (status, headers["x-request-id"], headers["x-slot"]) == (200, "single", "blue")
    return body


def test_requests_sent_together_are_answered_in_their_order(connection):
    """Predictions, refusals and pages, sent in one piece."""
    expected = prediction(connection)
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
    received = answers(connection, len(sent))
    assert [status for status, _, _ in received] == [200, 400, 200, 200, 200, 400, 404, 200]
    ids = [headers.get("x-request-id") for _, headers, _ in received]
    assert ids == ["a", "b", "c", None, "e", "f", None, "h"]
    assert received[0][2] == received[4][2] == received[7][2] == expected
    assert len(json.loads(received[2][2])["predictions"]) == 600


@pytest.mark.parametrize("cut", [1, 20, 60, len(raw_http.request("p")) - len(BODY), len(raw_http.request("p")) - 3])
def test_a_request_in_pieces_is_answered_as_a_whole_one(connection, cut):
    """Wherever the pieces are cut: in the headers, between headers and body, or in the body."""
    expected, request = prediction(connection), raw_http.request("p")
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for piece in (request[:cut], request[cut:] + raw_http.request("q")[:cut], raw_http.request("q")[cut:]):
        connection.sendall(piece)
    assert [(status, headers["x-request-id"], body) for status, headers, body in answers(connection, 2)] == [
        (200, "p", expected),
        (200, "q", expected),
    ]


@pytest.mark.parametrize("how", [{"headers": ["connection: close"]}, {"http": "1.0"}])
def test_a_client_can_have_the_connection_closed(connection, how):
    """By `connection: close`, or by HTTP 1.0."""
    connection.sendall(raw_http.request("last", BODY, *how.get("headers", []), http=how.get("http", "1.1")))
    ((status, headers, _),) = answers(connection, 1)
    assert (status, headers["x-request-id"], headers["connection"]) == (200, "last", "close")
    assert connection.recv(1) == b""


def test_chunks_that_arrive_together_are_one_body(connection):
    """A chunked request is answered as one with a length."""
    expected = prediction(connection)
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (BODY[:9], BODY[9:], b""))
    connection.sendall(raw_http.request("chunks", chunks, "transfer-encoding: chunked") + raw_http.request("next"))
    assert [(s, b) for s, _, b in answers(connection, 2)] == [(200, expected), (200, expected)]


def test_invalid_chunks_get_a_400_and_close_the_connection(connection):
    """The length of a chunk must be that of its data."""
    connection.sendall(raw_http.request("invalid", b"5\r\nabcdefgh", "transfer-encoding: chunked"))
    file = connection.makefile("rb")
    assert int(file.readline().split()[1]) == 400
    assert file.read().endswith(b'{"error":"the request is not valid HTTP"}')


def test_expect_100_continue_is_answered(connection):
    """The body is sent after the 100, and the prediction follows."""
    request = raw_http.request("patient", BODY, "expect: 100-continue")
    connection.sendall(request[: -len(BODY)])
    assert connection.recv(100).startswith(b"HTTP/1.1 100")
    connection.sendall(BODY)
    assert answers(connection, 1)[0][0] == 200


@pytest.mark.parametrize("protocol", ["websocket", "h2c"])
@pytest.mark.parametrize("cut", [0, 60, -5])
def test_a_request_for_another_protocol_is_answered_in_this_one(connection, protocol, cut):
    """As a plain request, in its order, wherever it is cut; the next one on the connection too."""
    expected = prediction(connection)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    wish = ("connection: keep-alive, Upgrade, HTTP2-Settings", f"upgrade: {protocol}", "http2-settings: AAMAAABk")
    request = raw_http.request("other", BODY, *wish)
    for piece in (raw_http.request("before") + request[:cut], request[cut:] + raw_http.request("after")):
        connection.sendall(piece)
    assert [(s, h["x-request-id"], b) for s, h, b in answers(connection, 3)] == [
        (200, name, expected) for name in ("before", "other", "after")
    ]
    connection.sendall(raw_http.request("page", b"", *wish, method="GET", path="/ping"))
    assert answers(connection, 1)[0][0] == 200


def test_a_tunnel_is_refused(connection):
    """CONNECT is a 400 in JSON."""
    connection.sendall(raw_http.request("tunnel", b"", method="CONNECT", path="example.org:80"))
    status, headers, body = answers(connection, 1)[0]
    assert (status, headers["content-type"]) == (400, "application/json")
    assert json.loads(body)["error"] == "CONNECT is not supported"


@pytest.mark.parametrize("start", [b"", b"{"])
def test_a_body_that_does_not_come_gets_a_408(churn_package, tmp_path, start):
    """After `request_s`, with the first byte of the body or without."""
    head = raw_http.request("late", b"", "content-length: 100").replace(b"content-length: 0\r\n", b"")
    with (
        server(churn_package, tmp_path, Settings(request_s=0.5)) as started,
        socket.create_connection(("127.0.0.1", started.port), timeout=60) as opened,
    ):
        opened.sendall(head + start)
        ((status, headers, body),) = answers(opened, 1)
    assert (status, headers["connection"]) == (408, "close")
    assert json.loads(body)["error"] == "the body did not arrive within 0.5 s"
