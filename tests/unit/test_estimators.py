"""Any class of scikit-learn, XGBoost and LightGBM: made from settings, saved, and served as learnt; a wrong name is one right line."""

import inspect
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.utils import all_estimators

from harness.project import churn_rows
from pipeline.errors import SettingsError, StageError
from pipeline.serving.runtime import Runtime
from pipeline.settings import estimators, scikit_learn
from pipeline.settings.training import Training
from pipeline.training import evaluate, fit, frames, package, skops_file, tasks
from pipeline.training.estimators import named

FEW = {"n_estimators": 8}
CLASSES = {
    "forest": FEW,
    "boosting": {"max_iter": 8},
    "xgboost": FEW,
    "lightgbm": FEW,
    "sklearn.ensemble.ExtraTrees*": FEW,
    "sklearn.ensemble.GradientBoosting*": FEW,
    "sklearn.ensemble.AdaBoost*": FEW,
    "sklearn.ensemble.Bagging*": FEW,
    "sklearn.tree.DecisionTree*": {"max_depth": 4},
    "sklearn.neural_network.MLP*": {"hidden_layer_sizes": (4, 3), "max_iter": 20},
    "sklearn.neighbors.KNeighbors*": {"n_neighbors": 3},
}
TREES = [name for name in CLASSES if not name.endswith(("MLP*", "KNeighbors*"))]
ONE_KIND = {
    "classifier": {
        "linear": {},
        "sklearn.naive_bayes.GaussianNB": {},
        "sklearn.discriminant_analysis.LinearDiscriminantAnalysis": {},
    },
    "regressor": {"linear": {}, "sklearn.svm.SVR": {"C": 2}, "sklearn.linear_model.TweedieRegressor": {}},
}
# What a slot serves from skops, because ONNX would answer otherwise or not at all.
FROM_SKOPS = ("KNeighborsRegressor", "LinearDiscriminantAnalysis")


MULTICLASS = {
    name: CLASSES[name] for name in ("forest", "boosting", "xgboost", "lightgbm", "sklearn.neural_network.MLP*")
}


def grid():
    for kind, own in ONE_KIND.items():
        for name, options in {**CLASSES, **own}.items():
            yield kind, name.replace("*", kind.capitalize()), options


@pytest.fixture
def churn(settings):
    return settings.model("churn")


@pytest.fixture
def rows(churn):
    return churn_rows(churn).tail(700)


def model_of(churn, kind, estimator, options=None, **changed):
    task = {"task": "binary", "target": "left", "numeric": ["spend", "calls"]}
    if kind == "regressor":
        task = {"task": "regression", "target": "spend", "numeric": ["calls"]}
    changed = {"estimator": estimator, "options": options or {}, **task, **changed}
    return churn.model_copy(update={"training": Training(**(churn.training.model_dump() | changed))})


def served(model, fitted, asked, folder):
    """(the manifest, how far the package's answers to `asked` are from scikit-learn's)"""
    skops_file.save(fitted, folder / "m")
    read = skops_file.load(folder / "m")
    expected = tasks.of(model.training).predict(read, frames.feature_frame(asked, model.training))
    asked.assign(prediction=expected).to_parquet(folder / "p")
    manifest = package.build("churn", model, folder / "m", folder / "p", folder / "package")
    return manifest, np.abs(Runtime.load(folder / "package").predict_frame(asked) - expected).max()


def odd(rows):
    """Rows with a missing number, a missing category and one that nobody has seen."""
    asked = rows.tail(150).copy()
    asked.iloc[0, asked.columns.get_loc("plan")] = None
    asked.iloc[1, asked.columns.get_loc("plan")] = "never seen"
    asked.iloc[2, asked.columns.get_loc("calls")] = np.nan
    return asked


@pytest.mark.parametrize(("kind", "estimator", "options"), list(grid()))
def test_a_class_is_fitted_saved_and_served_as_learnt(churn, rows, tmp_path, kind, estimator, options):
    """Each class gives equal files for equal data, and its package answers as the fitted pipeline does."""
    model = model_of(churn, kind, estimator, options)
    fitted = fit.fit(rows, model)
    manifest, difference = served(model, fitted, odd(rows), tmp_path)
    assert manifest["runtime"] == ("skops" if estimator.endswith(FROM_SKOPS) else "onnx")
    assert difference <= 1e-4 * (1 if kind == "classifier" else rows.spend.std())
    skops_file.save(fit.fit(rows, model), tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "m").read_bytes()


