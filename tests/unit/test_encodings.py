"""How categories become numbers: each encoding is served as it was learnt, and the choice is made by what is measured."""

import itertools

import numpy as np
import pandas as pd
import pytest

from pipeline.errors import StageError
from pipeline.serving.runtime import Runtime
from pipeline.settings.agreement import faults
from pipeline.settings.training import Training
from pipeline.training import encodings, fit, frames, measured, onnx_form, package, skops_file
from pipeline.training.tasks import Answers, classes_of

ESTIMATORS = {
    "hist_gradient_boosting": {"max_iter": 10, "min_samples_leaf": 5},
    "random_forest": {"n_estimators": 8},
    "linear": {},
}
NAMES = ["ordinal", "one_hot", "target", "hashed"]
GRID = [*itertools.product(ESTIMATORS, NAMES), ("hist_gradient_boosting", "native")]


@pytest.fixture
def churn(settings):
    return settings.model("churn")


def with_training(model, **changed):
    return model.model_copy(update={"training": Training(**(model.training.model_dump() | changed))})


def shops(rows=1200, values=80, seed=3):
    """Rows whose target depends on the shop, which is a category of many values in no order; a few of all cells are missing."""
    rng = np.random.default_rng(seed)
    names = np.array([f"Straße {i:03d}" for i in range(values)], object)
    effect = rng.permutation(np.linspace(-3, 3, values))
    place = rng.integers(0, values, rows)
    size = rng.uniform(0, 10, rows)
    score = effect[place] + size / 5 + rng.normal(0, 0.5, rows)
    missing = rng.random((rows, 2)) < 0.05
    return pd.DataFrame(
        {
            "customer": [f"c{i}" for i in range(rows)],
            "seen_at": pd.date_range("2024-02-01", "2024-02-29", periods=rows, tz="UTC").as_unit("us"),
            "size": np.where(missing[:, 0], np.nan, size),
            "shop": np.where(missing[:, 1], None, names[place]),
            "plan": rng.choice(np.array(["basic", "plus"], object), rows),
            "left": (score > np.median(score)).astype(float),
            "score": score,
            "grade": pd.cut(pd.Series(score), 3, labels=["schlecht", "mäßig", "gut"]).astype(object),
        }
    )


def shop_model(churn, task="binary", **changed):
    target, metric = {
        "binary": ("left", "roc_auc"),
        "regression": ("score", "mae"),
        "multiclass": ("grade", "log_loss"),
    }[task]
    lists = {"numeric": ["size"], "categorical": ["shop", "plan"]}
    model = with_training(churn, task=task, target=target, **lists, **changed)
    return model.model_copy(update={"evaluation": model.evaluation.model_copy(update={"metric": metric})})


def served(model, rows, folder, fitted, doubles=()):
    """(the package's runtime, the rows asked, scikit-learn's answers)."""
    asked = rows.tail(200).copy()
    asked.iloc[0, asked.columns.get_loc("shop")] = "never seen"
    asked.iloc[1, asked.columns.get_loc("shop")] = None
    asked.iloc[2, asked.columns.get_loc("size")] = np.nan
    expected = fit.predict(fitted, frames.feature_frame(asked, model.training, doubles), model.training)
    skops_file.save(fitted, folder / "model.skops")
    answers = Answers(expected, classes_of(fitted))
    asked.assign(**answers.columns).to_parquet(folder / "predictions.parquet")
    package.build("churn", model, folder / "model.skops", folder / "predictions.parquet", folder / "package")
    return Runtime.load(folder / "package"), asked, expected


@pytest.mark.parametrize("task", ["binary", "regression", "multiclass"])
@pytest.mark.parametrize(("estimator", "encoding"), GRID)
def test_what_is_learnt_is_served(churn, tmp_path, estimator, encoding, task):
    """Each estimator answers with each encoding as scikit-learn does, for missing and unseen values too."""
    model = shop_model(churn, task, estimator=estimator, encoding=encoding, options=ESTIMATORS[estimator])
    rows = shops()
    fitted = measured.fitted(rows, model)
    runtime, asked, expected = served(model, rows, tmp_path, fitted)
    assert runtime.manifest["runtime"] == ("skops" if encoding == "native" else "onnx")
    spread = float(np.std(expected)) if task == "regression" else 1.0
    assert np.abs(runtime.predict_frame(asked) - expected).max() / spread < 1e-5
    learnt = runtime.reader.schema["shop"].learnt
    assert learnt is not None and "Straße 007" in learnt and "" not in learnt and "never seen" not in learnt
    unknown = runtime.reader.of_records([{"size": 1.0, "shop": "never seen", "plan": "plus"}]).unknown
    assert unknown == {0: ["shop"]}


