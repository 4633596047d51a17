"""The application of a slot: answers, refusals by row and column, limits, keys, packages and documentation."""

import asyncio
import gzip
import hashlib
import json
import re
import shutil
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey
from starlette.testclient import TestClient

from pipeline.serving.app import App
from pipeline.serving.batching import BatchRunner
from pipeline.serving.errors import KINDS, PackageRefused
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
    """The predictions are those that evaluation recorded."""
    golden = json.loads((built / "golden.json").read_text())
    answer = client.post("/invocations", json=golden["request"])
    assert answer.json()["predictions"] == pytest.approx(golden["predictions"], abs=1e-6)


def test_every_answer_names_its_model_version_slot_and_request(client):
    """They are headers of the answer; a request's own x-request-id is kept."""
    answer = client.post("/invocations", json={"dataframe_records": [GOOD]}, headers={"x-request-id": "abc"})
    names = ("x-model", "x-model-version", "x-slot", "x-request-id")
    assert {name: answer.headers[name] for name in names} == {
        "x-model": "churn",
        "x-model-version": "3",
        "x-slot": "blue",
        "x-request-id": "abc",
    }


def test_all_forms_of_a_request_give_the_same_answer(client):
    """MLflow's four forms and the v2 protocol."""
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
    kinds = {"spend": "FP32", "calls": "FP32", "plan": "BYTES"}
    inputs = [{"name": n, "datatype": kinds[n], "shape": [1, 1], "data": [v]} for n, v in GOOD.items()]
    v2 = client.post("/v2/models/churn/infer", json={"inputs": inputs}).json()
    assert [v2["outputs"][0]["data"]] * len(answers) == answers
    assert v2["model_version"] == "3"


def test_health_and_metadata(client):
    """The v2 protocol's health pages answer 200, and its metadata lists the inputs in order."""
    assert client.get("/v2/health/live").status_code == client.get("/v2/health/ready").status_code == 200
    metadata = client.get("/v2/models/churn").json()
    assert [i["name"] for i in metadata["inputs"]] == ["spend", "calls", "plan"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"dataframe_records": [GOOD, {"spend": 1.0, "plan": "plus"}]}, "row 1: column calls is missing"),
        ({"dataframe_records": [GOOD | {"spend": "much"}]}, "row 0: column spend must be a number"),
        ({"dataframe_records": [GOOD | {"spend": True}]}, "row 0: column spend must be a number"),
        ({"dataframe_records": [GOOD | {"plan": [3]}]}, "row 0: column plan must be text"),
        ({"dataframe_records": [GOOD | {"spend": 1e300}]}, "row 0: column spend must be a finite number"),
        ({"dataframe_records": [GOOD | {"age": 3}]}, "row 0: column age is unknown"),
        (
            {"dataframe_records": [GOOD | {"customer": {"a": 1}}]},
            "row 0: column customer must be text or a whole number",
        ),
        ({"dataframe_records": [GOOD | {"seen_at": "nonsense"}]}, "row 0: column seen_at must be a time"),
        ({"dataframe_records": [GOOD | {"spend": 1e39}]}, "row 0: column spend must be a finite number"),
        ({"dataframe_records": [GOOD | {"spend": None}]}, "row 0: column spend must not be missing"),
        (
            {"dataframe_records": [GOOD, GOOD | {"plan": "free"}]},
            'row 1: column plan must be one of basic, plus; got "free"',
        ),
        ({"dataframe_records": [GOOD, 3]}, "row 1: must be an object"),
        ({"inputs": {"spend": [1, 2], "calls": [1], "plan": ["plus"]}}, "calls 1"),
        ({"inputs": {"spend": [1], "calls": [1], "plan": ["plus"], "age": [1]}}, "column age is unknown"),
        (
            {"dataframe_split": {"columns": [*GOOD, "spend"], "data": [[1, 2, "plus", 3]]}},
            "column spend is given twice",
        ),
        ({"dataframe_records": [GOOD], "instances": [GOOD]}, "one of dataframe_records"),
        ({"dataframe_records": []}, "no rows"),
        ({"dataframe_split": {"columns": ["spend"], "data": [[1, 2]]}}, "row 0: must be a list of 1 values"),
        ({"rows": []}, "one of dataframe_records"),
        ([1, 2], "one of dataframe_records"),
    ],
)
def test_a_bad_request_names_the_row_and_the_column(client, body, message):
    """The refusal is a 400 whose `error` names the fault and, where there is one, its row and column."""
    answer = client.post("/invocations", content=json.dumps(body).encode())
    assert answer.status_code == 400
    assert message in answer.json()["error"]


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
def test_a_body_that_is_not_json_gets_a_400(client, body):
    """Also JSON that is too deep, has lone surrogates, or numbers that no double holds."""
    assert client.post("/invocations", content=body).status_code == 400


