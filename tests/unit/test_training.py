"""Training gives the same file for the same data, and ONNX answers as scikit-learn does."""

import shutil

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier
from threadpoolctl import threadpool_limits

from harness.project import churn_rows
from pipeline.errors import SettingsError, StageError
from pipeline.serving.errors import PackageRefused
from pipeline.serving.runtime import Runtime
from pipeline.settings.training import Training
from pipeline.training import evaluate, fit, frames, learning, package, pipelines, signing, skops_file


class Foreign(DummyClassifier):
    """A class that skops does not trust."""


ESTIMATORS = ["hist_gradient_boosting", "random_forest", "linear"]


@pytest.fixture
def churn(settings):
    return settings.model("churn")


def with_training(model, **changed):
    return model.model_copy(update={"training": Training(**(model.training.model_dump() | changed))})


def test_a_column_that_is_empty_in_every_row_is_named(churn):
    """A feature that is empty in every row is refused by name."""
    with pytest.raises(StageError, match="train: column calls is empty in all"):
        fit.fit(churn_rows(churn).assign(calls=np.nan), churn)


def test_the_held_out_days_are_not_learnt_from(churn):
    """Labels of the held-out days do not change the model."""
    rows = churn_rows(churn)
    spoiled = rows.copy()
    spoiled.loc[frames.held_out(rows, churn), "left"] = 0.0
    features = frames.feature_frame(rows, churn.training)
    one, two = (fit.predict(fit.fit(r, churn), features, churn.training) for r in (rows, spoiled))
    assert np.array_equal(one, two)


def test_equal_categories_are_one_object_in_memory(churn):
    """A million equal categories take the memory of one text, and a missing one is ''."""
    rows = pd.DataFrame({"plan": pd.Series(["basic", None, "plus", "basic"] * 2, dtype="str")}).set_axis(range(3, 11))
    taken = frames.categories(rows, churn.training)
    assert taken["plan"].tolist() == ["basic", "", "plus", "basic"] * 2
    assert taken.index.equals(rows.index)
    assert len({id(text) for text in taken["plan"]}) == 3


def test_rows_before_the_held_out_days_are_no_copy_of_a_snapshot(churn):
    """In time order the rows to learn from share the memory of all rows; in another order they are the same rows."""
    rows = churn_rows(churn)
    first = frames.before_held_out(rows, churn)
    assert np.shares_memory(first["spend"].to_numpy(), rows["spend"].to_numpy())
    assert first.equals(rows[~frames.held_out(rows, churn)])
    mixed = rows.sample(frac=1, random_state=1)
    assert frames.before_held_out(mixed, churn).equals(mixed[~frames.held_out(mixed, churn)])


@pytest.mark.parametrize("task", ["binary", "regression"])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_estimator_survives_saving_and_onnx(churn, tmp_path, estimator, task):
    """skops and ONNX give the fitted pipeline's predictions, also for missing and unseen values."""
    options = {"max_iter": 20} if estimator == "hist_gradient_boosting" else {}
    target = "left" if task == "binary" else "spend"
    numeric = ["spend", "calls"] if task == "binary" else ["calls"]
    model = with_training(churn, task=task, estimator=estimator, options=options, target=target, numeric=numeric)
    rows = churn_rows(churn)
    fitted = fit.fit(rows, model)
    asked = rows.tail(300).copy()
    asked.iloc[0, asked.columns.get_loc("plan")] = "never seen"
    asked.iloc[1, asked.columns.get_loc("plan")] = None
    expected = fit.predict(fitted, frames.feature_frame(asked, model.training), model.training)

    path = tmp_path / "model.skops"
    skops_file.save(fitted, path)
    again = fit.predict(skops_file.load(path), frames.feature_frame(asked, model.training), model.training)
    assert np.array_equal(again, expected)

    asked.assign(prediction=expected).to_parquet(tmp_path / "predictions.parquet")
    package.build("churn", model, path, tmp_path / "predictions.parquet", tmp_path / "package")
    served = Runtime.load(tmp_path / "package").predict_frame(asked)
    assert np.allclose(served, expected, atol=1e-5, rtol=1e-5)


