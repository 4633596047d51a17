"""What moves a version's predictions as a whole, its picture, and what stands in where SHAP takes too long."""

import xml.dom.minidom
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from pipeline.runs.explanation_picture import picture
from pipeline.serving.schema import Column, Reader, Rows, Schema
from pipeline.training.explanation import IMPORTANCE, SHAP, Explanation, explanation


def runtime(names, function):
    """Like a package's that has these columns of numbers."""
    reader = Reader(Schema(tuple(Column(name) for name in names)))

    def rows_of_frame(frame):
        numbers = frame[names].to_numpy("float32")
        return Rows(numbers, np.empty((len(frame), 0), object), [None] * len(frame), [None] * len(frame))

    return SimpleNamespace(
        reader=reader,
        classes=(),
        predict=lambda rows: function(rows.numbers.astype("float64")),
        rows_of_frame=rows_of_frame,
    )


def held_out(names, rows=120):
    random = np.random.default_rng(0)
    frame = pd.DataFrame(random.normal(size=(rows, len(names))), columns=names)
    return frame.assign(prediction=frame[names[0]])


def evaluation(**importances):
    return SimpleNamespace(importances=importances, metric="roc_auc", rows=120)


def test_columns_stand_in_the_order_of_their_effects():
    """The column with the larger weight comes first, each with an effect and the place of its value for each of up to 100 rows."""
    names = ["small", "large", "none"]
    found = explanation(runtime(names, lambda x: x[:, 0] + 5 * x[:, 1]), held_out(names), evaluation(), 1)
    assert found.how == SHAP and list(found.importance) == ["large", "small", "none"] and found.rows == 100
    assert found.importance["large"] == pytest.approx(5 * found.importance["small"], rel=0.3)
    effects, places = zip(*found.points["large"], strict=True)
    assert np.corrcoef(effects, places)[0, 1] > 0.9 and {e for e, _ in found.points["none"]} == {0.0}
    assert Explanation.read(found.as_dict()) == found


def test_the_same_rows_give_the_same_picture():
    """Done again, figures and picture have the same bytes."""
    names = [f"n{i}" for i in range(9)]
    asked = (runtime(names, lambda x: np.tanh(x.sum(axis=1))), held_out(names), evaluation(), 1)
    assert picture(explanation(*asked), "a") == picture(explanation(*asked), "a")


@pytest.mark.parametrize(
    ("names", "function", "why"),
    [
        ([f"n{i}" for i in range(300)], lambda x: x[:, 0], "300 columns, whose SHAP values would take too long"),
        (["n0", "n1"], lambda x: x[:, 0] * np.nan, "SHAP values that are no numbers"),
    ],
)
def test_importances_stand_in_and_say_so(names, function, why):
    """Hundreds of columns, or answers that are no numbers, have permutation importances, and the words say which and why."""
    found = explanation(runtime(names, function), held_out(names), evaluation(n1=0.2, n0=0.1), 1)
    assert found.how == IMPORTANCE and found.why == f"permutation importance by roc_auc, because of {why}"
    assert list(found.importance)[:2] == ["n1", "n0"] and not found.points


def test_few_columns_that_become_many_values_say_so():
    """A text with its groups of words is one column, and the words say how many values it is that take too long."""
    given = runtime(["note"], lambda x: x[:, 0])
    given.rows_of_frame = lambda frame: Rows(
        np.zeros((len(frame), 2050), "float32"), np.empty((len(frame), 0), object), (), ()
    )
    found = explanation(given, held_out(["note"]), evaluation(note=0.2), 1)
    assert found.why.endswith("because of 1 column (2,050 values), whose SHAP values would take too long")


@pytest.mark.parametrize("how", [SHAP, IMPORTANCE])
def test_a_picture_holds_any_name(how):
    """Names with markup, and of any length, are text in a picture that XML can be read from; it has colours for a dark page too."""
    names = {"a <b> & 'c'": 0.5, "long " * 20: 0.25, **{f"n{i}": 0.1 for i in range(20)}}
    points = {name: [[0.1, 0.5], [-0.2, None]] for name in names} if how == SHAP else {}
    drawn = picture(Explanation(how, "because & so", 2, names, None, points), 'churn "1"')
    assert xml.dom.minidom.parseString(drawn).documentElement.tagName == "svg"
    assert (
        "prefers-color-scheme:dark" in drawn
        and "7 more with less" in drawn
        and "long long long long long long…<" in drawn
    )
    assert drawn.count("<circle") == (30 if how == SHAP else 0)
