"""A function of one's own returns an estimator, or a whole pipeline that takes the frame of features."""

import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import StackingClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, PolynomialFeatures, StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

from harness.project import churn_rows
from pipeline.errors import SettingsError, StageError
from pipeline.serving.runtime import Runtime
from pipeline.settings.training import Training
from pipeline.training import fit, frames, package, skops_file, tasks

HERE = "tests.unit.test_estimator_hooks"


def whole(degree=2):
    """A pipeline with columns of its own."""
    numbers = make_pipeline(SimpleImputer(), PolynomialFeatures(degree), StandardScaler())
    words = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    columns = ColumnTransformer([("calls", numbers, ["calls", "spend"]), ("plan", words, ["plan"])])
    return Pipeline([("columns", columns), ("model", LogisticRegression())])


def estimator():
    """A pipeline that takes our columns."""
    return make_pipeline(PolynomialFeatures(2), LogisticRegression())


def plain():
    return LogisticRegression()


def stacked():
    return StackingClassifier([("tree", DecisionTreeClassifier(max_depth=3))], LogisticRegression(), cv=3)


def broken():
    raise RuntimeError("no such table\nsecond line")


def unsure():
    return LinearSVC()


class Foreign:
    """No class of scikit-learn, though it has its methods."""

    def fit(self, x, y):
        return self

    def predict(self, x):
        return np.zeros(len(x))

    def get_params(self, deep=True):
        return {}


class Derived(LogisticRegression):
    """A class that no slot has."""


def foreign():
    return Foreign()


def derived():
    return make_pipeline(StandardScaler(), Derived())


def leaves():
    raise SystemExit(3)


def number():
    return DummyRegressor()


def nothing():
    return None


def wrong_column():
    return Pipeline(
        [("columns", ColumnTransformer([("a", CountVectorizer(), "nowhere")])), ("m", LogisticRegression())]
    )


@pytest.fixture
def churn(settings):
    return settings.model("churn")


def model_of(churn, hook, options=None, **training):
    changed = {"estimator": f"{HERE}:{hook}", "options": options or {}} | training
    return churn.model_copy(update={"training": Training(**(churn.training.model_dump() | changed))})


@pytest.mark.parametrize(("hook", "options"), [("whole", {"degree": 3}), ("estimator", {}), ("stacked", {})])
def test_what_a_function_returns_is_fitted_and_served(churn, tmp_path, hook, options):
    """A whole pipeline gets the frame, anything else our columns; each is saved and served as learnt, and seeded."""
    rows, model = churn_rows(churn).tail(900), model_of(churn, hook, options)
    fitted = fit.fit(rows, model)
    if hook == "whole":
        assert fitted[0].transformers_[0][1][1].degree == 3
    if hook == "stacked":
        assert fitted[-1].estimators[0][1].random_state == 1
    skops_file.save(fitted, tmp_path / "m")
    asked = rows.tail(100).copy()
    asked.iloc[0, asked.columns.get_loc("plan")] = "never seen"
    asked.iloc[1, asked.columns.get_loc("calls")] = np.nan
    expected = tasks.of(model.training).predict(fitted, frames.feature_frame(asked, model.training))
    asked.assign(prediction=expected).to_parquet(tmp_path / "p")
    package.build("churn", model, tmp_path / "m", tmp_path / "p", tmp_path / "package")
    served = Runtime.load(tmp_path / "package")
    assert np.abs(served.predict_frame(asked) - expected).max() < 1e-4
    assert {column.name: column.learnt for column in served.reader.fields if column.is_category} == {
        "plan": frozenset({"basic", "plus"})
    }


def test_a_function_may_return_what_learns_from_targets(churn, tmp_path):
    """The folds of the encoding "target", which skops does not load, are gone from what is saved: they refuse no hook."""
    model = model_of(churn, "plain", encoding="target")
    skops_file.save(fit.fit(churn_rows(churn).tail(900), model), tmp_path / "m")
    assert skops_file.load(tmp_path / "m")


@pytest.mark.parametrize(
    ("hook", "options", "line"),
    [
        ("broken", {}, r"hook .*:broken: failed \(RuntimeError: no such table\); correct it"),
        ("whole", {"degre": 2}, r"hook .*:whole: failed \(TypeError: .*degre"),
        ("nothing", {}, "hook .*:nothing: returned NoneType, which is no estimator; return an unfitted one"),
        ("number", {}, "hook .*:number: returned DummyRegressor, which is no classifier; the task is binary"),
        ("DecisionTreeClassifier", {"max_depth": "deep"}, "DecisionTreeClassifier: The 'max_depth' parameter"),
        ("foreign", {}, "returned Foreign, a class of its own that is no estimator of scikit-learn; make it of"),
        ("derived", {}, r"hook .*: returned .*Derived, which skops does not load without unpickling; make it of"),
        ("leaves", {}, r"hook .*:leaves: failed \(SystemExit: 3\)"),
        ("unsure", {}, "unsure gives no probabilities with these options; set training.calibration: sigmoid"),
        ("wrong_column", {}, "wrong_column: .*nowhere"),
        ("absent", {}, "hook .*:absent: module .* has no attribute 'absent'"),
    ],
)
def test_a_fault_of_a_function_is_one_line(churn, hook, options, line):
    """Whatever a function raises or returns is told in one line that names it."""
    with pytest.raises((SettingsError, StageError), match=line) as refused:
        fit.fit(churn_rows(churn).tail(900), model_of(churn, hook, options))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("def make(:\n", r"raised SyntaxError when it was imported: invalid syntax \(own_hook.py, line 1\); import it"),
        ("import sys\nsys.exit('bye')\n", r"raised SystemExit when it was imported: bye; import it in a Python shell"),
        ("import no_such_sibling\n", "No module named 'no_such_sibling'; write it as module:function"),
    ],
)
def test_a_module_that_cannot_be_imported_is_one_line(churn, tmp_path, monkeypatch, content, line):
    """Of a module of one's own the line says what is wrong in it."""
    (tmp_path / "own_hook.py").write_text(content)
    monkeypatch.syspath_prepend(str(tmp_path))
    changed = churn.training.model_dump() | {"estimator": "own_hook:make", "options": {}}
    model = churn.model_copy(update={"training": Training(**changed)})
    with pytest.raises(SettingsError, match=f"hook own_hook:make: {line}") as refused:
        fit.fit(churn_rows(churn).tail(900), model)
    assert "\n" not in str(refused.value)