@pytest.mark.parametrize(("estimator", "encoding"), GRID)
def test_the_same_rows_make_the_same_file(churn, tmp_path, estimator, encoding):
    """With each encoding two fits of each estimator are equal to the byte."""
    model = shop_model(churn, estimator=estimator, encoding=encoding, options=ESTIMATORS[estimator])
    rows = shops(400)
    for name in ("one", "again"):
        skops_file.save(measured.fitted(rows, model), tmp_path / name)
    assert (tmp_path / "again").read_bytes() == (tmp_path / "one").read_bytes()


@pytest.mark.parametrize("estimator", ["hist_gradient_boosting", "linear"])
def test_numbers_of_float64_keep_each_encoding_exact(churn, tmp_path, estimator):
    """Where a number needs float64, the package takes the matrix of categories as it does otherwise."""
    rows = shops()
    rows["size"] = rows["size"] + 1e9
    for name in NAMES:
        model = shop_model(churn, estimator=estimator, encoding=name, options=ESTIMATORS[estimator])
        folder = tmp_path / name
        folder.mkdir()
        fitted = measured.fitted(rows, model, ["size"])
        features = frames.feature_frame(rows, model.training, ["size"])
        content = onnx_form.onnx_bytes(fitted, model.training, "float64")
        import onnxruntime

        session = onnxruntime.InferenceSession(content)
        feed = {"numbers": features[["size"]].to_numpy("float64"), "texts": features[["shop", "plan"]].to_numpy(object)}
        answers = session.run(None, feed)[-1]
        assert np.abs(answers[:, 1] - fitted.predict_proba(features)[:, 1]).max() < 1e-5, name


def test_a_target_of_classes_has_a_mean_for_each(churn):
    """For a multi-class target a category becomes one number for each class, in ONNX as in scikit-learn."""
    import onnxruntime
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import StringTensorType
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline

    from pipeline.training import onnx_encoders

    rows = shops()
    target = pd.cut(rows["score"], 3, labels=False).to_numpy()
    features = frames.feature_frame(rows, shop_model(churn).training)[["shop", "plan"]]
    ((name, encoder, _),) = encodings.encoders(features, dict.fromkeys(features, "target"), "multiclass", "scaled", 1)
    pipeline = Pipeline([("columns", ColumnTransformer([(name, encoder, [0, 1])])), ("model", LogisticRegression())])
    fitted = encodings.made_exact(pipeline.fit(features.to_numpy(object), target))
    conversions, shapes = onnx_encoders.converters()
    converted = convert_sklearn(
        fitted,
        "pipeline",
        [("texts", StringTensorType([None, 2]))],
        options={id(fitted): {"zipmap": False}},
        custom_conversion_functions=conversions,
        custom_shape_calculators=shapes,
    )
    asked = np.array([["never seen", "plus"], ["", "basic"], *features.to_numpy(object)[:100].tolist()], object)
    answers = onnxruntime.InferenceSession(converted.SerializeToString()).run(None, {"texts": asked})[-1]
    assert answers.shape == (102, 3)
    assert np.abs(answers - fitted.predict_proba(asked)).max() < 1e-5


def test_the_best_encoding_of_the_newest_rows_is_chosen_and_said(churn):
    """Of many values in no order a few deep splits learn the mean better than the place; both figures are said."""
    model = shop_model(churn, "regression", options={"max_iter": 20, "max_leaf_nodes": 4})
    choice = measured.choice_of(measured.fitted(shops(4000), model))
    assert choice.chosen == "target" and dict(choice.by_column) == {"shop": "target", "plan": "target"}
    assert choice.metric == "mae" and choice.scores["target"] < choice.scores["ordinal"]
    assert str(choice).startswith("categories: target, by mae on the ") and "(ordinal " in str(choice)


