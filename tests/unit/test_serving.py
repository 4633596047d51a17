"""The server answers what evaluation recorded, says who answered, and refuses by field and row."""

import asyncio
import gzip
import hashlib
import json
import shutil
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey
from starlette.testclient import TestClient

from pipeline.serving.app import App
from pipeline.serving.batching import Runner
from pipeline.serving.errors import PackageRefused
from pipeline.serving.identity import Identity
from pipeline.serving.runtime import Runtime
from pipeline.serving.settings import Settings

GOOD = {"spend": 10.0, "calls": 4, "plan": "plus"}


@pytest.fixture(scope="module")
def built(churn_package):
    return churn_package


@pytest.fixture(scope="module")
def client(built):
    return served(built)


def served(package, log=None, **settings):
    return TestClient(App(Runtime.load(package), log, Identity("churn", "3", "blue"), Settings(**settings)))


def test_golden_requests_get_the_recorded_answers(client, built):
    golden = json.loads((built / "golden.json").read_text())
    answer = client.post("/invocations", json=golden["request"])
    assert answer.json()["predictions"] == pytest.approx(golden["predictions"], abs=1e-6)


def test_every_answer_says_who_gave_it(client):
    answer = client.post("/invocations", json={"dataframe_records": [GOOD]}, headers={"x-request-id": "abc"})
    who = {name: answer.headers[name] for name in ("x-model", "x-model-version", "x-slot", "x-request-id")}
    assert who == {"x-model": "churn", "x-model-version": "3", "x-slot": "blue", "x-request-id": "abc"}


def test_all_forms_of_a_request_give_the_same_answer(client):
    names, values = list(GOOD), list(GOOD.values())
    answers = [
        client.post("/invocations", json=body).json()["predictions"]
        for body in (
            {"dataframe_records": [GOOD]},
            {"instances": [GOOD]},
            {"dataframe_split": {"columns": names[::-1], "data": [values[::-1]]}},
            {"instances": [values]},
            {"inputs": {name: [value] for name, value in GOOD.items()}},
        )
    ]
    inputs = [{"name": n, "datatype": "BYTES", "shape": [1, 1], "data": [v]} for n, v in GOOD.items()]
    v2 = client.post("/v2/models/churn/infer", json={"inputs": inputs}).json()
    assert [v2["outputs"][0]["data"]] * len(answers) == answers
    assert v2["model_version"] == "3"


def test_health_and_metadata(client):
    assert client.get("/v2/health/live").status_code == client.get("/v2/health/ready").status_code == 200
    told = client.get("/v2/models/churn").json()
    assert [i["name"] for i in told["inputs"]] == ["spend", "calls", "plan"]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"dataframe_records": [GOOD, {"spend": 1.0, "plan": "plus"}]}, "row 1: column calls is missing"),
        ({"dataframe_records": [GOOD | {"spend": "much"}]}, "row 0: column spend wants a number"),
        ({"dataframe_records": [GOOD | {"spend": True}]}, "row 0: column spend wants a number"),
        ({"dataframe_records": [GOOD | {"plan": 3}]}, "row 0: column plan wants text"),
        ({"dataframe_records": [GOOD | {"spend": 1e300}]}, "row 0: column spend wants a finite number"),
        ({"dataframe_records": [GOOD | {"age": 3}]}, "row 0: column age is unknown"),
        ({"dataframe_records": [GOOD | {"customer": {"a": 1}}]}, "row 0: column customer wants text or a whole number"),
        ({"dataframe_records": [GOOD | {"seen_at": "nonsense"}]}, "row 0: column seen_at wants a time"),
        ({"dataframe_records": [GOOD | {"spend": 1e39}]}, "row 0: column spend wants a finite number"),
        ({"dataframe_records": [GOOD | {"spend": None}]}, "row 0: column spend may not be missing"),
        ({"dataframe_records": [GOOD, GOOD | {"plan": "free"}]}, "row 1: column plan knows basic, plus, not"),
        ({"dataframe_records": [GOOD, 3]}, "row 1: wants an object"),
        ({"inputs": {"spend": [1, 2], "calls": [1], "plan": ["plus"]}}, "calls 1"),
        ({"inputs": {"spend": [1], "calls": [1], "plan": ["plus"], "age": [1]}}, "column age is unknown"),
        (
            {"dataframe_split": {"columns": [*GOOD, "spend"], "data": [[1, 2, "plus", 3]]}},
            "column spend is there twice",
        ),
        ({"dataframe_records": [GOOD], "instances": [GOOD]}, "wants dataframe_records"),
        ({"dataframe_records": []}, "no rows"),
        ({"dataframe_split": {"columns": ["spend"], "data": [[1, 2]]}}, "row 0: wants 1 values"),
        ({"rows": []}, "wants dataframe_records"),
        ([1, 2], "wants dataframe_records"),
    ],
)
def test_a_bad_request_names_the_field_and_the_row(client, body, told):
    answer = client.post("/invocations", content=json.dumps(body).encode())
    assert answer.status_code == 400
    assert told in answer.json()["error"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"dataframe_records": [{"spend": Infinity, "calls": NaN}]}',
        b'{"dataframe_records": [{"plan": "\\ud800", "calls": NaN}]}',
        b'{"dataframe_records": [{"plan": "\\ud800"}]}',
        b"9" * 400,
    ],
)
def test_bytes_that_are_no_request_get_a_400(client, body):
    assert client.post("/invocations", content=body).status_code == 400


