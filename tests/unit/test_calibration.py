"""Calibrated probabilities come true as often as they say, and a slot gives the same ones."""

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from harness.project import churn_rows
from pipeline.errors import StageError
from pipeline.serving.runtime import Runtime
from pipeline.settings.training import Training
from pipeline.training import calibration, fit, frames, onnx_form, package, skops_file, tasks

FEW = {"n_estimators": 8}
METHODS = ["sigmoid", "isotonic"]


@pytest.fixture
def churn(settings):
    return settings.model("churn")


def model_of(churn, method, estimator="linear", options=None):
    changed = {"estimator": estimator, "options": options or {}, "calibration": method}
    return churn.model_copy(update={"training": Training(**(churn.training.model_dump() | changed))})


def answers(model, fitted, rows):
    return tasks.of(model.training).predict(fitted, frames.feature_frame(rows, model.training))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("estimator", "options"),
    [
        ("forest", FEW),
        ("boosting", {"max_iter": 8}),
        ("xgboost", FEW),
        ("lightgbm", FEW),
        ("sklearn.svm.LinearSVC", {}),
    ],
)
def test_a_calibrated_model_is_served_as_learnt(churn, tmp_path, estimator, options, method):
    """The package answers from ONNX as the calibrated pipeline does, also outside of the scores that the curve was drawn on."""
    model, rows = model_of(churn, method, estimator, options), churn_rows(churn).tail(900)
    skops_file.save(fit.fit(rows, model), tmp_path / "m")
    asked = pd.concat([rows.tail(150), rows.tail(20).assign(spend=900.0), rows.tail(20).assign(calls=np.nan)])
    expected = answers(model, skops_file.load(tmp_path / "m"), asked)
    asked.assign(prediction=expected).to_parquet(tmp_path / "p")
    manifest = package.build("churn", model, tmp_path / "m", tmp_path / "p", tmp_path / "package")
    assert manifest["runtime"] == "onnx"
    assert np.abs(Runtime.load(tmp_path / "package").predict_frame(asked) - expected).max() <= 1e-4


@pytest.mark.parametrize("method", METHODS)
def test_bold_probabilities_become_true_ones(churn, method):
    """A naive Bayes that counts one column four times says too much; calibrated it loses less on the held-out days."""
    rows = churn_rows(churn)
    copies = {f"again {i}": rows.spend for i in range(3)}
    rows = rows.assign(**copies)
    held_out = frames.held_out(rows, churn)
    loss = {}
    for name in ("none", method):
        model = model_of(churn, name, "sklearn.naive_bayes.GaussianNB")
        columns = {"numeric": ("spend", "calls", *copies)}
        model = model.model_copy(update={"training": model.training.model_copy(update=columns)})
        loss[name] = log_loss(rows.left[held_out], answers(model, fit.fit(rows, model), rows[held_out]))
    assert loss[method] < loss["none"] - 0.02


def test_the_curve_learns_from_later_rows_than_the_model(churn):
    """Rows of one time stay on one side of the cut, and no row before it shapes the curve."""
    times = np.array([3, 1, 2, 5, 5, 4, 5, 0, 6, 7])
    assert times[calibration.later_rows(times)].tolist() == [6, 7]
    rows = churn_rows(churn)
    training = rows[~frames.held_out(rows, churn)]
    later = calibration.later_rows(training.seen_at.to_numpy())
    assert training.seen_at[~later].max() < training.seen_at[later].min()
    assert 0.18 <= later.mean() <= 0.22


def test_too_few_rows_of_a_class_are_told(churn):
    """A curve for a class of which the newest rows have none is refused in one line."""
    rows = churn_rows(churn)
    training = rows[~frames.held_out(rows, churn)]
    later = training.index[calibration.later_rows(training.seen_at.to_numpy())]
    rows.loc[later, "left"] = 0.0
    with pytest.raises(
        StageError, match="train: calibration needs 5 rows of each class .* newest fifth .* 0 of left = 1"
    ):
        fit.fit(rows, model_of(churn, "sigmoid"))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "classifier",
    [
        LogisticRegression(),
        RandomForestClassifier(8, random_state=1),
        HistGradientBoostingClassifier(max_iter=8),
    ],
)
def test_three_classes_are_calibrated_one_by_one(churn, classifier, method):
    """ONNX normalises the curves of three classes as scikit-learn does."""
    import onnxruntime
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import Pipeline

    rng = np.random.default_rng(5)
    x = rng.normal(size=(900, 2)).astype("float32")
    y = np.digitize(x[:, 0] + rng.normal(size=900), [-0.7, 0.7])
    columns = ColumnTransformer([("numeric", "passthrough", ["spend", "calls"])])
    frame = pd.DataFrame(x, columns=["spend", "calls"])
    fitted = Pipeline([("columns", columns), ("estimator", classifier)]).fit(frame, y)
    fitted.steps[-1] = ("estimator", calibration.calibrated(fitted[-1], x[600:], y[600:], method, fitted[-1]))
    training = churn.training.model_copy(update={"categorical": ()})
    session = onnxruntime.InferenceSession(onnx_form.onnx_bytes(fitted, training))
    labels, shares = session.run(None, {"numbers": x})
    assert np.abs(shares - fitted.predict_proba(frame)).max() <= 1e-4
    assert (labels == fitted.predict(frame)).mean() > 0.99
