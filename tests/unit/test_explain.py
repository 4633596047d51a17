"""Explanations of single predictions: they add up, they are Shapley values, and a slot gives them on request alone."""

import asyncio
import itertools
import json
import math
import shutil
import threading

import httpx
import numpy as np
import pytest
from starlette.testclient import TestClient

from pipeline.serving.app import App
from pipeline.serving.contents import BACKGROUND
from pipeline.serving.explain import Explainer
from pipeline.serving.identity import Identity
from pipeline.serving.runtime import Runtime
from pipeline.serving.schema import Column, Reader, Rows, Schema
from pipeline.training.signing import digest

ROW = {"spend": 10.0, "calls": 4, "plan": "plus"}
V2 = {
    "inputs": [
        {"name": name, "datatype": "BYTES" if name == "plan" else "FP64", "shape": [1], "data": [value]}
        for name, value in ROW.items()
    ],
    "parameters": {"explain": True},
}


@pytest.fixture(scope="module")
def explaining(churn_package, tmp_path_factory):
    """A package like `churn_package` that may explain."""
    folder = tmp_path_factory.mktemp("explaining") / "package"
    shutil.copytree(churn_package, folder)
    golden = json.loads((folder / "golden.json").read_bytes())
    (folder / BACKGROUND).write_text(json.dumps(golden["request"]["dataframe_records"]))
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["files"][BACKGROUND] = digest(folder / BACKGROUND)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def app(package):
    return App(Runtime.load(package), None, Identity("churn", "1", "blue"))


def client(package):
    return TestClient(app(package))


def explainer(function, columns, background, classes=()):
    reader = Reader(Schema(tuple(Column(f"c{i}") for i in range(columns))))
    rows = Rows(background.astype("float32"), np.empty((len(background), 0), object), (), ())
    return Explainer(lambda read: function(read.numbers.astype("float64")), reader, lambda: rows, classes)


def rows(numbers):
    return Rows(numbers.astype("float32"), np.empty((len(numbers), 0), object), [None] * len(numbers), ())


def by_all_orders(function, row, background):
    """Shapley values from the definition: over all orders and all background rows."""
    effects = np.zeros(len(row))
    for order in itertools.permutations(range(len(row))):
        mixed, before = background.copy(), function(background)
        for column in order:
            mixed[:, column] = row[column]
            after = function(mixed)
            effects[column] += (after - before).mean()
            before = after
    return effects / math.factorial(len(row))


@pytest.mark.parametrize("columns", [1, 2, 4, 7])
def test_effects_are_shapley_values(columns):
    """Effects are the mean over all orders and background rows: exactly for few columns, to 2 % of the answers' spread for seven."""
    random = np.random.default_rng(1)
    background, row = random.normal(size=(16, columns)), random.normal(size=columns)
    weights = random.normal(size=columns)

    def function(x):
        # Of three columns at once, where drawn orders are not exact.
        return x @ weights + x[:, 0] * x[:, -1] + x[:, : min(3, columns)].prod(axis=1)

    found = explainer(function, columns, background).explain(rows(row[None]), function(row[None].astype("float32")))
    expected = by_all_orders(function, row, background)
    allowed = 1e-5 if columns < 7 else 0.02 * function(background).std()
    assert np.abs(found.effects[0] - expected).max() < allowed


@pytest.mark.parametrize("columns", [3, 40, 300])
def test_effects_add_up(columns):
    """Base and effects add up to the prediction, whatever the number of columns."""
    random = np.random.default_rng(2)
    background, asked = random.normal(size=(64, columns)), random.normal(size=(2, columns)).astype("float32")

    def function(x):
        return np.tanh(x.sum(axis=1)) * x[:, 0]

    predictions = function(asked.astype("float64"))
    found = explainer(function, columns, background).explain(rows(asked), predictions)
    assert found.base + found.effects.sum(axis=1) == pytest.approx(predictions, abs=1e-12)


def test_of_classes_the_likeliest_is_explained():
    """Of classes the probability of the likeliest one is explained, and named."""

    def function(x):
        likely = 1 / (1 + np.exp(-x[:, 0]))
        return np.column_stack([likely, 1 - likely])

    asked = np.array([[3.0, 0.0], [-3.0, 0.0]])
    found = explainer(function, 2, np.zeros((4, 2)), ("yes", "no")).explain(rows(asked), function(asked))
    assert list(found.classes) == ["yes", "no"]
    assert found.effects[:, 1] == pytest.approx([0, 0])
    assert found.base + found.effects.sum(axis=1) == pytest.approx([0.9526, 0.9526], abs=1e-4)


def test_a_slot_explains_on_request(explaining):
    """`explain: true`, beside the rows or among the params, adds base and effects of each row; without it the answer has none."""
    slot = client(explaining)
    plain = slot.post("/invocations", json={"dataframe_records": [ROW]}).json()
    asked = slot.post("/invocations", json={"dataframe_records": [ROW], "explain": True}).json()
    assert slot.post("/invocations", json={"instances": [ROW], "params": {"explain": True}}).json() == asked
    assert list(plain) == ["predictions"] and asked["predictions"] == plain["predictions"]
    (told,) = asked["explanations"]
    assert told["base"] + sum(told["effects"].values()) == pytest.approx(plain["predictions"][0], abs=1e-12)
    sizes = [abs(effect) for effect in told["effects"].values()]
    assert set(told["effects"]) == set(ROW) and sizes == sorted(sizes, reverse=True)