def test_a_split_between_two_neighbouring_float32_values_is_served_as_learnt(churn, tmp_path):
    """A split between two neighbouring float32 values is served as it was learnt."""
    rows = churn_rows(churn)
    low = np.float32(44.83)
    pairs = [(low, np.nextafter(low, np.float32(100))), (np.nextafter(low, np.float32(0)), low)]
    for under, over in pairs:
        rows["spend"] = np.where(rows.left == 1, over, under).astype("float64")
        fitted = fit.fit(rows, churn)
        expected = fit.predict(fitted, frames.feature_frame(rows, churn.training), churn.training)
        assert (expected[rows.left == 1] > 0.9).all()
        skops_file.save(fitted, tmp_path / "m")
        rows.assign(prediction=expected).to_parquet(tmp_path / "p")
        package.build("churn", churn, tmp_path / "m", tmp_path / "p", tmp_path / "package")
        assert np.allclose(Runtime.load(tmp_path / "package").predict_frame(rows), expected, atol=1e-5)


def test_names_that_are_no_identifiers_are_served_too(churn, tmp_path):
    """Columns whose names are no identifiers are served under their names."""
    model = with_training(churn, numeric=["Floor Area", "calls"], categorical=["The Plan"])
    rows = churn_rows(churn).rename(columns={"spend": "Floor Area", "plan": "The Plan"})
    skops_file.save(fit.fit(rows, model), tmp_path / "m")
    evaluate.evaluate(model, rows, tmp_path / "m", tmp_path / "p", tmp_path / "r", tmp_path / "e.json")
    package.build("churn", model, tmp_path / "m", tmp_path / "p", tmp_path / "package")
    scored = pd.read_parquet(tmp_path / "p")
    assert np.allclose(Runtime.load(tmp_path / "package").predict_frame(scored), scored.prediction, atol=1e-5)


@pytest.mark.parametrize("runtime", ["auto", "skops", "onnx"])
def test_what_onnx_cannot_hold_is_served_from_skops_and_says_so(churn, tmp_path, runtime):
    """A model that ONNX cannot hold is packaged with skops and the reason, or refused where training.runtime is onnx."""
    model = with_training(
        churn,
        task="regression",
        estimator="sklearn.kernel_ridge:KernelRidge",
        options={"kernel": "rbf", "alpha": 1.0},
        target="spend",
        numeric=["calls"],
        runtime=runtime,
    )
    rows = churn_rows(churn)
    skops_file.save(fit.fit(rows, model), tmp_path / "m")
    scored = fit.predict(skops_file.load(tmp_path / "m"), frames.feature_frame(rows, model.training), model.training)
    rows.assign(prediction=scored).to_parquet(tmp_path / "p")
    if runtime == "onnx":
        with pytest.raises(StageError, match="cannot be converted to ONNX .*set training.runtime: skops"):
            package.build("churn", model, tmp_path / "m", tmp_path / "p", tmp_path / "package")
        return
    manifest = package.build("churn", model, tmp_path / "m", tmp_path / "p", tmp_path / "package")
    assert manifest["runtime"] == "skops"
    assert manifest["runtime_reason"].startswith(
        "params.yaml says" if runtime == "skops" else "the model cannot be converted"
    )
    assert np.array_equal(Runtime.load(tmp_path / "package").predict_frame(rows), scored)
    (tmp_path / "package" / "model.skops").write_bytes(b"PK")
    with pytest.raises(PackageRefused, match=r"model\.skops is not what was packaged"):
        Runtime.load(tmp_path / "package")


def test_a_skops_file_of_other_types_is_not_built(churn, tmp_path):
    """A skops file with types outside our list is refused."""
    import skops.io

    from pipeline.serving.schema import Reader
    from pipeline.serving.skops_model import SkopsModel

    other = skops.io.dumps(Foreign())
    reader = Reader(frames.schema_of(churn))
    with pytest.raises(PackageRefused, match=r"model\.skops cannot be loaded .*Foreign"):
        SkopsModel(other, reader, "binary")


def test_a_constant_target_is_refused(churn):
    """A target with one value in all rows is refused."""
    model = with_training(churn, task="regression", target="spend", numeric=["calls"])
    with pytest.raises(StageError, match="the target spend is 3 in every row"):
        fit.fit(churn_rows(churn).assign(spend=3.0), model)


def test_an_estimator_of_ones_own_is_named_as_a_hook(churn):
    """An estimator can be given as module:function or module:class."""
    model = with_training(churn, estimator="sklearn.tree:DecisionTreeClassifier", options={"max_depth": 3})
    assert fit.fit(churn_rows(churn), model)[-1].max_depth == 3


