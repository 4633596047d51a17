"""What is served learns from the held-out days too, when these have judged the model."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.project import CHURN, churn_rows
from pipeline.gates import onnx_parity, unknown_categories
from pipeline.gates import refit as gate
from pipeline.gates.packaged import packaged_model
from pipeline.settings.models import Model
from pipeline.training import evaluate, fit, frames, measured, package, refit, skops_file
from pipeline.training.tasks import Answers, classes_of
from pipeline.workspaces.dvc_graph import Artifacts

SEARCHED = {"options": {"max_iter": 5}, "search": {"minutes": 1, "candidates": 2, "ranges": {"max_leaf_nodes": [3, 7]}}}


def model_with(**sections: dict) -> Model:
    return Model.model_validate({**CHURN, **{name: {**CHURN[name], **keys} for name, keys in sections.items()}})


def made(folder: Path, model: Model, rows: pd.DataFrame) -> Artifacts:
    """What the stages from train on make of the rows."""
    files = Artifacts(folder, "churn")
    files.folder.mkdir(parents=True)
    skops_file.save(measured.fitted(rows, model), files.model)
    evaluate.evaluate(model, rows, files.model, files.predictions, files.reference, files.metrics)
    refit.write(model, rows, files.model, files.predictions, files.refit)
    package.build("churn", model, files.served_model, files.served_predictions, files.package, refitted=True)
    files.validation.write_text("{}")
    return files


@pytest.fixture(scope="module")
def churn() -> Model:
    return model_with(training={"options": {"max_iter": 5}}, gates={"contract": {}})


@pytest.fixture(scope="module")
def files(churn: Model, tmp_path_factory: pytest.TempPathFactory) -> Artifacts:
    """Of rows whose held-out days have a plan that training never saw."""
    rows = churn_rows(churn)
    plan = rows["plan"].where(~frames.held_out(rows, churn) | (rows.index % 3 > 0), "gold")
    return made(tmp_path_factory.mktemp("refit"), churn, rows.assign(plan=plan))


def test_what_is_served_learnt_from_the_held_out_days(churn: Model, files: Artifacts) -> None:
    """Package, golden requests and parity are of the refitted model, metrics and predictions of the judged one."""
    packaged = packaged_model(churn, files, None, None)
    assert packaged.served is not None
    answers = packaged.package.predict_frame(packaged.held_out)
    assert np.abs(answers - packaged.served["prediction"]).max() < 1e-6
    assert np.abs(answers - packaged.held_out["prediction"]).max() > 1e-3
    assert onnx_parity.verdict(packaged).passed
    golden = json.loads((files.package / package.GOLDEN).read_text())
    assert set(golden["predictions"]) <= set(packaged.served["prediction"])
    last = pd.read_parquet(files.predictions)["seen_at"].max()
    assert pd.Timestamp(packaged.package.manifest["trained_to"]) == last + pd.Timedelta(microseconds=1)


def test_categories_that_the_judged_model_never_saw_are_counted(churn: Model, files: Artifacts) -> None:
    """Though the package knows them: a column that was renamed in the held-out days must not pass unseen."""
    packaged = packaged_model(churn, files, None, None)
    (plan,) = [c for c in packaged.package.reader.schema.columns if c.name == "plan"]
    assert "gold" in (plan.learnt or ())
    verdict = unknown_categories.verdict(packaged)
    assert verdict is not None and verdict.observed == pytest.approx(1 / 3, abs=0.02)


def test_a_refit_that_answers_otherwise_fails(churn: Model, files: Artifacts) -> None:
    """The gate compares its answers with the judged model's, by their spread, with the settings that would let it pass."""
    packaged = packaged_model(churn, files, None, None)
    verdict = gate.verdict(packaged)
    assert verdict is not None and verdict.passed and 0 < verdict.observed < 0.5
    gates = churn.gates.model_copy(update={"refit_churn": verdict.observed / 2})
    strict = gate.verdict(packaged_model(churn.model_copy(update={"gates": gates}), files, None, None))
    assert strict is not None and not strict.passed
    assert "gates.refit_churn" in strict.reason and "evaluation.refit" in strict.reason


def test_without_refit_the_judged_model_is_served(tmp_path: Path) -> None:
    """The same file, up to the held-out days, and no verdict on a refit."""
    model = model_with(training={"options": {"max_iter": 5}}, evaluation={"refit": False})
    files = made(tmp_path, model, churn_rows(model))
    assert files.served_model.read_bytes() == files.model.read_bytes()
    packaged = packaged_model(model, files, None, None)
    assert gate.verdict(packaged) is None
    first = pd.read_parquet(files.predictions)["seen_at"].min()
    assert pd.Timestamp(packaged.package.manifest["trained_to"]) == first


def test_a_refit_chooses_nothing(tmp_path: Path) -> None:
    """It takes what a search found without the held-out rows; a backtest's fit of all rows is the same, bit for bit."""
    model = model_with(training=SEARCHED)
    rows, whole = churn_rows(model), tmp_path / "whole.skops"
    files = made(tmp_path, model, rows)
    judged, again = skops_file.load(files.model), skops_file.load(files.served_model)
    assert measured.choice_of(judged) == measured.choice_of(again)
    skops_file.save(refit.refitted(rows, model, judged), whole)
    assert whole.read_bytes() == files.served_model.read_bytes()
    chosen = {**model.training.options, **judged.searched_["chosen"]}
    settled = model_with(training={"options": chosen})
    directly = measured.fitted(rows, settled, everything=True)
    features = frames.features_of(rows, model)
    assert np.array_equal(fit.predict(directly, features, model.training), fit.predict(again, features, model.training))


