"""What each task means: its target, its answers, its figures, and what two versions are compared by."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from starlette.testclient import TestClient

from harness.project import CHURN, churn_rows
from pipeline.data import contract, labels
from pipeline.edge.worker import Edge
from pipeline.errors import StageError
from pipeline.policy.canary import Paired
from pipeline.rollout.paired import Sides
from pipeline.serving import docs, prediction_log
from pipeline.serving.app import App
from pipeline.serving.identity import Identity
from pipeline.serving.prediction_log import AnsweredRequest, LogSchema
from pipeline.serving.runtime import Runtime, output_of
from pipeline.serving.settings import Settings
from pipeline.settings.models import Model
from pipeline.settings.training import Training
from pipeline.training import evaluate, fit, package, skops_file, tasks
from pipeline.training.tasks import Answers, multiclass
from pipeline.training.tasks.multiclass import in_order
from tests.support import in_memory

KINDS = ("high", "low", "mid")
FEW = {"hist_gradient_boosting": {"max_iter": 20}, "random_forest": {"n_estimators": 20}}
TASK = tasks.of(Training(task="multiclass", target="kind"))
ROW = {"spend": 100.0, "calls": 4, "plan": "plus"}


def model_of(metric="log_loss", **training) -> Model:
    block = json.loads(json.dumps(CHURN))
    few = FEW.get(training.get("estimator", "hist_gradient_boosting"), {})
    block["training"] |= {"task": "multiclass", "target": "kind", "options": few} | training
    block["evaluation"]["metric"] = metric
    return Model.model_validate(block)


def rows_of(model: Model) -> pd.DataFrame:
    rows = churn_rows(model)
    spend = rows["spend"] + np.random.default_rng(2).normal(0, 10, len(rows))
    return rows.assign(kind=np.where(spend < 60, "low", np.where(spend < 120, "mid", "high")))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(the folder of a package, the held-out rows with scikit-learn's answers, the evaluation)."""
    folder, model = tmp_path_factory.mktemp("classes"), model_of()
    return folder, *built(folder, model, rows_of(model))


def built(folder, model, rows):
    skops_file.save(fit.fit(rows, model), folder / "m.skops")
    files = [folder / name for name in ("m.skops", "predictions.parquet", "reference.parquet", "metrics.json")]
    result = evaluate.evaluate(model, rows, *files)
    package.build("churn", model, files[0], files[1], folder / "package")
    return pd.read_parquet(files[1]), result


@pytest.fixture(scope="module")
def runtime(trained):
    return Runtime.load(trained[0] / "package")


@pytest.fixture(scope="module")
def client(runtime):
    return TestClient(App(runtime, None, Identity("churn", "3", "blue"), Settings()))


def read(values, decimal="."):
    with in_memory.connection() as connection:
        connection.register("frame", pd.DataFrame({"kind": values}))
        connection.execute("CREATE TEMP TABLE rows AS SELECT * FROM frame")
        labels.read(connection, Training(task="multiclass", target="kind"), decimal, "m")
        return [value for (value,) in connection.execute("SELECT kind FROM rows").fetchall()]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["a", " a ", "it's", None, "NA", ""], ["a", "a", "it's", None, None, None]),
        (["2", "2.0", "+2", "2.50", "1e3", "-0"], ["2", "2", "2", "2.5", "1000", "0"]),
        ([1, 2, 3], ["1", "2", "3"]),
        ([1.0, 2.5, np.nan], ["1", "2.5", None]),
        ([True, False, None], ["true", "false", None]),
        (["True", "true", "maybe"], ["true", "true", "maybe"]),
        (["9007199254740993", "9007199254740992"], ["9007199254740993", "9007199254740992"]),
    ],
)
def test_a_label_has_one_text_however_it_is_spelt(values, expected):
    """Numbers, truths and texts; what is missing has no label."""
    assert read(values) == expected


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.one_of(st.integers(-(10**9), 10**9), st.floats(-1e9, 1e9, allow_nan=False)), min_size=1, max_size=20)
)
def test_a_number_is_one_label_as_a_number_and_as_a_text(numbers):
    """Whether a source has labels as numbers or as the texts of these makes no difference."""
    values = [float(number) for number in numbers]
    assert read(values) == read([repr(value) for value in values])


def test_labels_of_numbers_are_sorted_by_number_and_others_as_texts():
    """10 comes after 9; a single text among numbers makes all texts."""
    assert in_order(["10", "9", "9"]) == ("9", "10")
    assert in_order(["10", "9", "b"]) == ("10", "9", "b")


