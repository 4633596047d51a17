"""Each objective of XGBoost and LightGBM that a task takes is served as learnt; any other is refused as the settings are read."""

import warnings

import numpy as np
import pandas as pd
import pytest

from harness.project import churn_rows
from pipeline.errors import SettingsError
from pipeline.serving.runtime import Runtime
from pipeline.settings import estimators
from pipeline.settings.objectives import OBJECTIVES
from pipeline.settings.training import Training
from pipeline.training import fit, frames, package, skops_file, tasks
from pipeline.training.estimators import named
from pipeline.training.tasks import Answers, classes_of
from tests.unit.test_estimators import model_of, odd

FEW = {"n_estimators": 8}
NEEDED = {"reg:quantileerror": {"quantile_alpha": 0.9}}
SHARES = ("reg:logistic", "cross_entropy", "xentropy")


@pytest.fixture
def churn(settings):
    return settings.model("churn")


@pytest.fixture
def rows(churn):
    rows = churn_rows(churn).tail(700)
    kinds = np.array(["low", "middle", "top"], object)[np.digitize(rows.spend, [60, 120])]
    return rows.assign(kind=kinds)


def model_for(churn, library, task, options, **changed):
    if task == "multiclass":
        changed |= {"task": "multiclass", "target": "kind"}
    return model_of(churn, "regressor" if task == "regression" else "classifier", library, FEW | options, **changed)


def difference(model, rows, folder):
    """How far the package's answers are from the library's, as a share of what parity goes by; runtime onnx is asserted."""
    skops_file.save(fit.fit(rows, model), folder / "m")
    read, asked = skops_file.load(folder / "m"), odd(rows)
    expected = tasks.of(model.training).predict(read, frames.feature_frame(asked, model.training))
    asked.assign(**Answers(expected, classes_of(read)).columns).to_parquet(folder / "p")
    assert package.build("churn", model, folder / "m", folder / "p", folder / "package")["runtime"] == "onnx"
    found = Runtime.load(folder / "package").predict_frame(asked)
    return np.abs(found - expected).max() / tasks.of(model.training).scale(expected)


@pytest.mark.parametrize(
    ("library", "task", "objective"),
    [(library, task, each) for library, of in OBJECTIVES.items() for task, names in of.items() for each in names],
)
def test_an_objective_is_served_as_learnt(churn, rows, tmp_path, library, task, objective):
    """Also of a target far from 0, beside which the predictions lie close together."""
    options = {"objective": objective, **NEEDED.get(objective, {})}
    model = model_for(churn, library, task, options)
    if task == "regression":
        spend = rows.spend / rows.spend.max() if objective in SHARES else rows.spend + 3000
        rows = rows.assign(spend=spend)
    # Of 3,000 the next float32 is 2e-5 of the predictions' spread away.
    assert difference(model, rows, tmp_path) <= 5e-5


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize(
    ("library", "options"),
    [
        ("lightgbm", {"boosting_type": "rf", "subsample": 0.6, "subsample_freq": 1}),
        ("lightgbm", {"boosting_type": "dart"}),
        ("xgboost", {"num_parallel_tree": 3, "subsample": 0.7, "monotone_constraints": (0, 0)}),
        ("xgboost", {"grow_policy": "lossguide", "max_leaves": 5, "n_estimators": 120}),
    ],
)
def test_a_way_of_boosting_is_served_as_learnt(churn, rows, tmp_path, library, options, task):
    """A forest of any number of trees, trees that drop out, several trees a round."""
    assert difference(model_for(churn, library, task, options), rows, tmp_path) <= 1e-5


@pytest.mark.parametrize(
    ("library", "task", "objective", "line"),
    [
        ("xgboost", "binary", "binary:logstic", "xgboost has no objective binary:logstic; .* use binary:logistic, or"),
        ("xgboost", "binary", "binary:hinge", "gives 0 or 1 and no probabilities; .* use binary:logistic"),
        ("xgboost", "binary", "reg:squarederror", "is of another task; for the task binary use binary:logistic"),
        ("xgboost", "multiclass", "multi:softmax", "gives the class and no probabilities; .* use multi:softprob, or l"),
        ("xgboost", "regression", "binary:logistic", "is for two classes; for the task regression use reg:logistic"),
        ("xgboost", "regression", "survival:cox", "is for times that have not ended yet"),
        ("xgboost", "regression", "rank:pairwise", "ranks the rows of a group"),
        ("lightgbm", "binary", "cross_entropy", "is of another task; for the task binary use binary, or leave it out"),
        ("lightgbm", "multiclass", "multiclassova", "probabilities that do not add up to 1; .* use multiclass"),
        ("lightgbm", "regression", "hubr", "lightgbm has no objective hubr; for the task regression use huber, or"),
    ],
)
def test_another_objective_is_refused_with_what_to_use(churn, library, task, objective, line):
    """One line, as the settings are read, with the objective for the task."""
    training = model_for(churn, library, task, {"objective": objective}).training
    with pytest.raises(
        SettingsError, match=f"training.options: objective {objective}|training.options: {library}"
    ) as said:
        named.estimator_for(training)
    assert pd.Series([str(said.value)]).str.contains(line)[0] and "\n" not in str(said.value)


def test_a_searched_objective_is_looked_at_too():
    """Each of the values, under the key of the search."""
    ranges = {"objective": ("huber", "rank_xendcg")}
    found = list(estimators.objectives_faults("lightgbm", "regression", {}, ranges))
    assert [key for key, _ in found] == ["search.ranges.objective"] and "rank_xendcg ranks" in found[0][1]


def test_a_quantile_of_xgboost_needs_its_alpha():
    """The library has no usual one."""
    ((key, why),) = estimators.objectives_faults("xgboost", "regression", {"objective": "reg:quantileerror"})
    assert (key, why) == ("options", "objective reg:quantileerror needs quantile_alpha, such as 0.9")


@pytest.mark.parametrize(
    ("options", "quantile"),
    [
        ({"objective": "reg:quantileerror", "quantile_alpha": 0.8}, 0.8),
        ({"objective": "quantile", "alpha": 0.7}, 0.7),
        ({"objective": "quantile"}, 0.9),
        ({"objective": "huber", "alpha": 0.7}, 0.5),
        ({"loss": "quantile", "alpha": 0.3}, 0.3),
        ({}, 0.5),
    ],
)
def test_pinball_is_measured_at_a_boosters_quantile(options, quantile):
    """Each library has its own name for the quantile, and the answer says it."""
    estimator = "sklearn.ensemble.GradientBoostingRegressor" if "loss" in options else "xgboost"
    task = tasks.of(Training(task="regression", target="spend", estimator=estimator, options=options))
    assert task.quantile == quantile
    assert task.answer() == ("the predicted spend" if quantile == 0.5 else f"the quantile {quantile:g} of spend")


def test_nothing_is_said_about_the_options_that_xgboost_hands_on(churn, rows):
    """An option of an objective reaches it, and the library warns of none."""
    changed = {"objective": "reg:tweedie", "tweedie_variance_power": 1.2}
    fitted = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for options in (changed, {"objective": "reg:tweedie"}):
            fitted.append(fit.fit(rows, model_for(churn, "xgboost", "regression", options)))
    first, second = (each[-1].get_booster().save_config() for each in fitted)
    assert '"tweedie_variance_power":"1.2' in first and first != second
