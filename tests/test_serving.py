"""The server answers what evaluation recorded, says who answered, and refuses by field and row."""

import json
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from pipeline import evaluation, package, training
from pipeline.serving.app import Identity, create_app
from pipeline.serving.prediction_log import PredictionLog
from pipeline.serving.runtime import Runtime
from tests.conftest import customers

GOOD = {"spend": 10.0, "calls": 4, "plan": "plus"}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    from pipeline.params import Model
    from tests.conftest import CHURN

    folder = tmp_path_factory.mktemp("package")
    model = Model.model_validate(CHURN)
    rows = customers()
    rows = rows[(rows.seen_at < model.as_of) & (rows.seen_at >= "2024-02-01")].reset_index(drop=True)
    training.save(training.fit(rows, model), folder / "m")
    evaluation.evaluate(model, rows, folder / "m", folder / "p", folder / "r", folder / "e.json")
    package.build("churn", model, folder / "m", folder / "p", folder / "package")
    return folder / "package"


@pytest.fixture
def log(tmp_path):
    made = PredictionLog(tmp_path / "log", "blue", "3")
    yield made
    made.close()


@pytest.fixture
def client(built, log):
    return TestClient(create_app(Runtime.load(built), log, Identity("churn", "3", "blue")))


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
            {"dataframe_split": {"columns": names, "data": [values]}},
        )
    ]
    inputs = [{"name": n, "datatype": "BYTES", "shape": [1, 1], "data": [v]} for n, v in GOOD.items()]
    v2 = client.post("/v2/models/churn/infer", json={"inputs": inputs}).json()
    assert answers[0] == answers[1] == answers[2] == v2["outputs"][0]["data"]
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
        ({"dataframe_records": [GOOD | {"plan": "\ud800"}]}, "row 0: column plan is not valid text"),
        ({"dataframe_records": [GOOD | {"spend": 10**400}]}, "row 0: column spend wants a finite number"),
        ({"dataframe_records": []}, "no rows"),
        ({"dataframe_records": [GOOD] * 10_001}, "at most 10000"),
        ({"dataframe_split": {"columns": ["spend"], "data": [[1, 2]]}}, "row 0: wants 1 values"),
        ({"rows": []}, "wants dataframe_records"),
        ([1, 2], "wants dataframe_records"),
    ],
)
def test_a_bad_request_names_the_field_and_the_row(client, body, told):
    answer = client.post("/invocations", content=json.dumps(body).encode())
    assert answer.status_code == 400
    assert told in answer.json()["error"]


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"dataframe_records": [{"spend": NaN}]}'])
def test_bytes_that_are_no_request_get_a_400(client, body):
    assert client.post("/invocations", content=body).status_code == 400


def test_a_huge_body_is_refused(client):
    assert client.post("/invocations", content=b" " * (17 * 2**20)).status_code == 400


def test_what_was_asked_and_answered_is_logged(client, log, tmp_path):
    record = GOOD | {"customer": "c1", "seen_at": "2024-02-01T00:00:00Z"}
    answer = client.post("/invocations", json={"dataframe_records": [record]})
    log.close()
    (line,) = [json.loads(text) for file in (tmp_path / "log").iterdir() for text in file.read_text().splitlines()]
    assert line["key"] == "c1"
    assert line["event_time"] == "2024-02-01T00:00:00Z"
    assert line["features"] == GOOD
    assert line["prediction"] == answer.json()["predictions"][0]
    assert (line["version"], line["slot"], line["request_id"]) == ("3", "blue", answer.headers["x-request-id"])


def test_a_log_that_cannot_be_written_does_not_stop_answers(built, tmp_path):
    (tmp_path / "file").write_text("in the way")
    log = PredictionLog(tmp_path / "file" / "log", "blue", "3")
    client = TestClient(create_app(Runtime.load(built), log, Identity("churn", "3", "blue")))
    assert client.post("/invocations", json={"dataframe_records": [GOOD]}).status_code == 200
    until = time.monotonic() + 5
    while log.lost == 0 and time.monotonic() < until:
        time.sleep(0.05)
    assert client.get("/v2/health/live").json()["log_rows_lost"] == 1
    log.close()


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