def test_a_model_that_could_not_be_read_back_is_refused_when_it_is_trained(churn, tmp_path):
    """A model with types outside our list is refused before it is fitted, and no file of one is written."""
    foreign = with_training(churn, estimator="tests.unit.test_training:Foreign", options={})
    with pytest.raises(SettingsError, match="hook .*:Foreign: returned .*Foreign, which skops does not load"):
        fit.fit(churn_rows(churn), foreign)
    with pytest.raises(StageError, match="the model holds .*Foreign") as refused:
        skops_file.save(Foreign(), tmp_path / "m")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "m").exists()


def test_one_class_is_refused(churn):
    """A binary target with one class is refused."""
    with pytest.raises(StageError, match="the target left is 1, not both 0 and 1"):
        fit.fit(churn_rows(churn).assign(left=1.0), churn)


def test_an_unknown_estimator_lists_the_known(churn):
    """An unknown estimator's error lists the known ones."""
    with pytest.raises(
        SettingsError, match="must be one of linear, forest, boosting, .* or module:function; got .magic"
    ):
        pipelines.columns_as(churn.training.model_copy(update={"estimator": "magic"}))


def test_a_wrong_option_is_named(churn):
    """An option that the estimator does not have is refused by name."""
    with pytest.raises(SettingsError, match="n_wings"):
        pipelines.columns_as(churn.training.model_copy(update={"options": {"n_wings": 2}}))


@pytest.fixture
def built(churn_package, tmp_path):
    """A package of its own."""
    return shutil.copytree(churn_package, tmp_path / "package")


@pytest.mark.parametrize("file", ["model.onnx", "golden.json"])
def test_a_changed_byte_is_refused_by_the_server_and_by_the_deployer(built, file):
    """A package with a changed byte is refused by the server and by the deployer."""
    content = bytearray((built / file).read_bytes())
    content[len(content) // 2] ^= 1
    (built / file).write_bytes(content)
    with pytest.raises(PackageRefused, match=f"{file} is not what was packaged"):
        Runtime.load(built)
    with pytest.raises(StageError, match=f"{file} is not what was packaged"):
        signing.verified_manifest(built)


def test_evaluation_scores_the_held_out_rows_beside_a_guess(churn, tmp_path):
    """Evaluation scores the held-out rows beside a naive baseline."""
    rows = churn_rows(churn)
    skops_file.save(fit.fit(rows, churn), tmp_path / "m")
    evaluation = evaluate.evaluate(churn, rows, tmp_path / "m", tmp_path / "p", tmp_path / "r", tmp_path / "e.json")
    assert evaluation.rows == frames.held_out(rows, churn).sum() == len(pd.read_parquet(tmp_path / "p"))
    assert evaluation.metrics["roc_auc"] > 0.75 > evaluation.baseline["roc_auc"] == 0.5
    assert len(pd.read_parquet(tmp_path / "r")) == len(rows) == evaluation.rows + evaluation.trained_rows
    assert evaluate.Evaluation.read(tmp_path / "e.json") == evaluation


def test_an_evaluation_of_a_linear_model_is_the_same_with_any_number_of_threads(churn, tmp_path):
    """Its answers to the held-out rows, which `reproduce` compares, have the same last digits."""
    churn = churn.model_copy(
        update={"training": churn.training.model_copy(update={"estimator": "linear", "options": {}})}
    )
    rows = churn_rows(churn)
    skops_file.save(fit.fit(rows, churn), tmp_path / "m")
    for threads in (1, 2):
        with threadpool_limits(threads):
            files = [tmp_path / f"{kind}{threads}" for kind in ("p", "r", "e")]
            evaluate.evaluate(churn, rows, tmp_path / "m", *files)
    for kind in ("p", "r", "e"):
        assert (tmp_path / f"{kind}1").read_bytes() == (tmp_path / f"{kind}2").read_bytes()


@pytest.mark.parametrize("calibration", ["none", "sigmoid"])
def test_a_linear_model_is_the_same_with_any_number_of_threads(calibration):
    """`reproduce` compares its bytes, on another machine too; a sum by two threads has other last digits."""
    random = np.random.default_rng(0)
    features = pd.DataFrame(random.normal(size=(20_000, 30)).astype("float32")).add_prefix("x")
    target = (features.sum(axis=1).to_numpy() + random.normal(size=20_000) > 0).astype("float64")
    training = Training(task="binary", target="y", numeric=list(features), estimator="linear", calibration=calibration)
    rows = learning.Rows(features, target, np.arange(20_000))
    learnt = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            learnt.append(learning.learn(rows, training, False))
    with threadpool_limits(1):
        assert np.array_equal(*(model.predict_proba(features) for model in learnt))
