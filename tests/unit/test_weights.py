"""A row counts as its weight says, in fitting and in each figure, and a weight that is none is quarantined or refused in a line."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.project import CHURN, change_params, churn_rows
from pipeline.data import contract, snapshot, source, sql, unread
from pipeline.errors import DataError, StageError
from pipeline.monitoring import live_quality
from pipeline.monitoring.drift import DriftVerdict
from pipeline.policy import retrain, watch
from pipeline.settings.models import Model, load
from pipeline.settings.training import Training
from pipeline.training import evaluate, fit, frames, package, skops_file, tasks
from pipeline.training.tasks import Answers


def model_of(**training) -> Model:
    block = json.loads(json.dumps(CHURN))
    block["training"] |= {"weight": "premium"} | training
    return Model.model_validate(block)


def rows_of(model) -> pd.DataFrame:
    rows = churn_rows(model)
    return rows.assign(premium=np.random.default_rng(5).integers(0, 3, len(rows)).astype(float))


def repeated(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.loc[rows.index.repeat(rows["premium"].astype(int))].reset_index(drop=True)


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([*tasks.TASKS]), st.integers(0, 2**32 - 1))
def test_a_row_of_weight_two_counts_as_two_rows_in_each_figure(task, seed):
    """Of each task and each of its figures, and of the naive guess."""
    rng, of = np.random.default_rng(seed), tasks.of(Training(task=task, target="y"))
    weight = rng.integers(0, 3, 60)
    classes = ("a", "b", "c") if of.of_labels else ()
    if of.of_labels:
        target, values = rng.choice(classes, 60).astype(object), rng.dirichlet([1, 1, 1], 60)
    else:
        target, values = rng.integers(0, 2, 60).astype(float), rng.uniform(0.01, 0.99, 60)
    twice = np.repeat(np.arange(60), weight)
    found = of.scores(target, Answers(values, classes), weight.astype(float))
    assert found == pytest.approx(of.scores(target[twice], Answers(values[twice], classes)), nan_ok=True)
    guess, other = of.guess(target, 1, classes, weight.astype(float)), of.guess(target[twice], 1, classes)
    assert guess.values == pytest.approx(other.values)


FEW = {"hist_gradient_boosting": {"max_iter": 10}, "random_forest": {"n_estimators": 10}, "linear": {}}


@pytest.mark.parametrize("estimator", FEW)
def test_weights_are_learnt_from_and_measured_by(tmp_path, estimator):
    """A model that is fitted with weights is another one; it and its guess are measured with those of the held-out rows."""
    model = model_of(estimator=estimator, options=FEW[estimator])
    rows = rows_of(model)
    plain = fit.fit(rows, model_of(weight=None, estimator=estimator, options=FEW[estimator]))
    features = frames.feature_frame(rows, model.training)
    skops_file.save(fit.fit(rows, model), tmp_path / "m")
    weighted = skops_file.load(tmp_path / "m")
    assert not np.allclose(*(fit.predict(each, features, model.training) for each in (plain, weighted)))
    held_out, report = tmp_path / "p.parquet", tmp_path / "e.json"
    result = evaluate.evaluate(model, rows, tmp_path / "m", held_out, tmp_path / "r.parquet", report)
    scored = repeated(pd.read_parquet(held_out))
    task = tasks.of(model.training)
    assert result.metrics == pytest.approx(
        task.scores(scored["left"].to_numpy(), Answers(scored["prediction"].to_numpy()))
    )
    learnt = repeated(rows[rows["seen_at"] < model.held_out_from])["left"].to_numpy()
    guess = task.guess(learnt, len(scored))
    assert result.baseline == pytest.approx(task.scores(scored["left"].to_numpy(), guess))
    manifest = package.build("churn", model, tmp_path / "m", held_out, tmp_path / "package")
    assert "premium" not in json.dumps(manifest["schema"])


def test_weights_that_are_none_are_quarantined():
    """Missing, negative and infinite ones; 0 and a fraction are right."""
    model = model_of()
    rows = churn_rows(model).head(5).assign(premium=[0.0, 0.5, -1.0, np.nan, np.inf])
    cases = contract.broken_rows(rows, model.gates.contract, model)
    assert sorted({*cases["index"]}) == [2, 3, 4]
    assert {*cases["column"]} == {"premium"}


def test_weights_that_are_all_0_are_refused():
    """Of the rows to train on, by the column's name."""
    model = model_of()
    with pytest.raises(StageError, match="train: the weight premium is 0 in each row to train on; check the source"):
        fit.fit(churn_rows(model).assign(premium=0.0), model)


