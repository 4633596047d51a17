"""Bodies are bounded in depth, values and memory before anything is parsed."""

from __future__ import annotations

import gzip
import json
import re
import struct
import threading
import time
import tracemalloc
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from pipeline.serving import forms
from pipeline.serving.app import App
from pipeline.serving.errors import RequestRefused
from pipeline.serving.identity import Identity
from pipeline.serving.memory import Memory
from pipeline.serving.runtime import Runtime
from pipeline.serving.scan import MAX_DEPTH, MAX_TEXT_BYTES, PIECE_BYTES, UNSCANNED_BYTES, Bounds, Scan
from pipeline.serving.settings import Settings

GOOD = {"spend": 10.0, "calls": 4, "plan": "plus"}
V2 = "/v2/models/churn/infer"


@pytest.fixture(scope="module")
def app(churn_package):
    # The process of the tests is larger than a slot.
    settings = Settings(memory_mb=8192)
    return App(Runtime.load(churn_package), None, Identity("churn", "3", "blue"), settings)


@pytest.fixture(scope="module")
def client(app):
    return TestClient(app)


def rows_of_lists(row, rows=15_000):
    return b'{"instances":[%b]}' % b",".join([row] * rows)


HOSTILE = {
    "rows of empty lists": (rows_of_lists(b"[%b]" % b",".join([b"[]"] * 500)), 413),
    "rows of empty objects": (rows_of_lists(b"[%b]" % b",".join([b"{}"] * 500)), 413),
    "one flat list": (b'{"inputs":[%b1]}' % (b"1," * 1_000_000), 413),
    "many keys": (b'{"inputs":{%b}}' % b",".join(b'"k%d":1' % n for n in range(300_000)), 413),
    "one key again and again": (b'{"inputs":{%b}}' % b",".join([b'"k":[]'] * 300_000), 413),
    "lists in lists": (b"[" * 1_000_000, 400),
    "objects in objects": (b'{"a":' * 500_000, 400),
    "lists in lists with a NaN": (b'{"instances":[NaN,%b' % (b"[" * 100_000), 400),
    "a long text": (b'{"instances":"%b"}' % (b"a" * 8_000_000), 413),
    "a huge number": (b'{"instances":[[%b, 1, "plus"]]}' % (b"9" * 1_000_000), 413),
    "UTF-16 with NaN": (("[" * 100_000).encode("utf-16") + b"NaN", 400),
}


@pytest.mark.parametrize("encoding", ["", "gzip", "deflate"])
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_body_is_refused(client, kind, encoding):
    """Whatever it is made of, and however it is packed, it is a 400 or a 413 with an error in JSON."""
    body, code = HOSTILE[kind]
    packed = {"": bytes, "gzip": gzip.compress, "deflate": zlib.compress}[encoding](body)
    headers = {"content-encoding": encoding} if encoding else {}
    for path in ("/invocations", V2):
        answer = client.post(path, content=packed, headers=headers)
        assert answer.status_code == code, answer.text
        assert answer.json()["error"]


def test_brackets_in_a_large_csv_are_text(client):
    """A CSV of any size keeps its meaning: its brackets and quotes are no JSON."""
    rows = b"".join(b'%d,4,plus,"[[[[[[[[[[ ""{"\n' % (n % 1000) for n in range(3_000))
    answer = client.post(
        "/invocations", content=b"spend,calls,plan,customer\n" + rows, headers={"content-type": "text/csv"}
    )
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["predictions"]) == 3_000


def test_a_csv_of_more_values_than_the_memory_holds_is_refused(churn_package):
    """A line of millions of commas is refused before it is parsed."""
    app = App(Runtime.load(churn_package), None, Identity("churn", "3", "blue"), Settings())
    body = b"spend,calls,plan\n" + b"," * 8_000_000
    assert TestClient(app).post("/invocations", content=body, headers={"content-type": "text/csv"}).status_code == 413


def test_a_csv_content_type_does_not_spare_the_v2_protocol_its_scan(client):
    """The v2 protocol reads JSON whatever the content type says, so the body is scanned as JSON."""
    answer = client.post(V2, content=b"[" * 1_000_000, headers={"content-type": "text/csv"})
    assert (answer.status_code, "deeper" in answer.text) == (400, True)


def test_a_refusal_costs_no_memory(client):
    """48 KB of gzip with 7.5 million lists are refused within 4 MB; parsed they take 400."""
    bomb = gzip.compress(HOSTILE["rows of empty lists"][0])
    assert len(bomb) < 50_000
    tracemalloc.start()
    assert client.post("/invocations", content=bomb, headers={"content-encoding": "gzip"}).status_code == 413
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 2**20


