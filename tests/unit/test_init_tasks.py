"""`perennial init`: the task follows from the target, or is asked for."""

import numpy as np
import pandas as pd
import pytest

from pipeline.errors import PerennialError
from pipeline.settings.models import load
from tests.unit.test_init import CHURNED, RANDOM, ROWS, SPEND, TABLE, drafted, left_out, project

__all__ = ["project"]
PLACES = np.array(["basic", "plus", "pro"])[np.clip((SPEND + RANDOM.normal(size=ROWS) * 0.3 + 1).astype(int), 0, 2)]


def task_of(result):
    return next(each for each in result.draft.assumptions if each.what == "task")


@pytest.mark.parametrize(
    ("target", "task", "why"),
    [
        (PLACES, "multiclass", "churned has 3 labels: a prediction is a probability for each"),
        (np.resize([3, 4, 5, 6, 7, 8], ROWS), "multiclass", "churned has only 6 different values, all whole numbers"),
        (np.resize(np.arange(40), ROWS), "regression", "churned is a number with 40 different values"),
        (np.resize([0.5, 1.5, 2.5], ROWS), "regression", "churned is a number with 3 different values"),
    ],
)
def test_the_task_follows_from_the_targets_values(project, target, task, why):
    """Three to twenty labels, or few whole numbers, are classes; the flag that says otherwise is told."""
    assumed = task_of(drafted(project, TABLE.assign(churned=target)))
    assert (assumed.chosen, assumed.flag) == (task, "--task")
    assert assumed.why.startswith(why)


def test_a_table_of_three_labels_becomes_a_right_block(project):
    """Its metric is log_loss with a guess's as the limit, and a flag makes whole numbers amounts."""
    settings = drafted(project, TABLE.assign(churned=PLACES), dry_run=False).draft.settings
    assert load(project).model("churn").training.task == "multiclass"
    assert settings["evaluation"]["metric"] == "log_loss"
    assert 0.8 < settings["gates"]["metric_limit"] < 1.2
    assert "positive" not in settings["training"]
    numbers = TABLE.assign(churned=np.resize([3, 4, 5, 6], ROWS))
    assert task_of(drafted(project, numbers, task="regression")).chosen == "regression"


def test_a_feature_that_knows_each_class_is_left_out(project):
    """A leak of a target of labels is found as one of two labels is."""
    table = TABLE.assign(churned=PLACES, code=np.char.upper(PLACES), level=pd.factorize(PLACES)[0] * 1.5)
    assert {"code", "level"} <= {*left_out(drafted(project, table))}
    assert "spend" not in left_out(drafted(project, table))


@pytest.mark.parametrize(
    ("target", "asked", "line"),
    [
        (CHURNED, {"task": "multiclass"}, "has two labels, and a multiclass task has three or more; use --task binary"),
        ([f"n{n % 30}" for n in range(ROWS)], {}, "has 30 labels, .* use --task multiclass if each is a class"),
        (
            PLACES,
            {"task": "regression"},
            "holds no numbers, .*; use --task binary, or multiclass for three labels or more",
        ),
        (PLACES, {"metric": "roc_auc"}, "is no metric of a multiclass task; use one of log_loss, accuracy, macro_f1"),
    ],
)
def test_a_task_that_does_not_fit_the_target_is_refused(project, target, asked, line):
    """In a line that says which flag does."""
    with pytest.raises(PerennialError, match=line):
        drafted(project, TABLE.assign(churned=target), **asked)