@pytest.mark.parametrize(
    ("kinds", "line"),
    [
        (["a"], "has 1 of the three or more labels of a multiclass task: 'a'"),
        (
            ["a", "b"],
            "has 2 of the three or more labels .* set training.task: binary and training.positive: 'a' or 'b'",
        ),
        ([str(n) for n in range(1001)], "has 1,001 labels, '0', '1', '2', '3', '4' and 996 more; at most 1,000"),
    ],
)
def test_a_target_that_is_no_task_of_classes_is_refused_in_a_line(kinds, line):
    """Fewer than three labels, or more than anybody reads."""
    with pytest.raises(StageError, match=line):
        TASK.learnt(pd.Series(kinds))


def test_figures_are_those_of_scikit_learn():
    """log_loss, accuracy, macro F1 and the mean of one class against the rest."""
    rng = np.random.default_rng(1)
    values, target = rng.dirichlet([1, 1, 1], 300), rng.choice(KINDS, 300)
    found = TASK.scores(target.astype(object), Answers(values, KINDS))
    said = np.array(KINDS)[values.argmax(axis=1)]
    assert found == pytest.approx(
        {
            "log_loss": sk.log_loss(target, values, labels=list(KINDS)),
            "accuracy": sk.accuracy_score(target, said),
            "macro_f1": sk.f1_score(target, said, average="macro"),
            "roc_auc_ovr": sk.roc_auc_score(target, values, multi_class="ovr", labels=list(KINDS)),
        }
    )


def test_a_row_of_a_class_that_was_never_learnt_counts_as_wrong():
    """In each figure and in the loss of a row; a class that is in no row does not make a figure unknown."""
    values = np.array([[0.8, 0.1, 0.1], [0.9, 0.05, 0.05]])
    target = np.array(["high", "new"], object)
    found = TASK.scores(target, Answers(values, KINDS))
    assert found["accuracy"] == 0.5
    assert found["log_loss"] == pytest.approx((-np.log(0.8) - np.log(1e-7)) / 2)
    assert found["macro_f1"] == pytest.approx((2 / 3 + 0) / 2)
    assert found["roc_auc_ovr"] == pytest.approx((0.0 + 0.5) / 2)
    losses = TASK.losses(target, Answers(values, KINDS), Answers(values, KINDS))
    assert losses == pytest.approx([0.03, (1 + 0.815) / 2])


@settings(deadline=None)
@given(st.integers(2, 6), st.integers(0, 2**32 - 1))
def test_a_loss_is_between_0_and_1_and_0_for_a_certain_right_answer(classes, seed):
    """Whatever the probabilities are, for learnt classes and new ones."""
    rng = np.random.default_rng(seed)
    names = tuple(f"c{n}" for n in range(classes))
    values, target = rng.dirichlet(np.ones(classes) * 0.3, 20), rng.choice([*names, "new"], 20).astype(object)
    losses = TASK.losses(target, Answers(values, names), Answers(values, names))
    assert ((losses >= 0) & (losses <= 1)).all()
    assert TASK.losses(np.array(names, object), Answers(np.eye(classes), names), Answers(values, names)).max() == 0


def test_few_and_new_classes_are_said(tmp_path):
    """A class of few rows is learnt and said; one that only held-out rows have counts as wrong and is said."""
    model = model_of()
    rows = rows_of(model)
    out = rows["seen_at"] >= model.held_out_from
    rows.loc[rows.index[~out][:2], "kind"] = "rare"
    rows.loc[rows.index[out][:3], "kind"] = "later"
    held_out, result = built(tmp_path, model, rows)
    assert result.remarks == (
        "classes learnt from fewer than 5 rows: 'rare' in 2",
        "classes of held-out rows that were never learnt, each row counts as wrong: 'later' in 3",
        "classes in no held-out row: 'rare'",
    )
    assert evaluate.Evaluation.read(tmp_path / "metrics.json") == result
    assert len(held_out["probabilities"].iloc[0]) == 4


def test_hundreds_of_classes_are_learnt_and_answered_alike(tmp_path):
    """The package says what scikit-learn says, for 300 classes too."""
    model = model_of(estimator="linear", options={"max_iter": 5})
    rows = rows_of(model)
    names = np.array([f"kind {n}" for n in range(300)])
    rows["kind"] = names[(rows["spend"] * 1.5).astype(int) % 300]
    held_out, _ = built(tmp_path, model, rows)
    served = Runtime.load(tmp_path / "package")
    assert len(served.classes) > 250
    difference = served.predict_frame(held_out) - Answers.of(held_out, served.classes).values
    assert np.abs(difference).max() < 1e-5