def test_what_is_over_a_limit_is_refused(built):
    """Bytes and rows, packed or not."""
    small = served(built, max_body_bytes=2000, max_rows=2)
    bomb = gzip.compress(b" " * 10**6)
    for content, headers in ((b" " * 2001, {}), (bomb, {"content-encoding": "gzip"})):
        answer = small.post("/invocations", content=content, headers=headers)
        assert (answer.status_code, answer.json()["error"]) == (413, "the body is larger than 0.00190735 MiB")
    many = small.post("/invocations", json={"dataframe_records": [GOOD] * 3})
    assert (many.status_code, many.json()["error"]) == (413, "the request has 3 rows, at most 2 are answered at once")


def test_packed_bodies_are_unpacked(client):
    body = json.dumps({"dataframe_records": [GOOD]}).encode()
    plain = client.post("/invocations", content=body).json()
    for encoding, packed in (("gzip", gzip.compress(body)), ("deflate", zlib.compress(body)), ("identity", body)):
        assert client.post("/invocations", content=packed, headers={"content-encoding": encoding}).json() == plain
    for encoding, packed, code in (("gzip", body, 400), ("gzip", gzip.compress(body)[:-9], 400), ("br", body, 415)):
        answer = client.post("/invocations", content=packed, headers={"content-encoding": encoding})
        assert answer.status_code == code, answer.text


def test_with_keys_only_who_has_one_may_ask(built):
    """params.yaml holds digests; health stays open, for the router asks it."""
    guarded = served(built, api_keys=tuple(hashlib.sha256(key).hexdigest() for key in (b"one", b"two")))
    body = {"dataframe_records": [GOOD]}
    for headers in ({}, {"x-api-key": "three"}, {"x-api-key": ""}, {"authorization": "Bearer three"}):
        assert guarded.post("/invocations", json=body, headers=headers).status_code == 401
    for headers in ({"x-api-key": "one"}, {"x-api-key": "two"}, {"authorization": "Bearer two"}):
        assert guarded.post("/invocations", json=body, headers=headers).status_code == 200
    assert guarded.post("/v2/models/churn/infer", json={"inputs": []}).status_code == 401
    assert guarded.get("/v2/health/ready").status_code == 200