def test_a_request_of_all_rows_is_answered(client):
    """As many rows as `max_rows` in each form, packed or not, with commas, brackets and quotes in their texts."""
    rows = 10_000
    odd = {**GOOD, "plan": "plus", "customer": '[[[{"a,b":[\\"\\\\'}
    names, values = list(odd), list(odd.values())
    bodies = [
        {"dataframe_records": [odd] * rows},
        {"instances": [odd] * rows},
        {"dataframe_split": {"columns": names, "data": [values] * rows}},
        {"inputs": {name: [[value]] * rows for name, value in odd.items()}},
    ]
    for body in bodies:
        content = json.dumps(body).encode()
        for packed, headers in ((content, {}), (gzip.compress(content, 1), {"content-encoding": "gzip"})):
            answer = client.post("/invocations", content=packed, headers=headers)
            assert len(answer.json().get("predictions", [])) == rows, answer.text[:300]
    inputs = [
        {"name": n, "datatype": "BYTES" if type(v) is str else "FP64", "shape": [rows, 1], "data": [[v]] * rows}
        for n, v in odd.items()
    ]
    assert client.post(V2, json={"inputs": inputs}).status_code == 200


VALUES = st.recursive(
    st.none() | st.integers(-5, 5) | st.text(alphabet='ab"\\,:[]{}é/', max_size=6),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(alphabet='k"\\[', max_size=3), inner, max_size=4)
    ),
    max_leaves=20,
)


def depth_of(value):
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth_of, inner), default=0)


def marks_of(value):
    """Each list or object leads one value, each further value needs a comma, and each member a colon."""
    if not isinstance(value, dict | list):
        return 0
    inner = list(value.values()) if isinstance(value, dict) else value
    members = len(value) if isinstance(value, dict) else 0
    return 1 + max(len(inner) - 1, 0) + members + sum(map(marks_of, inner))


@settings(max_examples=150, deadline=None)
@given(value=VALUES, cuts=st.lists(st.integers(0, 200), max_size=4))
def test_the_scan_counts_as_the_parser_does(value, cuts):
    """Wherever the body is cut into pieces, also between a backslash and what it escapes."""
    body = json.dumps(value, ensure_ascii=False).encode()
    places = sorted({0, *(min(cut, len(body)) for cut in cuts), len(body)})
    depth = depth_of(value)
    scan = Scan(Bounds(depth, marks_of(value), ""))
    for start, end in zip(places, places[1:], strict=False):
        scan.feed(body[start:end])
    assert scan.values == marks_of(value)
    if depth:
        with pytest.raises(RequestRefused):
            Scan(Bounds(depth - 1, 10**9, "")).feed(body)
        with pytest.raises(RequestRefused):
            Scan(Bounds(depth, marks_of(value) - 1, "")).feed(body)


@pytest.mark.parametrize("backslashes", [1, 2, 3, 4, PIECE_BYTES - 6, PIECE_BYTES - 5, 2 * PIECE_BYTES + 1])
def test_a_run_of_backslashes_escapes_the_quote_or_not(backslashes):
    """An odd run does and an even run does not, also where it goes over the end of a piece."""
    scan = Scan(Bounds(MAX_DEPTH, 3, "", 10**9))
    text = b'["' + b"\\" * backslashes + b'",[]' + (b'"]' if backslashes % 2 else b"]")
    json.loads(text)
    scan.feed(text)
    assert scan.values == (1 if backslashes % 2 else 3)


def with_text(text):
    """A request with the text as a key, in each form: (path, body, headers)."""
    row = {**GOOD, "customer": text}
    tensors = [
        {"name": n, "shape": [1], "datatype": "BYTES" if type(v) is str else "FP64", "data": [v]}
        for n, v in row.items()
        if n != "customer"
    ]
    value = struct.pack("<I", len(text.encode())) + text.encode()
    parameters = {"binary_data_size": len(value)}
    last = {"name": "customer", "shape": [1], "datatype": "BYTES", "parameters": parameters}
    head = json.dumps({"inputs": [*tensors, last]}).encode()
    plain = json.dumps({"dataframe_records": [row]}).encode()
    return [
        ("/invocations", plain, {}),
        ("/invocations", plain.replace(b'"calls": 4', b'"calls": NaN'), {}),
        ("/invocations", gzip.compress(plain), {"content-encoding": "gzip"}),
        ("/invocations", json.dumps({"inputs": {n: [v] for n, v in row.items()}}).encode(), {}),
        ("/invocations", b"spend,calls,plan,customer\n10,4,plus,%b\n" % text.encode(), {"content-type": "text/csv"}),
        (V2, head + value, {"inference-header-content-length": str(len(head))}),
    ]