@pytest.mark.parametrize("calibration", ["none", "isotonic"])
@pytest.mark.parametrize("estimator", ["linear", *MULTICLASS])
def test_several_classes_are_served_as_learnt(churn, rows, tmp_path, estimator, calibration):
    """The probabilities of three classes come out of the package as they came out of training, calibrated or not."""
    kind = np.digitize(rows.spend + rows.calls.fillna(0) * 10, [90, 160])
    rows = rows.assign(kind=np.array(["low", "middle", "top"], object)[kind])
    options = MULTICLASS.get(estimator)
    changed = {"task": "multiclass", "target": "kind", "calibration": calibration}
    model = model_of(churn, "classifier", estimator.replace("*", "Classifier"), options, **changed)
    model = model.model_copy(update={"evaluation": model.evaluation.model_copy(update={"metric": "log_loss"})})
    skops_file.save(fit.fit(rows, model), tmp_path / "m")
    evaluate.evaluate(model, rows, *(tmp_path / name for name in ("m", "p", "r", "e")))
    manifest = package.build("churn", model, tmp_path / "m", tmp_path / "p", tmp_path / "package")
    scored = pd.read_parquet(tmp_path / "p")
    expected = tasks.Answers.of(scored, ("low", "middle", "top")).values
    assert manifest["runtime"] == "onnx" and expected.shape == (len(scored), 3)
    assert np.abs(Runtime.load(tmp_path / "package").predict_frame(scored) - expected).max() <= 1e-4


@pytest.mark.parametrize("estimator", TREES)
def test_values_beside_a_split_take_the_branch_that_they_took_in_training(churn, rows, tmp_path, estimator):
    """Two values that are neighbours in float32, with a split between them, are told apart by the package, whatever is missing."""
    name = estimator.replace("*", "Classifier")
    low = np.float32(44.83)
    for under, over in [(low, np.nextafter(low, np.float32(100))), (np.nextafter(low, np.float32(0)), low)]:
        told = rows.assign(spend=np.where(rows.left == 1, over, under).astype("float64"))
        fitted = fit.fit(told, model := model_of(churn, "classifier", name, CLASSES[estimator]))
        # In training no spend is missing, so a library has its own rule for one that is.
        asked = pd.concat([told.tail(100), told.tail(3).assign(spend=np.nan)])
        _, difference = served(model, fitted, asked, tmp_path)
        predictions = pd.read_parquet(tmp_path / "p").prediction[:100]
        assert predictions[asked.left[:100].to_numpy() == 1].min() > predictions[asked.left[:100].to_numpy() == 0].max()
        assert difference <= 1e-5


def test_lightgbm_serves_numbers_of_float64(churn, rows, tmp_path):
    """A column that float32 cannot hold is learnt and served in float64."""
    told = rows.assign(spend=1e9 + rows.left * 3 + np.arange(len(rows)) % 3)
    model = model_of(churn, "classifier", "lightgbm", FEW)
    fitted = fit.fit(told, model, ["spend"])
    skops_file.save(fitted, tmp_path / "m")
    expected = tasks.of(model.training).predict(fitted, frames.feature_frame(told, model.training, ["spend"]))
    assert expected[told.left == 1].min() > expected[told.left == 0].max()
    import onnxruntime

    from pipeline.training.onnx_form import onnx_bytes

    session = onnxruntime.InferenceSession(onnx_bytes(fitted, model.training, "float64"))
    numbers = told[["spend", "calls"]].to_numpy("float64")
    inputs = {"numbers": numbers, "texts": told[["plan"]].to_numpy(object)}
    assert np.abs(session.run(None, inputs)[1][:, 1] - expected).max() < 1e-6


@pytest.mark.parametrize("estimator", ["xgboost", "sklearn.ensemble.ExtraTreesClassifier"])
def test_classes_that_round_to_float32_refuse_such_a_column(churn, rows, estimator):
    """The line names the column, and what takes it."""
    with pytest.raises(StageError, match=f"train: {estimator} rounds its numbers to float32, which cannot hold spend"):
        fit.fit(rows, model_of(churn, "classifier", estimator), ["spend"])