def test_an_estimator_that_takes_no_weights_is_refused_by_name(tmp_path, monkeypatch):
    """Before it is fitted, with the settings key."""
    (tmp_path / "nearest_ones.py").write_text(
        "from sklearn.neighbors import KNeighborsClassifier\n\ndef near(**options):\n    return KNeighborsClassifier(**options)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    model = model_of(estimator="nearest_ones:near", options={})
    with pytest.raises(
        StageError, match=r"KNeighborsClassifier .* takes no weights of rows; .* leave out training.weight"
    ):
        fit.fit(rows_of(model), model)


@pytest.mark.parametrize(
    ("weight", "line"),
    [
        ("left", "left is the target, and a weight is none"),
        ("customer", "customer is the key, and a weight is none"),
        ("decided_at", "decided_at is a time, and a weight is none"),
        ("Spend", "Spend is a feature, and a weight is none"),
        ("prediction", "prediction is a name that the stages use; rename the column in the query"),
    ],
)
def test_a_column_that_is_something_else_is_no_weight(project, weight, line):
    """The target, the key, a time, a feature, and a name of ours."""
    change_params(project, "models.churn.training.weight", weight)
    assert f"models.churn.training.weight: {line}" in str(load(project).broken["churn"])


def test_a_weight_goes_from_the_source_into_the_snapshot_and_to_the_labels(project):
    """As a number however it is spelt; what is no weight counts in no live figure."""
    change_params(project, "models.churn.training.weight", "premium")
    query = yaml.safe_load((project / "params.yaml").read_text())["models"]["churn"]["source"]["query"]
    spelt = "CASE WHEN customer LIKE '%7' THEN '-1' WHEN customer LIKE '%8' THEN 'much' ELSE ' 2.50 ' END AS premium"
    change_params(project, "models.churn.source.query", query.replace("SELECT *", f"SELECT *, {spelt}"))
    model = load(project).model("churn")
    with sql.connect(project) as connection:
        source.load(connection, model.source, model.training, *snapshot.window(model.source, model.as_of), "churn")
        columns = snapshot.columns_sql(model.source, model.training, source.column_types(connection))
        rows = connection.execute(f"SELECT {columns}, {unread.COLUMN} FROM rows").df()
    assert {*rows["premium"].dropna()} == {-1.0, 2.5}
    cases = contract.with_unread(rows, contract.broken_rows(rows, model.gates.contract, model), model)
    wrong = rows["customer"].str[-1].isin(["7", "8"])
    assert {*rows.loc[cases["index"], "customer"].str[-1]} == {"7", "8"}
    assert cases["index"].nunique() == wrong.sum()
    found = live_quality.labels(model, project, model.held_out_from, model.as_of, "churn")
    none = found["key"].str[-1].isin(["7", "8"])
    assert {*found.loc[~none, "perennial weight"]} == {2.5}
    assert found.loc[none, "perennial weight"].isna().all() and none.any()


def test_live_quality_counts_a_label_by_its_weight():
    """Answers with a label of weight 0 do not count, and with weights that are all 0 there is no figure."""
    model = model_of()
    count = 400
    seen = pd.Timestamp("2024-02-20", tz="UTC") + pd.to_timedelta(np.arange(count), unit="h")
    keys = [f"c{n}" for n in range(count)]
    right = np.arange(count) % 2 == 0
    answers = pd.DataFrame({"key": keys, "event_time": seen, "timed": True, "prediction": np.where(right, 0.9, 0.1)})
    target = np.where(np.arange(count) < 200, right, ~right).astype(float)
    labels = pd.DataFrame({"key": keys, "event_time": seen, "target": target, "known": seen})
    labels["perennial weight"] = (np.arange(count) < 200).astype(float)
    assert live_quality.quality(answers, labels, model, 1.0).value == 1.0
    assert live_quality.quality(answers, labels.drop(columns="perennial weight"), model, 1.0).value == pytest.approx(
        0.5
    )
    assert live_quality.quality(answers, labels.assign(**{"perennial weight": 0.0}), model, 1.0).value is None


def test_a_label_without_a_weight_counts_in_no_figure_and_is_told():
    """The watch and the drift check leave such rows out, and the line of the check says how many."""
    model = model_of()
    seen = pd.Timestamp("2024-02-20", tz="UTC") + pd.to_timedelta(np.arange(400), unit="h")
    keys = [f"c{n}" for n in range(400)]
    answers = pd.DataFrame({"key": keys, "event_time": seen, "timed": True, "prediction": 0.9})
    labels = pd.DataFrame({"key": keys, "event_time": seen, "target": 1.0, "known": seen})
    labels["perennial weight"] = np.where(np.arange(400) < 3, np.nan, 2.0)
    found = live_quality.quality(answers, labels, model, 1.0)
    assert (found.labelled, found.without_weight, found.other_time) == (397, 3, 0)
    assert found.as_dict()["without_weight"] == 3
    calm = DriftVerdict("no verdict", "too few rows", 0, 0)
    line = " ".join(retrain.decide(calm, found, model.monitor).reasons)
    assert "3 answers have a label whose row has no weight, and do not count (training.weight)" in line
    unweighted = live_quality.quality(answers, labels.drop(columns="perennial weight"), model, 1.0)
    assert unweighted.without_weight is None and "without_weight" not in unweighted.as_dict()


def test_the_watch_counts_a_row_by_its_weight():
    """A champion that is worse on most rows and better on those that count is kept, and the other way round it is rolled back."""
    rng = np.random.default_rng(3)
    heavy = np.arange(4000) % 10 == 0
    weight = np.where(heavy, 20.0, 1.0)
    better, worse = rng.beta(2, 8, 4000), rng.beta(8, 2, 4000)
    old, new = np.where(heavy, worse, better), np.where(heavy, better, worse)
    assert watch.compare(new, old, 0.05, 100).decision == "roll back"
    judged = watch.compare(new, old, 0.05, 100, weight)
    assert judged.decision == "keep" and judged.excess == pytest.approx(np.average(new - old, weights=weight))
    back = watch.compare(old, new, 0.05, 100, weight)
    assert back.decision == "roll back" and 0 < back.low < back.excess and "rows, each by its weight," in back.reason


def test_equal_weights_change_nothing_of_the_watch_and_a_weight_of_0_is_no_row():
    """Bound and reason are those without weights; too few rows that count are told with the key."""
    rng = np.random.default_rng(4)
    new, old = rng.beta(3, 7, 900), rng.beta(2, 8, 900)
    plain, weighted = watch.compare(new, old, 0.05, 100), watch.compare(new, old, 0.05, 100, np.full(900, 3.0))
    assert (plain.reason, plain.decision) == (weighted.reason, weighted.decision)
    assert weighted.low == pytest.approx(plain.low)
    none = watch.compare(new, old, 0.05, 100, np.zeros(900))
    assert none.reason == "0 rows have labels and a weight above 0 (training.weight), at least 100 required"


def test_a_source_that_lost_its_weights_is_refused_for_labels_too(project):
    """Live figures without the weights that training has would be other figures, and nobody would see it."""
    change_params(project, "models.churn.training.weight", "premium")
    model = load(project).model("churn")
    with pytest.raises(DataError, match="churn source: has no column premium"):
        live_quality.labels(model, project, model.held_out_from, model.as_of, "churn")
