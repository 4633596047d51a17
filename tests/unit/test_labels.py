"""The two labels of a binary task: which one is 1, in every spelling, and what is no label of it."""

import numpy as np
import pandas as pd
import pytest

from harness.project import change_params
from pipeline.data import labels, snapshot
from pipeline.errors import DataError
from pipeline.monitoring import live_quality
from pipeline.serving import docs
from pipeline.settings.models import load
from pipeline.settings.training import Training
from tests.support import in_memory

TRAINING = {"target": "y", "numeric": ("x",)}


def read(values, positive, decimal="."):
    """The target after reading: a list of 1, 0 and None."""
    with in_memory.connection() as connection:
        connection.register("frame", pd.DataFrame({"y": values}))
        connection.execute("CREATE TEMP TABLE rows AS SELECT * FROM frame")
        labels.read(connection, Training(**TRAINING, positive=positive), decimal, "m")
        return [value for (value,) in connection.execute("SELECT y FROM rows").fetchall()]


@pytest.mark.parametrize(
    ("values", "positive", "expected"),
    [
        (["good", "bad", None, "bad"], "bad", [0, 1, None, 1]),
        ([" good", "bad ", "", "NA"], "good", [1, 0, None, None]),
        ([-1, 1, 1], 1, [0, 1, 1]),
        ([-1, 1, 1], -1, [1, 0, 0]),
        ([-1.0, 1.0, np.nan], -1, [1, 0, None]),
        (["-1", "1.0", "+1"], 1, [0, 1, 1]),
        (["1", "2"], "2", [0, 1]),
        (["1", "2"], 2.0, [0, 1]),
        (["yes", "No", "TRUE", "f"], True, [1, 0, 1, 0]),
        (["yes", "No"], False, [0, 1]),
        ([True, False, None], False, [0, 1, None]),
        (["True", "False"], "True", [1, 0]),
        (["it's", "is"], "it's", [1, 0]),
        (["n", "n"], "y", [0, 0]),
        ([None, None], "y", [None, None]),
    ],
)
def test_the_positive_label_is_one_and_the_other_zero(values, positive, expected):
    """Texts, numbers and truths in any spelling; what is missing has no label."""
    assert read(values, positive) == expected


def test_a_decimal_comma_is_one_in_a_label_too():
    """In files with decimal commas the label 0,5 is the number 0.5."""
    assert read(["0,5", "1,0"], 0.5, ",") == [1, 0]


@pytest.mark.parametrize(
    ("values", "positive", "line"),
    [
        (["a", "b", "c"], "a", "column y has 3 labels, 'a', 'b', 'c', and models.m.training.positive is 'a'"),
        (["Yes", "yes", "no"], "yes", "has 3 labels, 'Yes', 'no', 'yes'"),
        (["bad", "good"], "Bad", "has 2 labels, 'bad', 'good', and models.m.training.positive is 'Bad'"),
        ([1, 2, 3, 4, 5, 6], 1, "has 6 labels, '1.0', '2.0', '3.0', '4.0', '5.0' …"),
    ],
)
def test_a_third_label_is_refused_by_name(values, positive, line):
    """Nothing becomes 0 only because it is not the label that is 1."""
    with pytest.raises(DataError) as refused:
        read(values, positive)
    assert line in str(refused.value) and "a binary task has two" in str(refused.value)


def test_training_and_the_monitor_get_the_labels_that_the_source_has(project):
    """What reads the source has gone and here as 1 and 0."""
    rows = pd.read_parquet(project / "customers" / "all.parquet")
    expected = rows.set_index("customer")["left"]
    rows.assign(left=np.where(rows["left"] == 1, "gone", "here")).to_parquet(project / "customers" / "all.parquet")
    change_params(project, "models.churn.training.positive", "gone")
    model = load(project).model("churn")
    start, end = snapshot.window(model.source, model.as_of)
    known = live_quality.labels(model, project, start, end, "churn")
    assert len(known) > 1000 and set(known["target"]) == {0.0, 1.0}
    assert (known["target"].to_numpy() == expected[known["key"]].to_numpy()).all()


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"training.positive": "yes", "training.task": "regression", "evaluation.metric": "mae"},
            "the task is regression",
        ),
        ({"training.positive": " "}, "training.positive: is empty"),
        ({"training.positive": ["yes"]}, "training.positive"),
    ],
)
def test_a_positive_label_that_fits_no_task_is_refused(project, changes, line):
    """It is one label of a binary task."""
    for key, value in changes.items():
        change_params(project, f"models.churn.{key}", value)
    assert line in str(load(project).broken["churn"])


def test_the_docs_page_says_whose_probability_it_is():
    """Who asks the model sees what a prediction means; a package from before does not say so."""
    from types import SimpleNamespace

    assert docs._answer(SimpleNamespace(manifest={"answer": "the probability that left is gone"})) == {
        "description": "A prediction is the probability that left is gone."
    }
    assert docs._answer(SimpleNamespace(manifest={})) == {}