def test_a_value_has_a_length(client):
    """A text of 32 KiB is answered in each form, and one of a byte more is refused by its length."""
    for length, code in ((MAX_TEXT_BYTES, 200), (MAX_TEXT_BYTES + 1, 413)):
        for path, body, headers in with_text("t" * length):
            answer = client.post(path, content=body, headers=headers)
            assert answer.status_code == code, (length, path, headers, answer.text[:300])
            assert code == 200 or "32 KiB" in answer.json()["error"]


def test_spaces_are_refused_as_what_they_are(client):
    """Millions of spaces that were packed into little, in one gap or in many, are told as gaps, and not as texts alone."""
    for body in (b" " * 3_000_000, b'{"instances": [' + b"1,%b" % (b" " * 20_000) * 400):
        answer = client.post("/invocations", content=gzip.compress(body), headers={"content-encoding": "gzip"})
        assert (answer.status_code, "gap" in answer.json()["error"]) == (413, True), answer.text


@pytest.mark.parametrize("form", ["json", "csv"])
@pytest.mark.parametrize("letters", ["t" * 1000, "é" * 500])
def test_all_texts_together_have_a_length(client, form, letters):
    """Texts of a thousand bytes are answered up to 4 MiB in all, and refused by that above it; short ones are not counted."""
    for text, rows, code in ((letters, 4000, 200), (letters, 5000, 413), ("t" * 64, 10_000, 200)):
        if form == "json":
            data = [[1, 2, "plus", text]] * rows
            frame = {"dataframe_split": {"columns": ["spend", "calls", "plan", "customer"], "data": data}}
            body, headers = json.dumps(frame, ensure_ascii=False).encode(), {}
        else:
            body = b"spend,calls,plan,customer\n" + f"1,2,plus,{text}\n".encode() * rows
            headers = {"content-type": "text/csv"}
        answer = client.post("/invocations", content=body, headers=headers)
        assert answer.status_code == code, (rows, answer.text[:200])
        assert code == 200 or "4 MiB of text beyond the first 64 bytes" in answer.json()["error"]


@settings(max_examples=150, deadline=None)
@given(value=VALUES, cuts=st.lists(st.integers(0, 200), max_size=4))
def test_the_scan_finds_the_longest_value(value, cuts):
    """The longest run of bytes without a quote, and outside texts without a mark, wherever the body is cut."""
    body = json.dumps([value], ensure_ascii=False, separators=(",", ":")).encode()
    parts = re.findall(rb'"((?:[^"\\]|\\.)*)"|([^"\[\]{},:]+)', body)
    longest = max((len(text or plain) for text, plain in parts), default=0)
    places = sorted({0, *(min(cut, len(body)) for cut in cuts), len(body)})

    def scanned(most):
        scan = Scan(Bounds(10**9, 10**9, "", most))
        for start, end in zip(places, places[1:], strict=False):
            scan.feed(body[start:end])

    scanned(longest)
    if longest:
        with pytest.raises(RequestRefused):
            scanned(longest - 1)


@pytest.mark.parametrize(
    "body",
    [
        b"spend,calls,plan\n%bx,4,plus\n" % (b"1" * 30_000),
        b"spend,calls,plan\n%b,4,plus\n" % (b"1." * 15_000),
        b"%b,c0\n1\n" % b",".join(b"c%d" % n for n in range(200_000, -1, -1)),
        b"%b,c0\n1\n" % b",".join(b"c%d" % n for n in range(4_000, -1, -1)),
        b'spend,calls,plan\n1,1,"%b"\n' % (b"a" * 8_000_000),
        b"spend,calls,plan\n%b" % (b'"\n",' * 100_000),
    ],
)
def test_a_csv_that_is_wrong_late_is_refused_at_once(client, body):
    """A long number that is none, the last of many names given twice, a row of a hundred thousand lines."""
    # Of the processor, whatever else runs on the machine: each takes a tenth of a second at most.
    started = time.process_time()
    answer = client.post("/invocations", content=body, headers={"content-type": "text/csv"})
    assert answer.status_code in (400, 413), answer.text[:300]
    assert answer.json()["error"]
    assert time.process_time() - started < 5


def test_a_refusal_quotes_the_start_of_a_value(client):
    """Of a list of a hundred thousand values it writes forty characters, and no more is made of it."""
    body = b'{"instances":[[%b, 1, "plus"]]}' % (b"[%b1]" % (b"1," * 100_000))
    answer = client.post("/invocations", content=body)
    assert (answer.status_code, len(answer.json()["error"]) < 120) == (400, True)