def test_v2_has_explanations_as_outputs(explaining):
    """By the v2 protocol the effects and the base are outputs, in the order of the columns that a parameter lists."""
    slot = client(explaining)
    outputs = {out["name"]: out for out in slot.post("/v2/models/churn/infer", json=V2).json()["outputs"]}
    (prediction,) = outputs["prediction"]["data"]
    effects = outputs["explanations"]
    assert json.loads(effects["parameters"]["columns"]) == ["spend", "calls", "plan"] and effects["shape"] == [1, 3]
    assert outputs["explanation_base"]["data"][0] + sum(effects["data"]) == pytest.approx(prediction, abs=1e-12)


@pytest.mark.parametrize("named", ["explanations", "explanation_base", "prediction"])
def test_v2_outputs_of_an_explanation_may_be_named(explaining, named):
    """A client that names an output of an explanation gets it; without `explain` it does not exist, as one of other names never does."""
    slot = client(explaining)
    answer = slot.post(
        "/v2/models/churn/infer", json=V2 | {"outputs": [{"name": named, "parameters": {"binary_data": False}}]}
    )
    assert {"prediction", "explanations", "explanation_base"} == {out["name"] for out in answer.json()["outputs"]}
    unasked = {"inputs": V2["inputs"], "outputs": [{"name": "explanations"}]}
    for request in (unasked, V2 | {"outputs": [{"name": "explanation_class"}]}):
        refused = slot.post("/v2/models/churn/infer", json=request)
        assert refused.status_code == 400 and "does not exist" in refused.json()["error"]


def test_the_same_request_gets_the_same_answer(explaining):
    """Two slots explain the same request in the same bytes."""
    body = {"dataframe_records": [ROW, ROW | {"calls": None}], "explain": True}
    answers = {client(explaining).post("/invocations", json=body).content for _ in range(2)}
    assert len(answers) == 1


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"dataframe_records": [ROW], "explain": "yes"}, 400, "explain must be true or false"),
        ({"dataframe_records": [ROW] * 11, "explain": True}, 413, "at most 10 rows"),
        ({"dataframe_records": [ROW], "explained": True}, 400, "the body must be an object with one of"),
    ],
)
def test_a_wrong_wish_is_refused(explaining, body, status, said):
    """What is no `explain: true` of at most ten rows is refused in one line."""
    answer = client(explaining).post("/invocations", json=body)
    assert answer.status_code == status and said in answer.json()["error"]


@pytest.mark.parametrize("body", [{"instances": [ROW], "explain": True}, V2])
def test_a_model_that_may_not_explain_refuses(churn_package, body):
    """A version whose package has no background rows refuses, and names the setting."""
    path = "/v2/models/churn/infer" if "inputs" in body else "/invocations"
    answer = client(churn_package).post(path, json=body)
    assert answer.status_code == 400 and "evaluation.explain" in answer.json()["error"]


def test_other_requests_are_answered_meanwhile(explaining, monkeypatch):
    """A request without explain is answered while another one is being explained, and the ninth that waits is refused."""
    slot, go_on = app(explaining), threading.Event()
    own = slot._explaining.allowed(rows(np.zeros((1, 2)))).explain
    monkeypatch.setattr(Explainer, "explain", lambda self, *asked: go_on.wait(30) and own(*asked))

    async def ask():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(slot), base_url="http://slot") as http:
            body = {"dataframe_records": [ROW], "explain": True}
            waiting = [asyncio.create_task(http.post("/invocations", json=body)) for _ in range(9)]
            plain = await http.post("/invocations", json={"dataframe_records": [ROW]})
            refused = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            go_on.set()
            return plain, [await one for one in refused[0]], await asyncio.gather(*waiting)

    plain, refused, explained = asyncio.run(ask())
    assert plain.status_code == 200 and [one.status_code for one in refused] == [429]
    assert sorted(one.status_code for one in explained) == [200] * 8 + [429]


def test_the_documentation_tells_it(explaining, churn_package):
    """The OpenAPI of a version has `explain` where the version may explain, and nowhere else."""
    told, silent = (
        client(p).get("/openapi.json").json()["components"]["schemas"]["Invocation"]
        for p in (explaining, churn_package)
    )
    assert "explain" in told["oneOf"][0]["properties"] and "explain" not in silent["oneOf"][0]["properties"]


def test_a_request_that_is_sent_again_is_explained_in_the_other_process_first(explaining, monkeypatch):
    """What explains a request that broke off a slot is tried in the expendable process before the slot does it."""
    explained = []
    own = Explainer.explain
    monkeypatch.setattr(Explainer, "explain", lambda self, *asked: explained.append(1) or own(self, *asked))
    app(explaining).predictions("/invocations", {}, json.dumps({"instances": [ROW], "explain": True}).encode())
    assert explained == [1]