def test_a_class_of_the_held_out_days_alone_waits() -> None:
    """No answer with it was measured; a later run learns it from older rows."""
    model = model_with(
        training={"task": "multiclass", "target": "plan", "categorical": []}, evaluation={"metric": "log_loss"}
    )
    rows = churn_rows(model)
    out = frames.held_out(rows, model)
    rows["plan"] = rows["plan"].where(rows.index % 4 > 0, "pro").where(~(out & (rows.index % 5 == 0)), "gold")
    assert classes_of(fit.fit(rows, model, everything=True)) == ("basic", "plus", "pro")
    assert len(fit.all_to_learn_from(rows, model)) == len(rows) - (rows["plan"] == "gold").sum()


@pytest.mark.filterwarnings("error")
def test_churn_is_a_share_of_the_judged_models_error() -> None:
    """The same for a target in thousandths and in 1e300, 1 for answers that know their rows by heart, 0 for equal answers."""
    target, before, after = np.array([1.0, 2.0, 3.0]), np.array([1.5, 2.0, 3.5]), np.array([1.5, 2.0, 3.2])
    for unit in (1e-3, 1.0, 1e300):
        found = refit.churn(target * unit, Answers(before * unit), Answers(after * unit))
        assert found == pytest.approx(0.3)
    assert refit.churn(target, Answers(before), Answers(target)) == pytest.approx(1)
    assert refit.churn(target, Answers(before), Answers(before)) == 0
    assert refit.churn(target, Answers(target), Answers(target + 1e-9)) < 1e-3, "the last digits of a perfect model"
    assert refit.churn(np.ones(3), Answers(np.ones(3)), Answers(before)) == np.inf
    for none in (np.nan, np.inf):
        assert np.isnan(refit.churn(target, Answers(before), Answers(np.array([1.0, none, 3.0]))))


def test_churn_of_classes_is_over_their_probabilities() -> None:
    """Half of the way to the label of one of two rows; a class that nobody learnt is none of them."""
    classes, before = ("a", "b"), np.array([[0.5, 0.5], [1.0, 0.0]])
    answers = [Answers(values, classes) for values in (before, np.array([[0.75, 0.25], [1.0, 0.0]]))]
    assert refit.churn(np.array(["a", "a"], object), *answers) == pytest.approx(0.5)
    assert refit.churn(np.array(["a", "new"], object), *answers) == pytest.approx(0.25 / 1.0)


def test_a_refit_that_does_not_know_what_it_learnt_fails(churn: Model, files: Artifacts) -> None:
    """Boosting diverges where a class has two rows; its answers may move by less than the limit, and their loss says it."""
    packaged = packaged_model(churn, files, None, None)
    assert packaged.served is not None
    served, certain = packaged.served.copy(), np.arange(len(packaged.served)) % 30 == 0
    served.loc[certain, "prediction"] = np.abs(served.loc[certain, churn.training.target] - (1 - 1e-12))
    verdict = gate.verdict(replace(packaged, served=served))
    assert verdict is not None and verdict.observed < verdict.limit and not verdict.passed
    assert "though it learnt them" in verdict.reason and "l2_regularization" in verdict.reason


@pytest.mark.parametrize(
    ("training", "cure"),
    [
        ({"options": {"max_iter": 5}}, "training.options.l2_regularization: 1 cures"),
        ({"options": {"l2_regularization": 2.0}}, ""),
        ({"estimator": "sklearn.linear_model.SGDClassifier", "options": {"loss": "log_loss"}}, "training.options.alpha: 0.01 cures"),
        ({"estimator": "sklearn.linear_model.SGDClassifier", "options": {"loss": "log_loss", "alpha": 0.1}}, ""),
        ({"estimator": "linear", "options": {}}, ""),
        ({"estimator": "my_models:drawn", "options": {}}, ""),
    ],
)  # fmt: skip
def test_the_way_on_is_one_of_the_learner_at_hand(churn, files, training, cure):
    """An option is named that this estimator has, and that is not set already; for another one to serve the judged model remains."""
    model = model_with(training=training)
    packaged = packaged_model(churn, files, None, None)
    served = packaged.served.assign(prediction=1 - packaged.served["left"])
    verdict = gate.verdict(replace(packaged, model=model, served=served))
    assert not verdict.passed and (cure in verdict.reason if cure else "cures" not in verdict.reason)
    assert "evaluation.refit: false" in verdict.reason and "diverge" not in verdict.reason


def test_worse_is_told_by_the_models_own_loss_where_that_is_the_larger(churn, files):
    """Of a rare label the naive guess's loss is small beside that of a model that only ranks: a few hundredths of it are no fit that went wrong."""
    packaged = packaged_model(churn, files, None, None)
    target = np.zeros(len(packaged.held_out))
    target[::50] = 1.0
    answers = [packaged.held_out.assign(left=target, prediction=of) for of in (0.4, 0.41)]
    reference = packaged.reference.assign(left=np.arange(len(packaged.reference)) % 50 == 0)
    packaged = replace(packaged, held_out=answers[0], served=answers[1], reference=reference)
    assert gate.verdict(packaged).passed
    assert not gate.verdict(replace(packaged, served=answers[0].assign(prediction=0.6))).passed