def test_a_byte_that_changed_is_refused(built, tmp_path):
    """Of the model, and of the manifest that is signed."""
    signed = (built / "manifest.json").read_bytes()
    key = SigningKey.generate()
    public, signature = key.verify_key.encode().hex(), key.sign(signed).signature.hex()
    Runtime.load(built, public, signature)
    stranger = SigningKey.generate().verify_key.encode().hex()
    for other in ((stranger, signature), (public, "00" * 64), (public, "")):
        with pytest.raises(PackageRefused, match=r"manifest\.json is not what was signed"):
            Runtime.load(built, *other)
    shutil.copytree(built, tmp_path / "package")
    model = tmp_path / "package" / "model.onnx"
    changed = bytearray(model.read_bytes())
    changed[len(changed) // 2] ^= 1
    model.write_bytes(changed)
    with pytest.raises(PackageRefused, match=r"model\.onnx is not what was packaged"):
        Runtime.load(tmp_path / "package")


def test_requests_that_come_together_run_together(built):
    """Each gets its own answer; the model has run fewer times than it was asked."""
    runtime = Runtime.load(built)
    rows = [runtime.signature.of_records([GOOD | {"spend": float(spend)}]) for spend in range(20, 60)]
    ran = []

    async def ask():
        runner = Runner(runtime, "on", lambda: ran.append(1))
        return await asyncio.gather(*(runner.predict(row) for row in rows))

    together = asyncio.run(ask())
    assert [float(a[0]) for a in together] == [float(runtime.predict(row)[0]) for row in rows]
    assert len(ran) == 1


def test_a_model_that_fails_is_every_waiting_requests_answer(built, monkeypatch):
    """A 500 with no more than that, and the next request is answered."""
    runtime = Runtime.load(built)
    client = TestClient(App(runtime, None, Identity("churn", "3", "blue"), Settings(batching="on")))
    fails = iter([True, False])
    predict = runtime.predict
    monkeypatch.setattr(runtime, "predict", lambda rows: 1 / 0 if next(fails) else predict(rows))
    body = {"dataframe_records": [GOOD]}
    assert [client.post("/invocations", json=body).status_code for _ in range(2)] == [500, 200]


def test_an_answer_that_is_no_number_is_no_answer(built, monkeypatch):
    runtime = Runtime.load(built)
    client = TestClient(App(runtime, None, Identity("churn", "3", "blue")))
    monkeypatch.setattr(runtime, "predict", lambda rows: np.full(len(rows.numbers), np.nan))
    assert client.post("/invocations", json={"dataframe_records": [GOOD]}).status_code == 500


def test_it_counts_for_prometheus(built):
    client = served(built)
    client.post("/invocations", json={"dataframe_records": [GOOD, GOOD]})
    client.post("/invocations", json={})
    page = client.get("/metrics").text
    who = 'model="churn",slot="blue",version="3"'
    assert f'perennial_requests_total{{code="200",{who}}} 1.0' in page
    assert f'perennial_requests_total{{code="400",{who}}} 1.0' in page
    assert f"perennial_predictions_total{{{who}}} 2.0" in page
    assert f'perennial_request_seconds_bucket{{le="+Inf",{who}}} 2.0' in page


def test_the_documentations_requests_run_as_they_stand(client):
    told = client.get("/openapi.json").json()
    asked = 0
    for path, methods in told["paths"].items():
        for method, about in methods.items():
            example = about.get("requestBody", {}).get("content", {}).get("application/json", {}).get("example")
            answer = client.request(method, path, json=example)
            assert answer.status_code == 200, (path, answer.text)
            asked += example is not None
    assert asked == 2


@pytest.mark.parametrize(("path", "code"), [("/nothing", 404), ("/docs/passwd", 404), ("/invocations", 405)])
def test_what_is_not_here_says_where_to_look(client, path, code):
    answer = client.get(path)
    assert answer.status_code == code
    assert answer.json()["error"]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["spend", "calls", "plan", "\ud800"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["spend", "calls", "plan", "name", "data"]), inner, max_size=4)
    ),
    max_leaves=12,
)
FORMS = st.sampled_from(["dataframe_records", "dataframe_split", "instances", "inputs"])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(form=FORMS, value=JSON, spend=JSON, plan=JSON)
def test_no_json_makes_it_fail(client, form, value, spend, plan):
    """Whatever the body, the answer is 200 or 400."""
    bodies = [{form: value}, {form: [{"spend": spend, "calls": 1, "plan": plan}]}]
    for body in bodies:
        for path in ("/invocations", "/v2/models/churn/infer"):
            assert client.post(path, content=json.dumps(body).encode()).status_code in (200, 400)
