"""MLflow's own server and a slot answer the same requests on the same version; where they differ on purpose is listed here."""

import json

import pytest
from starlette.testclient import TestClient

from pipeline.context import Context
from pipeline.serving.app import App
from pipeline.serving.identity import Identity
from pipeline.serving.runtime import Runtime

ROWS = [
    {"spend": 10.0, "calls": 4, "plan": "plus"},
    {"spend": 150, "calls": None, "plan": "basic"},
    {"spend": 77.25, "calls": 0.0, "plan": "plus"},
]
NAMES = ["spend", "calls", "plan"]
TABLE = [[row[name] for name in NAMES] for row in ROWS]
COLUMNS = {name: [row[name] for row in ROWS] for name in NAMES}
WHOLE = {name: [TABLE[0][i], TABLE[2][i]] for i, name in enumerate(NAMES)}
CSV = "spend,calls,plan\n10.0,4,plus\n150,,basic\n77.25,0.0,plus\n"
BOM = b"\xef\xbb\xbf"


@pytest.fixture
def servers(version_one, monkeypatch):
    """(MLflow's server, the slot) for one version."""
    import mlflow
    from mlflow.pyfunc import scoring_server

    # MLflow sets it for good.
    monkeypatch.setenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "true")
    context = Context.here()
    context.registry.client()
    model = mlflow.pyfunc.load_model("models:/churn/1")
    runtime = Runtime.load(context.registry.package_folder("churn", "1"))
    slot = TestClient(App(runtime, None, Identity("churn", "1", "blue")))
    return TestClient(scoring_server.init(model)), slot