def test_a_request_over_a_limit_gets_a_413(built):
    """The limits are bytes, compressed or not, and rows."""
    small = served(built, max_body_bytes=2000, max_rows=2)
    bomb = gzip.compress(b" " * 10**6)
    for content, headers in ((b" " * 2001, {}), (bomb, {"content-encoding": "gzip"})):
        answer = small.post("/invocations", content=content, headers=headers)
        assert (answer.status_code, answer.json()["error"]) == (413, "the body is larger than 0.00190735 MiB")
    many = small.post("/invocations", json={"dataframe_records": [GOOD] * 3})
    assert (many.status_code, many.json()["error"]) == (413, "the request has 3 rows, at most 2 are allowed; split it")


def test_csv_keeps_the_limits_and_names_row_and_column(built):
    """Too many lines, a field that never ends, and values that the contract forbids."""
    small = served(built, max_rows=2)
    head = "spend,calls,plan\n"
    for body, code, message in (
        (head + "1,2,plus\n" * 3, 413, "the request has 3 rows, at most 2 are allowed"),
        (head + "1,2,plus\n" + "1,2,free\n", 400, 'row 1: column plan must be one of basic, plus; got "free"'),
        (head + "1,2,plus\n" + ",2,plus\n", 400, "row 1: column spend must not be missing"),
        (head + "1e39,2,plus\n", 400, "row 0: column spend must be a finite number"),
        (head + "inf,2,plus\n", 400, 'row 0: column spend must be a number; got "inf"'),
        (head + "1,2\n", 400, "row 0: must have 3 values"),
        (head + '1,2,"plus\n', 400, "the body is not CSV"),
        (head + "1,2," + "x" * 200_000, 413, "more than 32 KiB"),
        ("spend,spend,calls,plan\n1,1,2,plus\n", 400, "column spend is given twice"),
        ("spend;calls;plan\n1,5;2;plus\n", 400, "values must be separated by commas, not by ';'"),
        (head, 400, "the request has no rows"),
        ("", 400, "the request has no rows"),
        ("\n\n", 400, "the request has no rows"),
        (",\n1,\n", 400, "given twice"),
        (head + "\0,2,plus\n", 400, ""),
    ):
        answer = small.post("/invocations", content=body, headers={"content-type": "text/csv"})
        assert (answer.status_code, message in answer.json()["error"]) == (code, True), (body[:60], answer.text)


def test_compressed_bodies_are_decompressed(client):
    """gzip and deflate are supported; a broken body is a 400 and another encoding a 415."""
    body = json.dumps({"dataframe_records": [GOOD]}).encode()
    plain = client.post("/invocations", content=body).json()
    for encoding, content in (("gzip", gzip.compress(body)), ("deflate", zlib.compress(body)), ("identity", body)):
        assert client.post("/invocations", content=content, headers={"content-encoding": encoding}).json() == plain
    for encoding, content, code in (("gzip", body, 400), ("gzip", gzip.compress(body)[:-9], 400), ("br", body, 415)):
        answer = client.post("/invocations", content=content, headers={"content-encoding": encoding})
        assert answer.status_code == code, answer.text


