"""A body is scanned while it arrives: however it is cut into pieces and packed, it is refused or read as the whole of it is."""

from __future__ import annotations

import asyncio
import csv
import gzip
import io
import json
import zlib
from contextlib import contextmanager

import orjson
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from pipeline.serving import arrival, forms, scan
from pipeline.serving.app import App
from pipeline.serving.arrival import REST_BYTES, Incoming, PartialBodies
from pipeline.serving.errors import BadRequest, RequestRefused
from pipeline.serving.identity import Identity
from pipeline.serving.memory import Memory
from pipeline.serving.runtime import Runtime
from pipeline.serving.settings import Settings

CUTS = st.lists(st.integers(0, 400), max_size=6)
PACKERS = {
    b"": bytes,
    b"gzip": gzip.compress,
    b"deflate": zlib.compress,
    b"gzip of two members": lambda body: gzip.compress(body[:50]) + gzip.compress(body[50:]),
}
# What a body may be made of, right or wrong.
JSON_PARTS = st.lists(
    st.sampled_from([b"[", b"]", b"{", b"}", b",", b":", b'"', b"\\", b"12", b"NaN", b"a" * 30, "é".encode()]),
    min_size=1,
).map(b"".join)
CSV_PARTS = st.lists(
    st.sampled_from([b",", b"\n", b"\r\n", b"\r", b'"', b'""', b'",', b"a", b"1.5", b"\n\n", "é".encode()]), min_size=1
).map(b"".join)
BLOCK = 16


@contextmanager
def small_blocks():
    with pytest.MonkeyPatch.context() as patch:
        for module in (arrival, scan):
            patch.setattr(module, "PIECE_BYTES", BLOCK)
        yield


def in_pieces(scanned, body, cuts, encoding):
    """(the body that arrived, or the status and the text of its refusal; the memory that parsing it takes)."""
    places = sorted({0, *(min(cut, len(body)) for cut in cuts), len(body)})
    with small_blocks(), Memory(2**30).reservation() as own:
        try:
            arriving = arrival.Arrival(scanned, encoding, Settings(), own)
            for start, end in zip(places, places[1:], strict=False):
                arriving.feed(body[start:end])
            return arriving.whole(), scanned.parse_bytes()
        except RequestRefused as refusal:
            return refusal.status, str(refusal)


def as_a_whole(scanned, body):
    """The same of a scan that gets the whole body."""
    with small_blocks():
        try:
            scanned.feed(body)
            return body, scanned.parse_bytes()
        except RequestRefused as refusal:
            return refusal.status, str(refusal)


@pytest.mark.parametrize("packed", PACKERS)
@settings(max_examples=200, deadline=None)
@given(body=JSON_PARTS, zero=st.booleans(), cuts=CUTS, end=st.none() | st.integers(0, 100))
@example(body=b"[[[[" + b",1" * 20, zero=False, cuts=[4], end=None)
@example(body=b"[[[[", zero=True, cuts=[4], end=None)
def test_json_in_pieces_has_the_verdict_of_the_whole(packed, body, zero, cuts, end):
    """Depth, values, texts and memory are the same wherever the body is cut, and it arrives as it was."""
    body += b"\0" * zero
    bounds = scan.Bounds(3, 12, "", 40)
    whole = as_a_whole(scan.Scan(bounds, end), body)
    assert in_pieces(scan.Scan(bounds, end), PACKERS[packed](body), cuts, packed.partition(b" ")[0]) == whole


@pytest.mark.parametrize("packed", PACKERS)
@settings(max_examples=200, deadline=None)
@given(body=CSV_PARTS, cuts=CUTS)
def test_csv_in_pieces_has_the_verdict_of_the_whole(packed, body, cuts):
    """A CSV too, wherever a quote, its double or a line end is cut."""
    whole = as_a_whole(scan.CsvScan(2, 3), body)
    assert in_pieces(scan.CsvScan(2, 3), PACKERS[packed](body), cuts, packed.partition(b" ")[0]) == whole


@settings(max_examples=200, deadline=None)
@given(body=CSV_PARTS, cuts=CUTS, max_rows=st.integers(0, 5))
@example(body=b'a\n"1\n2\n3\n4\n', cuts=[], max_rows=1)
@example(body=b'a\nb"\n2\n3\n4\n', cuts=[4], max_rows=1)
@example(body=b'a\n"b"x\n2\n3\n4\n', cuts=[5], max_rows=1)
def test_a_csv_is_refused_by_its_lines_only_when_it_has_too_many_rows(body, cuts, max_rows):
    """The parser finds more rows than are allowed in whatever the count of lines refuses, before any fault."""
    verdict = in_pieces(scan.CsvScan(2, max_rows), body, cuts, b"")
    plain = b'"' not in body
    rows = []
    try:
        for row in csv.reader(io.StringIO(body.decode(), newline=""), strict=True):
            if row:
                rows.append(row)
            if len(rows) > max_rows + 1:
                break
    except csv.Error:
        plain = False
    if verdict[0] == 413:
        assert len(rows) == max_rows + 2
    elif plain and body.endswith(b"\n"):
        assert len(rows) <= max_rows + 1


JSON_WITH_NAN = st.recursive(
    st.none() | st.just(float("nan")) | st.integers(-5, 5) | st.text(alphabet='NaN"\\,é', max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(alphabet='Na"\\', max_size=4), inner, max_size=4)
    ),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None)
@given(value=JSON_WITH_NAN, step=st.integers(1, 30), ascii_only=st.booleans())
def test_a_nan_is_read_as_a_missing_value(value, step, ascii_only):
    """As Python's json reads it, and never within a text, in pieces of any size."""
    body = json.dumps(value, ensure_ascii=ascii_only).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forms, "PIECE_BYTES", step)
        assert forms._json(body) == json.loads(body, parse_constant={"NaN": None}.__getitem__)