def answers(servers, body, kind="application/json"):
    """(status, answer) of each server."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    got = [server.post("/invocations", content=content, headers={"content-type": kind}) for server in servers]
    return [(answer.status_code, answer.json() if "json" in answer.headers["content-type"] else {}) for answer in got]


SAME = {
    "dataframe_records": ({"dataframe_records": ROWS}, None),
    "a number as text": ({"dataframe_records": [ROWS[0] | {"spend": "10"}]}, None),
    "dataframe_split": ({"dataframe_split": {"columns": NAMES, "data": TABLE}}, None),
    "with an index": ({"dataframe_split": {"columns": NAMES, "index": [5, 6, 7], "data": TABLE}}, None),
    "another order of columns": (
        {"dataframe_split": {"columns": NAMES[::-1], "data": [row[::-1] for row in TABLE]}},
        None,
    ),
    "instances, objects": ({"instances": [ROWS[0], ROWS[2]]}, None),
    "instances, columns": ({"instances": WHOLE}, None),
    "inputs, columns": ({"inputs": WHOLE}, None),
    "inputs, objects": ({"inputs": [ROWS[0], ROWS[2]]}, None),
    "params": ({"dataframe_records": ROWS, "params": {"temperature": 2}}, None),
    "no params": ({"dataframe_records": ROWS, "params": None}, None),
    "NaN": (json.dumps({"dataframe_records": [ROWS[0] | {"calls": float("nan")}]}).encode(), None),
    "JSON with a byte order mark": (BOM + json.dumps({"dataframe_records": ROWS}).encode(), None),
    "CSV": (CSV.encode(), "text/csv"),
    "CSV with a charset": (CSV.encode(), "text/csv; charset=utf-8"),
    "CSV with a byte order mark": (BOM + CSV.encode(), "text/csv"),
    "CSV from Windows": (CSV.replace("\n", "\r\n").encode(), "text/csv"),
    "CSV with quotes and spaces": (b'"spend","calls","plan"\n"10"," 4","plus"\n', "text/csv"),
    "CSV with an empty line": (CSV.replace("\n150", "\n\n150").encode(), "text/csv"),
    "CSV with the index of pandas": (b",spend,calls,plan\n0,10.0,4,plus\n1,150,,basic\n", "text/csv"),
    "CSV with another order": (b"plan,spend,calls\nplus,10.0,4\n", "text/csv"),
    **{
        f"CSV with {missing}": (f"spend,calls,plan\n1e1,{missing},plus\n".encode(), "text/csv")
        for missing in ("NaN", "nan", "NA", "N/A", "n/a", "null", "NULL", "None", "<NA>", "#N/A", "-nan", "1.#QNAN")
    },
}
REFUSED = {
    "no rows": ({"dataframe_records": []}, None),
    "a column is missing": ({"dataframe_records": [{"spend": 1.0, "plan": "plus"}]}, None),
    "a column is missing in CSV": (b"spend,plan\n1,plus\n", "text/csv"),
    "a text for a number": ({"dataframe_records": [ROWS[0] | {"spend": "much"}]}, None),
    "a text for a number in CSV": (b"spend,calls,plan\nmuch,4,plus\n", "text/csv"),
    "an underscore in a number": (b"spend,calls,plan\n1_0,4,plus\n", "text/csv"),
    "no UTF-8": (b"spend,calls,plan\n10,4,pl\xff\n", "text/csv"),
    "another charset": (CSV.encode(), "text/csv; charset=latin-1"),
    "two forms": ({"dataframe_records": ROWS, "instances": ROWS}, None),
    "a list": ([1, 2], None),
    "no JSON": (b"{", None),
}
# name: (body, content type, status of MLflow's server, status of the slot). docs/architecture.md gives the reasons.
DIFFERENT = {
    "an unknown column": ({"dataframe_records": [ROWS[0] | {"age": 3}]}, None, 200, 400),
    "a value that the contract does not allow": ({"dataframe_records": [ROWS[0] | {"plan": "free"}]}, None, 200, 400),
    "a missing value that the contract forbids": ({"dataframe_records": [ROWS[0] | {"spend": None}]}, None, 200, 400),
    "an unknown name beside the form": ({"dataframe_records": ROWS, "options": 1}, None, 200, 400),
    "a short line of CSV": (b"plan,spend,calls\nplus,10.0\n", "text/csv", 200, 400),
    "plain lists": ({"instances": [TABLE[0], TABLE[2]]}, None, 400, 200),
    "the key and the time": (
        {"dataframe_records": [ROWS[0] | {"customer": "c1", "seen_at": "2024-03-01T00:00:00Z"}]},
        None,
        200,
        200,
    ),
    "JSON without its content type": (json.dumps({"dataframe_records": ROWS}).encode(), "text/plain", 415, 200),
}


def test_both_give_the_same_numbers_in_the_same_shape(servers):
    """Each form, in JSON and CSV: one number for each row, with integers that are missing too (MLflow 5525, 3798)."""
    for name, (body, kind) in SAME.items():
        mlflow, slot = answers(servers, body, kind or "application/json")
        assert (mlflow[0], slot[0]) == (200, 200), (name, mlflow, slot)
        assert list(slot[1]) == list(mlflow[1]) == ["predictions"], name
        assert slot[1]["predictions"] == pytest.approx(mlflow[1]["predictions"], abs=1e-6), name


def test_both_refuse_the_same_requests(servers):
    """The slot's refusal is one line; MLflow's may be a 500."""
    for name, (body, kind) in REFUSED.items():
        mlflow, slot = answers(servers, body, kind or "application/json")
        assert mlflow[0] >= 400, name
        assert slot[0] in (400, 415) and slot[1]["error"], name


def test_where_they_differ_it_is_on_purpose(servers):
    """docs/architecture.md lists these differences with their reasons."""
    for name, (body, kind, of_mlflow, of_slot) in DIFFERENT.items():
        statuses = [status for status, _ in answers(servers, body, kind or "application/json")]
        assert statuses == [of_mlflow, of_slot], name


def test_a_text_of_csv_is_missing_only_when_it_is_empty(servers):
    """NA is a text, as in the data that the model learned from, and no allowed plan; MLflow's server reads it as missing."""
    mlflow, slot = answers(servers, b"spend,calls,plan\n10,4,NA\n", "text/csv")
    assert slot == (400, {"error": 'row 0: column plan must be one of basic, plus; got "NA"'})
    assert mlflow[0] in (200, 400)