def test_bytes_after_the_json_are_not_scanned(client, app):
    """The binary tensors of the v2 protocol hold any byte. On MLflow's path the header that names them means nothing."""
    rows = 8_000
    # 0x42425B5B as a float is 48.6: two of its bytes are brackets.
    columns = {"spend": b"[[BB" * rows, "calls": struct.pack("<f", 3) * rows}
    texts = struct.pack("<I4s", 4, b"plus") * rows
    inputs = [
        {"name": n, "datatype": "FP32", "shape": [rows, 1], "parameters": {"binary_data_size": len(data)}}
        for n, data in columns.items()
    ]
    inputs.append(
        {"name": "plan", "datatype": "BYTES", "shape": [rows, 1], "parameters": {"binary_data_size": len(texts)}}
    )
    head = json.dumps({"inputs": inputs}).encode()
    body = head + b"".join(columns.values()) + texts
    headers = {"inference-header-content-length": str(len(head))}
    assert len(body) > UNSCANNED_BYTES
    assert client.post(V2, content=body, headers=headers).status_code == 200
    hostile = HOSTILE["rows of empty lists"][0]
    assert client.post("/invocations", content=hostile, headers=headers).status_code == 413
    assert forms.json_end({forms.BINARY_LENGTH: b"9" * 5000}) is None


@pytest.mark.parametrize(("datatype", "value"), [("UINT8", b"\0"), ("FP16", b"\0\0"), ("BYTES", b"\0\0\0\0")])
def test_a_tensor_of_more_values_than_rows_is_refused(client, datatype, value):
    """By its size, before a value of it is made."""
    data = value * 4_000_000
    tensor = {"name": "spend", "datatype": datatype, "shape": [4_000_000]}
    head = json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": len(data)}}]}).encode()
    tracemalloc.start()
    answer = client.post(V2, content=head + data, headers={"inference-header-content-length": str(len(head))})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert answer.status_code == 413, answer.text
    assert peak < 4 * len(data) + 2**22


def test_more_inputs_than_columns_are_refused(client):
    """A v2 request with an input for each of ten thousand names."""
    inputs = [{"name": str(n), "datatype": "FP32", "shape": [1], "data": [1]} for n in range(10_000)]
    answer = client.post(V2, json={"inputs": inputs})
    assert (answer.status_code, answer.json()["error"]) == (
        400,
        "the body has 10000 inputs, and the model has 5 columns",
    )


def test_every_member_of_a_gzip_body_is_read(client):
    """Several members are one body; what follows them, or too many of them, is refused."""
    body = json.dumps({"dataframe_records": [GOOD] * 1000}).encode()
    members = gzip.compress(body[:500]) + gzip.compress(body[500:])
    headers = {"content-encoding": "gzip"}
    for content, code in (
        (members, 200),
        (members + b"rest", 400),
        (gzip.compress(body) + gzip.compress(b"") * 50, 400),
        (gzip.compress(b"") * 100_000, 400),
    ):
        assert client.post("/invocations", content=content, headers=headers).status_code == code
    packed = zlib.compress(body) + b"rest"
    assert client.post("/invocations", content=packed, headers={"content-encoding": "deflate"}).status_code == 400


def test_a_wide_request_needs_memory_that_the_slot_has(churn_package):
    """A slot with less memory refuses with the key of the setting to raise, and its next request is answered."""
    app = App(
        Runtime.load(churn_package), None, Identity("churn", "3", "blue"), Settings(max_rows=1_000_000, memory_mb=128)
    )
    client = TestClient(app)
    answer = client.post("/invocations", content=b'{"dataframe_records":[%b{}]}' % (b'{"spend":1},' * 300_000))
    assert answer.status_code == 413
    assert answer.json()["error"].endswith("split it, or raise rollout.serving.memory_mb")
    assert app._memory.reserved == 0
    assert client.post("/invocations", json={"dataframe_records": [GOOD]}).status_code == 200


def test_requests_share_the_memory():
    """What one has taken another cannot have: 429. What no request may have is a 413. All is given back."""
    memory = Memory(100)
    with memory.reservation() as first, memory.reservation() as second:
        first.take(60)
        with pytest.raises(RequestRefused) as busy, second.during(50):
            pass
        with pytest.raises(RequestRefused) as never:
            second.take(101)
        second.take(40)
        assert (busy.value.status, never.value.status) == (429, 413)
    assert memory.reserved == 0


def test_the_memory_is_counted_across_threads():
    """Parses in threads and bodies on the event loop lose no count."""
    memory = Memory(10**9)

    def work():
        for _ in range(2000):
            with memory.reservation() as own, own.during(7):
                own.take(3)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert memory.reserved == 0


def test_a_slots_memory_is_its_limit_less_what_it_takes():
    """Each process has its share, and never less than the least."""
    assert Memory.of(Settings(memory_mb=2**20)).limit > 2**39
    assert Memory.of(Settings(memory_mb=2**20, processes=4)).limit < 2**38
    assert Memory.of(Settings(memory_mb=1)).limit == 32 * 2**20