@pytest.mark.parametrize("estimator", ["hist_gradient_boosting", "random_forest", "linear"])
@pytest.mark.parametrize("form", ["onnx", "skops"])
def test_each_estimator_answers_as_scikit_learn_does(tmp_path, estimator, form):
    """Three probabilities for each row that sum to 1, from ONNX and from skops."""
    model = model_of(estimator=estimator, runtime=form, options=FEW.get(estimator, {}))
    held_out, _ = built(tmp_path, model, rows_of(model))
    served = Runtime.load(tmp_path / "package")
    answers = served.predict_frame(held_out)
    assert (served.manifest["runtime"], answers.shape) == (form, (len(held_out), 3))
    assert np.abs(answers - Answers.of(held_out, served.classes).values).max() < 1e-5
    assert np.allclose(answers.sum(axis=1), 1, atol=1e-5)


def test_a_slot_answers_with_the_names_of_the_classes(client, trained):
    """MLflow's protocol has a record for each row, and the golden requests get what evaluation recorded."""
    golden = json.loads((trained[0] / "package" / "golden.json").read_text())
    answers = client.post("/invocations", json=golden["request"]).json()["predictions"]
    for answer, recorded in zip(answers, golden["predictions"], strict=True):
        assert list(answer) == list(KINDS)
        assert answer == pytest.approx(recorded, abs=1e-6)


def v2(client, **more):
    kinds = {"spend": "FP32", "calls": "FP32", "plan": "BYTES"}
    inputs = [{"name": n, "datatype": kinds[n], "shape": [2, 1], "data": [v, v]} for n, v in ROW.items()]
    return client.post("/v2/models/churn/infer", json={"inputs": inputs, **more})


def test_open_inference_has_the_probabilities_and_the_likeliest_class(client):
    """Two outputs as JSON; a client may ask for one of them, and for an unknown one gets the names of both."""
    direct = client.post("/invocations", json={"dataframe_records": [ROW]}).json()["predictions"][0]
    probabilities, likeliest = v2(client).json()["outputs"]
    assert probabilities == {
        "name": "probabilities",
        "datatype": "FP64",
        "shape": [2, 3],
        "parameters": {"classes": '["high","low","mid"]'},
        "data": [*direct.values()] * 2,
    }
    assert likeliest == {"name": "class", "datatype": "BYTES", "shape": [2], "data": [max(direct, key=direct.get)] * 2}
    assert [o["name"] for o in v2(client, outputs=[{"name": "class"}]).json()["outputs"]] == ["class"]
    refused = v2(client, outputs=[{"name": "prediction"}])
    assert (refused.status_code, refused.json()["error"]) == (
        400,
        "output prediction does not exist; the model has probabilities, class",
    )


def test_open_inference_has_both_outputs_in_binary(client):
    """Eight bytes for each probability; four bytes of length before each name."""
    plain = v2(client).json()["outputs"]
    answer = v2(client, parameters={"binary_data_output": True})
    end = int(answer.headers["inference-header-content-length"])
    outputs = json.loads(answer.content[:end])["outputs"]
    sizes = [output["parameters"]["binary_data_size"] for output in outputs]
    first, second = answer.content[end : end + sizes[0]], answer.content[end + sizes[0] :]
    assert np.frombuffer(first, "<f8").tolist() == plain[0]["data"]
    name = plain[1]["data"][0].encode()
    assert second == (len(name).to_bytes(4, "little") + name) * 2
    assert len(second) == sizes[1]


def test_metadata_and_documentation_name_the_classes(client, runtime):
    """The v2 protocol's metadata, Triton's configuration and OpenAPI."""
    outputs = client.get("/v2/models/churn").json()["outputs"]
    assert [(o["name"], o["datatype"], o["shape"]) for o in outputs] == [
        ("probabilities", "FP64", [-1, 3]),
        ("class", "BYTES", [-1]),
    ]
    assert outputs[0]["parameters"]["classes"] == '["high","low","mid"]'
    configured = client.get("/v2/models/churn/config").json()["output"]
    assert [o["data_type"] for o in configured] == ["TYPE_FP64", "TYPE_STRING"]
    page = docs.openapi(runtime, Identity("churn", "3", "blue"), Settings())
    assert page["info"]["description"] == "A prediction is one probability for each kind: high, low, mid."
    schema = page["paths"]["/invocations"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert list(schema["properties"]["predictions"]["items"]["properties"]) == list(KINDS)


@settings(deadline=None)
@given(
    st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=1, max_size=5),
    st.permutations(['"a"', "b,c", "ü]["]),
)
def test_any_probabilities_and_names_are_answered_as_they_are(rows, names):
    """The encoder writes what a JSON reader reads back, whatever letters a name has."""
    from pipeline.serving.class_answers import mlflow_encoder

    body, _ = mlflow_encoder(names)(np.array(rows))
    assert json.loads(body) == {"predictions": [dict(zip(names, row, strict=True)) for row in rows]}