@settings(max_examples=200, deadline=None)
@given(body=JSON_PARTS, step=st.integers(1, 30))
@example(body=b'"\0\1NaN"', step=9)
@example(body=b"[1NaN]", step=9)
def test_what_is_no_json_is_refused_with_a_nan_too(body, step):
    """Whatever surrounds the NaN: what Python's json refuses is refused."""
    assume(b"NaN" in body)
    try:
        expected = json.loads(body, parse_constant={"NaN": None}.__getitem__)
        orjson.dumps(expected)
    except (ValueError, TypeError):
        with pytest.raises(BadRequest):
            forms._json(body)
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forms, "PIECE_BYTES", step)
        assert forms._json(body) == expected


class Client:
    """Sends a body in pieces of 64 KB; `sent` counts what was taken of it."""

    def __init__(self, body, headers):
        self.body, self.sent = body, 0
        self.headers = {b"content-type": b"application/json", b"content-length": b"%d" % len(body), **headers}
        self.answer = []

    async def receive(self):
        piece = self.body[self.sent : self.sent + 65536]
        self.sent += len(piece)
        return {"type": "http.request", "body": piece, "more_body": self.sent < len(self.body)}

    async def send(self, message):
        self.answer.append(message)

    def status(self, app, path="/invocations"):
        scope = {"type": "http", "method": "POST", "path": path, "headers": list(self.headers.items())}
        asyncio.run(app(scope, self.receive, self.send))
        return self.answer[0]["status"]

    @property
    def closed(self):
        return [b"connection", b"close"] in self.answer[0]["headers"]


@pytest.fixture(scope="module")
def app(churn_package):
    # The process of the tests is larger than a slot.
    return App(Runtime.load(churn_package), None, Identity("churn", "3", "blue"), Settings(memory_mb=8192))


LISTS = b'{"instances":[%b]}' % b",".join([b"[%b]" % b",".join([b"[]"] * 500)] * 10_000)
LARGE = {
    "lists in lists": (b"[" * 10_000_000, {}, 400, 200_000),
    "lists in lists, packed with level 0": (
        gzip.compress(b"[" * 10_000_000, 0),
        {b"content-encoding": b"gzip"},
        400,
        200_000,
    ),
    "rows of empty lists": (LISTS, {}, 413, 600_000),
    "rows of empty objects": (LISTS.replace(b"[]", b"{}"), {}, 413, 600_000),
    "many values": (b'{"inputs":{"spend":[%b1]}}' % (b"1," * 4_000_000), {}, 413, 400_000),
    "one text": (b'{"instances":"%b"}' % (b"a" * 10_000_000), {}, 413, 200_000),
    "one number": (b'{"instances":[[%b]]}' % (b"9" * 10_000_000), {}, 413, 200_000),
    "many texts": (b'{"instances":[%b]}' % b",".join([b'"%b"' % (b"a" * 30_000)] * 500), {}, 413, 5_000_000),
    "parquet": (b"PAR1" + b"\0" * 10_000_000, {}, 400, 200_000),
    "lines": (b"spend,calls,plan\n" + b'1,2,"plus"\n' * 1_000_000, {b"content-type": b"text/csv"}, 413, 300_000),
    "commas": (b"spend,calls,plan\n" + b"," * 10_000_000, {b"content-type": b"text/csv"}, 413, 400_000),
    "unknown packing": (b"x" * 10_000_000, {b"content-encoding": b"br"}, 415, 200_000),
    "too large": (b" " * (2**24 + 1), {}, 413, 0),
}


@pytest.mark.parametrize("kind", LARGE)
def test_a_large_body_is_refused_before_it_is_there(app, kind):
    """At the first piece over a limit, with the status that the whole body would get; the connection ends."""
    body, headers, status, most = LARGE[kind]
    client = Client(body, headers)
    assert client.status(app) == status, client.answer
    assert client.sent <= most
    assert client.closed
    assert app._memory.reserved == app._intake._partial._bytes == 0


def test_the_rest_of_a_smaller_body_is_read(app):
    """A client that reads no answer before it has sent all gets its refusal on a connection that stays."""
    client = Client(b"[" * REST_BYTES, {})
    assert client.status(app) == 400
    assert (client.sent, client.closed) == (REST_BYTES, False)


def test_a_large_request_that_is_allowed_is_read_whole(app):
    """In pieces, packed or not, its predictions are those of the same rows sent alone."""
    row = {"spend": 10.0, "calls": 4, "plan": "plus", "customer": "c" * 100}
    body = json.dumps({"dataframe_records": [row] * 10_000}).encode()
    for headers, sent in (({}, body), ({b"content-encoding": b"gzip"}, gzip.compress(body, 0))):
        client = Client(sent, headers)
        assert client.status(app) == 200, client.answer
        predictions = set(orjson.loads(client.answer[1]["body"])["predictions"])
        assert len(predictions) == 1
    assert app._memory.reserved == app._intake._partial._bytes == 0


def test_many_bodies_at_once_are_bounded():
    """The bytes of incomplete bodies have a bound together (429), and are given back."""
    limits = Settings(max_body_bytes=100)
    partial = PartialBodies(limits)

    async def receive():
        return {"type": "http.request", "body": b"x" * 90, "more_body": True}

    async def fill():
        bodies = [Incoming({}, receive, limits, partial) for _ in range(5)]
        for incoming in bodies[:4]:
            await incoming.piece()
        with pytest.raises(RequestRefused) as refused:
            await bodies[4].piece()
        for incoming in bodies:
            incoming.close()
        return refused.value.status

    assert asyncio.run(fill()) == 429
    assert partial._bytes == 0