def test_the_held_out_days_choose_nothing(churn):
    """The choice is the same whatever the labels of the held-out days are."""
    model, rows = shop_model(churn), shops(3000)
    spoiled = rows.copy()
    spoiled.loc[frames.held_out(rows, model), "left"] = 0.0
    assert measured.choice(rows, model) == measured.choice(spoiled, model)


def test_the_candidates_are_scored_on_later_rows(churn):
    """What is scored is later than all that is learnt from, and a large table is measured by some of its rows."""
    model = shop_model(churn)
    older, newest = measured.split(shops(3000).sample(frac=1, random_state=1), model)
    assert older["seen_at"].max() < newest["seen_at"].min()
    older, newest = measured.split(shops(50_000, 20), model)
    assert len(older) + len(newest) <= measured.ROWS


def test_what_params_say_of_a_column_stands(churn):
    """A stated encoding is not measured, and another column is still free."""
    model = shop_model(churn, encodings={"shop": "hashed"})
    choice = measured.choice(shops(3000), model)
    assert choice.by_column["shop"] == "hashed" and choice.by_column["plan"] in ("ordinal", "target")
    stated = measured.choice(shops(3000), shop_model(churn, encoding="one_hot"))
    assert not stated.scores and set(stated.by_column.values()) == {"one_hot"}


def test_few_rows_take_the_first_encoding(churn):
    """With too few rows nothing is measured, and a model without categories has no choice."""
    assert not measured.choice(shops(150), shop_model(churn)).scores
    plain = with_training(shop_model(churn), categorical=[])
    assert measured.choice(shops(), plain).by_column == {} and str(measured.choice(shops(), plain)) == ""


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_many_values_take_no_number_each(churn, tmp_path, estimator):
    """A category of 2,000 values is one number for an estimator, unless somebody asks for one_hot, which is refused by its size."""
    rows = shops(5_000, 2_000)
    model = shop_model(churn, estimator=estimator, options=ESTIMATORS[estimator])
    fitted = measured.fitted(rows, model)
    runtime, asked, expected = served(model, rows, tmp_path, fitted)
    assert fitted[0].transform(frames.feature_frame(asked, model.training)).shape[1] <= 4
    assert runtime.manifest["runtime"] == "onnx"
    assert np.abs(runtime.predict_frame(asked) - expected).max() < 1e-5


def test_a_one_hot_that_needs_too_much_memory_is_refused(churn, monkeypatch):
    """An explicit one_hot over the limit is one line with the column, the size and the key that helps."""
    monkeypatch.setattr(encodings, "ONE_HOT_BYTES", 2**20)
    with pytest.raises(StageError, match=r"column shop has .* one_hot takes .* GiB for .* training.encodings.shop"):
        fit.fit(shops(5000, 2000), shop_model(churn, encoding="one_hot"))
    with pytest.raises(StageError, match="native splits take 255 at most; set training.encodings.shop to target"):
        fit.fit(shops(5000, 2000), shop_model(churn, encoding="native"))


@pytest.mark.parametrize(
    ("changed", "key", "said"),
    [
        ({"encodings": {"city": "target"}}, "training.encodings.city", "no column under training.categorical"),
        ({"encoding": "native", "estimator": "linear"}, "training.encoding", "for boosting alone"),
        ({"encoding": "native", "runtime": "onnx"}, "training.runtime", "ONNX has no native splits"),
    ],
)
def test_encodings_that_cannot_be_are_told_when_the_settings_are_read(churn, changed, key, said):
    """What contradicts itself in params.yaml is named with its key."""
    found = faults(with_training(churn, **changed))
    assert [fault for fault in found if fault[0] == key and said in fault[1]], found


def test_encodings_in_another_order_are_the_same_pipeline():
    """The encodings come back from a file in the order of their names; the columns stay in that of the features, as the package gives them."""
    features = pd.DataFrame({"size": ["s", "l"], "colour": ["red", "blue"], "age": ["1", "2"]})
    how = dict.fromkeys(sorted(features), "ordinal")
    ((_, _, columns),) = encodings.encoders(features, how, "binary", "ordered", 1)
    assert columns == ["size", "colour", "age"]