def test_with_keys_a_request_needs_a_valid_one(built):
    """The settings hold digests of the keys; the health pages need no key, because the router asks them."""
    guarded = served(built, api_keys=tuple(hashlib.sha256(key).hexdigest() for key in (b"one", b"two")))
    body = {"dataframe_records": [GOOD]}
    for headers in (
        {},
        {"x-api-key": "three"},
        {"x-api-key": ""},
        {"authorization": "Bearer three"},
        {"authorization": "Basic one"},
    ):
        assert guarded.post("/invocations", json=body, headers=headers).status_code == 401
    for headers in (
        {"x-api-key": "one"},
        {"x-api-key": "two"},
        *({"authorization": f"{scheme} two"} for scheme in ("Bearer", "bearer", "BEARER", "bearer ")),
    ):
        assert guarded.post("/invocations", json=body, headers=headers).status_code == 200
    assert guarded.post("/v2/models/churn/infer", json={"inputs": []}).status_code == 401
    assert guarded.get("/v2/health/ready").status_code == 200


def test_a_changed_package_is_refused(built, tmp_path):
    """A changed byte of the model, or a manifest without the key's signature."""
    signed = (built / "manifest.json").read_bytes()
    key = SigningKey.generate()
    public, signature = key.verify_key.encode().hex(), key.sign(signed).signature.hex()
    Runtime.load(built, public, signature)
    other_key = SigningKey.generate().verify_key.encode().hex()
    for pair in ((other_key, signature), (public, "00" * 64), (public, "")):
        with pytest.raises(PackageRefused, match=r"manifest\.json is not what was signed"):
            Runtime.load(built, *pair)
    shutil.copytree(built, tmp_path / "package")
    model = tmp_path / "package" / "model.onnx"
    changed = bytearray(model.read_bytes())
    changed[len(changed) // 2] ^= 1
    model.write_bytes(changed)
    with pytest.raises(PackageRefused, match=r"model\.onnx is not what was packaged"):
        Runtime.load(tmp_path / "package")


def test_requests_that_come_together_run_together(built):
    """Each gets its own predictions from one run of the model."""
    runtime = Runtime.load(built)
    rows = [runtime.reader.of_records([GOOD | {"spend": float(spend)}]) for spend in range(20, 60)]
    runs = []

    async def predict_all():
        runner = BatchRunner(runtime, "on", lambda: runs.append(1))
        return await asyncio.gather(*(runner.predict(row) for row in rows))

    together = asyncio.run(predict_all())
    assert [float(a[0]) for a in together] == [float(runtime.predict(row)[0]) for row in rows]
    assert len(runs) == 1


def test_a_model_that_fails_is_every_waiting_requests_answer(built, monkeypatch):
    """The answer is a 500, and the next request is answered."""
    runtime = Runtime.load(built)
    client = TestClient(App(runtime, None, Identity("churn", "3", "blue"), Settings(batching="on")))
    fails = iter([True, False])
    predict = runtime.predict
    monkeypatch.setattr(runtime, "predict", lambda rows: 1 / 0 if next(fails) else predict(rows))
    body = {"dataframe_records": [GOOD]}
    assert [client.post("/invocations", json=body).status_code for _ in range(2)] == [500, 200]


def test_a_prediction_that_is_not_finite_gets_a_500(built, monkeypatch):
    """NaN from the model never reaches a client."""
    runtime = Runtime.load(built)
    client = TestClient(App(runtime, None, Identity("churn", "3", "blue")))
    monkeypatch.setattr(runtime, "predict", lambda rows: np.full(len(rows.numbers), np.nan))
    assert client.post("/invocations", json={"dataframe_records": [GOOD]}).status_code == 500


def test_requests_and_rows_are_counted_for_prometheus(built):
    """By code, model, version and slot."""
    client = served(built)
    client.post("/invocations", json={"dataframe_records": [GOOD, GOOD]})
    client.post("/invocations", json={})
    page = client.get("/metrics").text
    labels = 'model="churn",slot="blue",version="3"'
    assert f'perennial_requests_total{{code="200",{labels}}} 1.0' in page
    assert f'perennial_requests_total{{code="400",{labels}}} 1.0' in page
    assert f"perennial_predictions_total{{{labels}}} 2.0" in page
    assert f'perennial_request_seconds_bucket{{le="+Inf",{labels}}} 2.0' in page


@pytest.mark.parametrize(
    ("kind", "request_of"),
    [
        ("form", {"json": {}}),
        ("form", {"content": b"{"}),
        ("columns", {"json": {"dataframe_records": [{"spend": 1.0}]}}),
        ("columns", {"json": {"dataframe_records": [GOOD | {"odd": 1}]}}),
        ("value", {"json": {"dataframe_records": [GOOD | {"spend": "much"}]}}),
        ("rule", {"json": {"dataframe_records": [GOOD | {"plan": "none of these"}]}}),
        ("size", {"json": {"dataframe_records": [GOOD] * 3}}),
        ("encoding", {"content": b"{}", "headers": {"content-encoding": "br"}}),
        ("key", {"json": {"dataframe_records": [GOOD]}, "headers": {"x-api-key": "wrong"}}),
    ],
)
def test_a_refused_request_is_counted_by_its_kind(built, kind, request_of):
    """The kinds are few and fixed, whatever a client sends, and each is on the page from the start."""
    right = hashlib.sha256(b"right").hexdigest()
    client = served(built, max_rows=2, api_keys=(right,))
    headers = {"x-api-key": "right"} | request_of.get("headers", {})
    client.post("/invocations", **request_of | {"headers": headers})
    page = client.get("/metrics").text
    found = dict(re.findall(r'perennial_requests_refused_total\{.*reason="(\w+)".*\} (\S+)', page))
    assert {*found} == {*KINDS} and {name for name, count in found.items() if count != "0.0"} == {kind}


def test_the_documentations_requests_are_answered(client):
    """Every path of /openapi.json answers 200 to its own example."""
    specification = client.get("/openapi.json").json()
    examples = 0
    for path, methods in specification["paths"].items():
        for method, operation in methods.items():
            example = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("example")
            answer = client.request(method, path, json=example)
            assert answer.status_code == 200, (path, answer.text)
            examples += example is not None
    assert examples == 2


def test_the_documentation_shows_no_row_of_the_data(client, built):
    """Its examples are made from the contract: an allowed value, else 0 or the word text."""
    specification = client.get("/openapi.json").json()
    example = specification["paths"]["/invocations"]["post"]["requestBody"]["content"]["application/json"]["example"]
    assert example == {"dataframe_records": [{"spend": 0.0, "calls": 0.0, "plan": "basic"}]}
    golden = json.loads((built / "golden.json").read_text())["request"]["dataframe_records"]
    shown = client.get("/openapi.json").text + client.get("/docs").text + client.get("/v2/models/churn").text
    assert [row["spend"] for row in golden if str(row["spend"]) in shown] == []


@pytest.mark.parametrize(
    ("path", "code"),
    [("/nothing", 404), ("/docs/passwd", 404), ("/invocations/", 404), ("/ping/", 404), ("/invocations", 405)],
)
def test_an_unknown_path_or_method_is_an_error_in_json(client, path, code):
    """404 and 405 have the field `error`, as other refusals."""
    answer = client.get(path, follow_redirects=False)
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


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(form=FORMS, value=JSON, spend=JSON, plan=JSON)
def test_no_json_gets_a_500(client, form, value, spend, plan):
    """Whatever the body, the answer is 200 or 400."""
    bodies = [{form: value}, {form: [{"spend": spend, "calls": 1, "plan": plan}]}]
    for body in bodies:
        for path in ("/invocations", "/v2/models/churn/infer"):
            assert client.post(path, content=json.dumps(body).encode()).status_code in (200, 400)
