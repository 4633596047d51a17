"""What strangers send, through the router: each request gets one answer, the right one or an error in JSON."""

from __future__ import annotations

import gzip
import json
import socket
import zlib
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from harness.project import BODY, ROOT
from harness.router import router
from harness.slot_server import server
from pipeline.rollout import probe
from pipeline.rollout.routing import route_file
from pipeline.rollout.routing.route import Route, RoutedSlot

INVOCATIONS = b"POST /churn/invocations HTTP/1.1"
CHUNKS = b"%x\r\n%b\r\n0\r\n" % (len(BODY), BODY)


def request(*headers: bytes, body: bytes = BODY, line: bytes = INVOCATIONS, length: bool = True) -> bytes:
    lines = [line, b"host: x", *headers, *([b"content-length: %d" % len(body)] if length else [])]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def chunked(body: bytes, *headers: bytes) -> bytes:
    return request(b"transfer-encoding: chunked", *headers, body=body, length=False)


def spend(value: bytes, calls: bytes = b"4") -> bytes:
    return request(body=b'{"dataframe_records":[{"spend":%b,"calls":%b,"plan":"plus"}]}' % (value, calls))


def plan(value: bytes, calls: bytes = b"4") -> bytes:
    return request(body=b'{"dataframe_records":[{"spend":1,"calls":%b,"plan":%b}]}' % (calls, value))


def csv(body: bytes) -> bytes:
    return request(b"content-type: text/csv", body=b"spend,calls,plan\n" + body)


def method(name: bytes, path: bytes = b"/churn/invocations") -> bytes:
    return request(line=b"%b %b HTTP/1.1" % (name, path))


ASKED = {
    "br": (request(b"content-encoding: br"), 415),
    "zstd": (request(b"content-encoding: zstd"), 415),
    "packed twice": (request(b"content-encoding: gzip, gzip", body=gzip.compress(gzip.compress(BODY))), 415),
    "deflate": (request(b"content-encoding: deflate", body=zlib.compress(BODY)), 200),
    "deflate without its header": (request(b"content-encoding: deflate", body=zlib.compress(BODY)[2:-4]), 400),
    "gzip that is none": (request(b"content-encoding: gzip"), 400),
    "gzip of nothing": (request(b"content-encoding: gzip", body=b""), 400),
    "chunks with a trailer": (chunked(CHUNKS + b"x-a: 1\r\n\r\n", b"trailer: x-a"), 200),
    "chunks with a wrong trailer": (chunked(CHUNKS + b"bad\r\n\r\n"), 400),
    "the same length twice": (request(b"content-length: %d" % len(BODY)), 200),
    "a length and chunks": (request(b"transfer-encoding: chunked", body=b"0\r\n\r\n"), 400),
    "a length of 4,000 digits": (request(b"content-length: %b%d" % (b"0" * 4000, len(BODY)), length=False), 200),
    "expect": (request(b"expect: 100-continue"), 200),
    "HTTP/1.0": (request(line=b"POST /churn/invocations HTTP/1.0"), 200),
    "absolute form": (request(line=b"POST http://other/churn/invocations HTTP/1.1"), 200),
    "absolute form of nothing": (request(line=b"POST http://other/x HTTP/1.1"), 404),
    **{name: (method(name.encode()), 405) for name in ("GET", "OPTIONS", "PUT", "PATCH", "DELETE", "TRACE")},
    "an unknown method": (method(b"FOO"), 400),
    "a query": (method(b"POST", b"/churn/invocations?a=b"), 200),
    "a query of 60,000 bytes": (method(b"POST", b"/churn/invocations?" + b"a" * 60_000), 200),
    "a query of 100,000 bytes": (method(b"POST", b"/churn/invocations?" + b"a" * 100_000), 400),
    "a byte of 0 in the path": (method(b"POST", b"/churn/%00"), 404),
    "bytes that are no UTF-8 in the path": (method(b"POST", b"/churn/%ff%fe"), 404),
    "a slash that is written out": (method(b"POST", b"/churn%2finvocations"), 404),
    "a header of 100,000 bytes": (request(b"x-a: " + b"a" * 100_000), 200),
    "5,000 headers": (request(*[b"x-%d: 1" % number for number in range(5000)]), 200),
    "NaN where it may not be": (spend(b"NaN"), 400),
    "NaN where it may be": (spend(b"1", b"NaN"), 200),
    "Infinity": (spend(b"Infinity"), 400),
    "-Infinity beside a NaN": (spend(b"-Infinity", b"NaN"), 400),
    "1e999": (spend(b"1e999"), 400),
    "1e999 beside a NaN": (spend(b"1e999", b"NaN"), 400),
    "1e-999": (spend(b"1e-999"), 200),
    "5,000 digits": (spend(b"9" * 5000), 400),
    "5,000 digits beside a NaN": (spend(b"9" * 5000, b"NaN"), 400),
    "5,000 digits after the point": (spend(b"1." + b"9" * 5000), 200),
    "bytes that are no UTF-8": (plan(b'"\xff"'), 400),
    "a surrogate in UTF-8": (plan(b'"\xed\xa0\x80"'), 400),
    "a lone surrogate": (plan(b'"\\ud800"'), 400),
    "a lone surrogate beside a NaN": (plan(b'"\\ud800"', b"NaN"), 400),
    "a lone surrogate as a name": (plan(b'"plus","\\udc00":1', b"NaN"), 400),
    "UTF-16": (request(body=BODY.decode().encode("utf-16")), 400),
    "UTF-32": (request(body=BODY.decode().encode("utf-32")), 400),
    "UTF-8 with a byte order mark": (request(body=b"\xef\xbb\xbf" + BODY), 200),
    "two documents": (request(body=BODY + BODY), 400),
    "no body": (request(body=b""), 400),
    "CSV in UTF-16": (csv("1,2,plus\n".encode("utf-16")), 400),
    "CSV with 1e999": (csv(b"1e999,2,plus\n"), 400),
    "CSV with a number in Arabic digits": (csv("١,2,plus\n".encode()), 400),
    "CSV with a number that is none": (csv(b"1" * 20_000 + b"x,2,plus\n"), 400),
    "another model of the protocol": (method(b"POST", b"/churn/v2/models/other/infer"), 404),
    "another version of the protocol's model": (method(b"POST", b"/churn/v2/models/churn/versions/99/infer"), 404),
}
# What is no HTTP: Go's server answers it before any middleware, and closes the connection.
NO_HTTP = {
    "two lengths": request(b"content-length: 5"),
    "a length below 0": request(b"content-length: -1", length=False),
    "no length that fits": request(b"content-length: 99999999999999999999", length=False),
    "a coding that is none": request(b"transfer-encoding: xchunked"),
    "a space before the colon": request(b"transfer-encoding : chunked"),
    "two hosts": request(b"host: y"),
    "a megabyte of headers": request(b"x-a: " + b"a" * 2_000_000),
}