def test_the_log_has_the_likeliest_class_and_all_probabilities(runtime, trained):
    """As columns that labels, drift checks and rollouts read back; a task of numbers has its one column."""
    held_out = trained[1].head(3)
    rows = runtime.reader.of_records([ROW] * 3)
    predictions = runtime.predict_frame(held_out)
    schema = LogSchema(runtime.reader, "1", "blue", classes=runtime.classes)
    table = pa.table(schema.table([AnsweredRequest("r", 1.7e9, rows, predictions)]))
    assert Answers.of(table, KINDS).values.tolist() == predictions.tolist()
    assert table["prediction"].to_pylist() == predictions.max(axis=1).tolist()
    assert table["class"].to_pylist() == [KINDS[place] for place in predictions.argmax(axis=1)]
    one = pa.table(LogSchema(runtime.reader, "1", "blue").table([AnsweredRequest("r", 1.7e9, rows, predictions[:, 0])]))
    assert not {"class", "probabilities"} & {*one.column_names}


def test_rows_change_sides_when_their_likeliest_class_does():
    """Each change counts once, and the share of each class moves by its own; a new class of a candidate is another side."""
    champion = Answers(np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]]), KINDS)
    candidate = Answers(np.array([[0.1, 0.8, 0.1, 0.0], [0.1, 0.8, 0.1, 0.0], [0, 0, 0.1, 0.9]]), (*KINDS, "new"))
    sides = Sides(TASK.sides(champion), 4)
    assert sides.paired() == [Paired(0, 0, 0)] * 4
    sides.add(champion, candidate)
    assert sides.paired() == [Paired(2, 0, 3), Paired(0, 1, 3), Paired(1, 0, 3), Paired(0, 1, 3)]


def test_a_label_that_the_contract_does_not_allow_is_quarantined():
    """Allowed labels are texts, and a number is one however it is spelt."""
    block = json.loads(json.dumps(CHURN))
    block["training"] |= {"task": "multiclass", "target": "kind"}
    block["evaluation"]["metric"] = "accuracy"
    block["gates"]["contract"]["columns"] = {"kind": {"allowed": ["a", "b", 3]}}
    model = Model.model_validate(block)
    rows = churn_rows(model).head(4).assign(kind=["a", "b", "3", "c"])
    cases = contract.broken_rows(rows, model.gates.contract, model)
    assert cases["failure_case"].tolist() == ["c"]


def test_adding_rows_of_another_process_keeps_their_shape(client, runtime):
    """Predictions that another process made for a request come back as bytes, with a row for each row."""
    app = App(runtime, None, Identity("churn", "3", "blue"), Settings())
    body = json.dumps({"dataframe_records": [ROW] * 2}).encode()
    predictions = app.predictions("/invocations", {}, body)
    assert np.frombuffer(predictions.tobytes()).reshape(app._shape).tolist() == predictions.tolist()
    assert prediction_log._rows([AnsweredRequest("r", 0.0, runtime.reader.of_records([ROW] * 2), predictions)]) == 2


def test_a_package_from_before_it_said_its_form_of_answer_is_served_as_it_was():
    """Such packages are of two tasks: a binary one gives the probability of 1."""
    assert output_of({"task": "binary"}) == "probability"
    assert output_of({"task": "regression"}) == "number"
    assert output_of({"task": "multiclass", "output": "probabilities"}) == "probabilities"


def test_an_export_answers_with_the_classes_too(trained, client, tmp_path):
    """At the edge an answer has the probabilities by the names of the classes, as the slot's, and the golden requests hold."""
    exported = {"model": "churn", "version": "3", "on_breach": "refuse", "max_rows": 100}
    (tmp_path / "export.json").write_text(json.dumps(exported))
    (tmp_path / "package").symlink_to(trained[0] / "package")
    edge = Edge(tmp_path)
    edge.prove()
    records = json.loads(edge.runtime.golden)["request"]["dataframe_records"]
    body = json.dumps({"dataframe_records": records}).encode()
    slot = client.post("/invocations", content=body).json()
    assert json.loads(edge.answer("/invocations", {}, body)[0]) == slot
    assert edge.predict(records) == slot["predictions"]


def test_one_figure_is_computed_without_the_others(monkeypatch):
    """Permutation asks for a figure hundreds of times: that of hundreds of classes waits for no ranking of each class."""
    monkeypatch.setattr(multiclass, "_one_against_rest", lambda *_: pytest.fail("was ranked"))
    answers = Answers(np.full((3, 3), 1 / 3), ("a", "b", "c"))
    score = tasks.of(model_of().training).score("log_loss", np.array(["a", "b", "c"], object), answers)
    assert score == pytest.approx(np.log(3))