@pytest.mark.parametrize(
    ("kind", "estimator", "line"),
    [
        (
            "classifier",
            "sklearn.svm.SVR",
            "sklearn.svm.SVR is no classifier, which the task takes; use sklearn.svm.SVC",
        ),
        ("regressor", "sklearn.ensemble.ExtraTreesClassifier", "use sklearn.ensemble.ExtraTreesRegressor"),
        ("regressor", "xgboost.XGBClassifier", "is no regressor, which the task takes; use xgboost.XGBRegressor"),
        ("classifier", "sklearn.preprocessing.StandardScaler", "is no classifier: it transforms, groups or sets apart"),
        ("classifier", "sklearn.ensemble.ExtraTreeClassifier", "did you mean sklearn.tree.ExtraTreeClassifier?"),
        ("regressor", "sklearn.ensemble._forest.RandomForestRegressor", "mean sklearn.ensemble.RandomForestRegressor?"),
        ("classifier", "sklearn.ensemble.Stacking", "sklearn.ensemble.Stacking is no class of scikit-learn"),
        ("classifier", "sklearn.ensemble.StackingClassifier", "needs an estimator inside: return both from a function"),
        ("regressor", "sklearn.linear_model.MultiTaskLasso", "predicts several targets; a model has one"),
        ("classifier", "sklearn.svm.LinearSVC", "gives no probabilities; set training.calibration: sigmoid"),
        ("classifier", "sklearn.svm.SVC", "gives no probabilities with these options; set training.calibration"),
        ("classifier", "sklearn.naive_bayes.CategoricalNB", "cannot be served: a number above those in training"),
        ("classifier", "catboost.CatBoostClassifier", "must be one of linear, forest, boosting, .*, a class such as"),
    ],
)
def test_a_wrong_class_is_refused_in_one_right_line(churn, kind, estimator, line):
    """The line says what the class is not, and which one is meant."""
    with pytest.raises(SettingsError, match=line) as refused:
        named.estimator_for(model_of(churn, kind, estimator).training)
    assert str(refused.value).startswith("training.estimator: ") and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("estimator", "options", "line"),
    [
        ("sklearn.ensemble.ExtraTreesClassifier", {"n_trees": 3}, "has no option n_trees; it has bootstrap"),
        ("xgboost", {"max_dpth": 3}, "xgboost has no option max_dpth; it has base_score"),
        ("lightgbm", {"zero_as_missing": True}, "lightgbm has no option zero_as_missing"),
        ("sklearn.linear_model.LogisticRegression", {"C": "high"}, "The 'C' parameter of LogisticRegression must be"),
        ("boosting", {"max_iter": -3}, "The 'max_iter' parameter of HistGradientBoostingClassifier must be"),
        (
            "forest",
            {"n_estimators": (3, 4)},
            "n_estimators of forest must be text, a number, true or false; got a list",
        ),
        ("sklearn.ensemble.ExtraTreesClassifier", {"random_state": 3}, "random_state is training.seed"),
    ],
)
def test_a_wrong_option_is_refused_in_one_right_line(churn, estimator, options, line):
    """The line names the option, and what it may be."""
    with pytest.raises(SettingsError, match=f"training.options: .*{line}") as refused:
        named.estimator_for(model_of(churn, "classifier", estimator, options).training)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("estimator", "options"),
    [
        ("xgboost", {"base_score": 3.0, "n_estimators": 2}),
        ("lightgbm", {"num_leaves": 1, "n_estimators": 2}),
        ("sklearn.naive_bayes.MultinomialNB", {}),
    ],
)
def test_what_an_estimator_raises_is_one_line(churn, rows, estimator, options):
    """Whatever a library raises at the fit becomes one line of the stage."""
    with pytest.raises(StageError, match=f"train: {estimator}: .+; check the rows .* training.options") as refused:
        fit.fit(rows.assign(spend=-rows.spend), model_of(churn, "classifier", estimator, options))
    assert "\n" not in str(refused.value)


def test_a_library_that_is_not_installed_says_how_to_install_it(churn, monkeypatch):
    """The extra is named, with its command."""
    monkeypatch.setitem(sys.modules, "xgboost", None)
    with pytest.raises(SettingsError, match="estimator: xgboost is not installed; install it with `make boosters`"):
        named.estimator_for(model_of(churn, "classifier", "xgboost").training)


def test_a_booster_is_never_served_from_skops(churn, rows, tmp_path):
    """The serving image does not have the library, so the package is refused when ONNX cannot hold the model."""
    model = model_of(churn, "classifier", "xgboost", FEW, runtime="skops")
    with pytest.raises(
        StageError, match="xgboost is served from ONNX only, because the serving image does not have it"
    ):
        served(model, fit.fit(rows, model), odd(rows), tmp_path)


@pytest.mark.parametrize("kind", ["classifier", "regressor"])
def test_the_names_and_options_are_those_of_the_libraries(kind):
    """What is written down of scikit-learn, XGBoost and LightGBM is what they have."""
    import lightgbm
    import xgboost

    written = scikit_learn.CLASSIFIERS if kind == "classifier" else scikit_learn.REGRESSORS
    own = {one.__name__: {*inspect.signature(one).parameters} - {"random_state"} for _, one in all_estimators(kind)}
    assert {name.rpartition(".")[2]: {*estimators.options_of(name, kind)} for name in written} == own
    # Of these XGBoost's class knows no name; it hands them on to the objective.
    of_objectives = {"huber_slope", "quantile_alpha", "tweedie_variance_power"}
    assert {*estimators.options_of("xgboost", kind)} - of_objectives <= {*xgboost.XGBModel().get_params()}
    aliases = lightgbm.basic._ConfigAliases._get_all_param_aliases()
    known = {*lightgbm.LGBMModel().get_params(), *aliases}
    assert {*estimators.options_of("lightgbm", kind)} <= known
    assert all(preset.class_for(kind) in {*written, *estimators.BOOSTERS} for preset in estimators.PRESETS.values())


def test_the_old_names_are_presets(churn):
    """hist_gradient_boosting is boosting, and random_forest is forest with full-grown trees."""
    made = {name: named.estimator_for(model_of(churn, "classifier", name).training)[0] for name in estimators.PRESETS}
    assert made["hist_gradient_boosting"].get_params() == made["boosting"].get_params()
    forest, old = made["forest"].get_params(), made["random_forest"].get_params()
    assert {name for name in forest if forest[name] != old[name]} == {"min_samples_leaf"}
    assert forest["random_state"] == 1