@pytest.fixture(scope="module")
def port(churn_package, tmp_path_factory):
    """The port of a router before a real slot."""
    home = tmp_path_factory.mktemp("outsiders")
    with router(ROOT, home) as at, server(churn_package, home) as started:
        stamp = route_file.write(home, Route("churn", RoutedSlot("blue", "3", started.url))).stamp
        assert probe.wait_for_stamp(f"{at.router}/churn", stamp, 60)
        yield int(at.router.rpartition(":")[2])


def answered(port, raw):
    """(status, headers, body, what else came) of the last answer to the bytes."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(raw)
        file = connection.makefile("rb")
        status = 100
        while status < 200:
            status = int(file.readline().split()[1])
            headers = dict(line.decode().lower().strip().split(": ", 1) for line in iter(file.readline, b"\r\n"))
        body = file.read(int(headers["content-length"])) if "content-length" in headers else file.read()
        connection.settimeout(0.05)
        try:
            more = connection.recv(100)
        except TimeoutError:
            more = b""
        return status, headers, body, more


@pytest.mark.parametrize("name", ASKED)
def test_each_request_gets_one_answer(port, name):
    """The right status, a prediction or one error in JSON, and nothing behind it."""
    raw, code = ASKED[name]
    status, headers, body, more = answered(port, raw)
    assert (status, headers["content-type"], more) == (code, "application/json", b""), body
    assert json.loads(body)["predictions" if code == 200 else "error"]


@pytest.mark.parametrize("name", NO_HTTP)
def test_what_is_no_http_is_refused(port, name):
    """By the router's own server, which closes the connection: nothing of it reaches a slot."""
    status, headers, _, more = answered(port, NO_HTTP[name])
    assert status in (400, 431, 501)
    assert (headers["connection"], more) == ("close", b"")


def test_a_head_request_has_the_status_of_its_page(port):
    """HEAD is answered with the headers alone."""
    for path, code in ((b"/churn/v2/health/ready", 200), (b"/churn/invocations", 405), (b"/nobody", 404)):
        raw = request(line=b"HEAD %b HTTP/1.1" % path, body=b"", length=False)
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            connection.sendall(raw)
            assert int(connection.recv(1000).split()[1]) == code


LARGE = 15_000_000
ARRIVING = {
    "lists in lists": (b"[" * LARGE, b"x-a: 1", 400),
    "rows of empty lists": (b'{"instances":[%b' % (b"[[],[],[]]," * (LARGE // 11)), b"x-a: 1", 413),
    "one long text": (b'{"instances":["' + b"a" * LARGE, b"x-a: 1", 413),
    "one long number": (b'{"instances":[' + b"9" * LARGE, b"x-a: 1", 413),
    "lists in lists, packed": (gzip.compress(b"[" * LARGE, 0), b"content-encoding: gzip", 400),
    "lines of CSV": (b"spend,calls,plan\n" + b"1,2,plus\n" * (LARGE // 9), b"content-type: text/csv", 413),
}


@pytest.mark.parametrize("name", ARRIVING)
def test_a_large_body_is_refused_before_its_last_byte_was_sent(port, name):
    """A client that sends its 15 MB slowly has its answer after less than one, and the connection is closed."""
    body, header, code = ARRIVING[name]
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(request(header, b"content-length: %d" % len(body), body=b"", length=False))
        answer, sent = b"", 0
        while not answer and sent < 2**20 - 65536:
            sent += connection.send(body[sent : sent + 65536])
            answer = received_within(connection, 0.1)
        answer = answer or received_within(connection, 60)
        assert answer
        answer += b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, refusal = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % code), answer
    assert b"connection: close" in head.lower()
    assert json.loads(refusal)["error"]


def received_within(connection, seconds):
    connection.settimeout(seconds)
    try:
        return connection.recv(65536)
    except TimeoutError:
        return b""
    finally:
        connection.settimeout(60)


@pytest.mark.parametrize(("body", "code"), [(b" " * (2**24 + 1), 413), (b"[" * LARGE, 400)])
def test_a_client_that_is_still_sending_gets_the_slots_refusal(port, body, code):
    """The slot ends a connection that it reads no more only when the router has had its answer, so none becomes a 502."""

    def answered_with(_number):
        return httpx.post(f"http://127.0.0.1:{port}/churn/invocations", content=body, timeout=60).status_code

    with ThreadPoolExecutor(4) as clients:
        assert set(clients.map(answered_with, range(16))) == {code}
