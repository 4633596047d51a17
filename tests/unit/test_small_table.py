"""A small table on which boosting is worse than guessing gets another estimator from `init`, and no other table does."""

import numpy as np
import pandas as pd
import pytest

from pipeline.init.request import Request
from pipeline.init.run import init
from pipeline.settings.models import load
from tests.unit.test_init import PARAMS

RANDOM = np.random.default_rng(3)


def table(rows: int, noise: float) -> pd.DataFrame:
    """Three classes that follow a number, more loosely the more `noise` there is."""
    size = RANDOM.normal(size=rows)
    place = np.digitize(size + RANDOM.normal(0, noise, rows), [-0.7, 0.7])
    return pd.DataFrame(
        {
            "seen_at": pd.date_range("2024-01-01", periods=rows, freq="h").strftime("%Y-%m-%dT%H:%M:%SZ"),
            "size": size.round(4),
            "width": RANDOM.normal(size=rows).round(4),
            "answer": np.array(["low", "middle", "high"])[place],
        }
    )


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "params.yaml").write_text(PARAMS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def drafted(project, rows):
    rows.to_csv(project / "rows.csv", index=False)
    result = init(Request("model", "rows.csv", "answer"), project, False)
    said = {each.what: each for each in result.draft.assumptions}
    return load(project).models["model"], said


def test_a_small_table_that_boosting_learns_by_heart_gets_another_estimator(project):
    """It is said with the three scores, and stands in the block."""
    model, said = drafted(project, table(400, 2.5))
    assert model.training.estimator == "linear"
    assert said["estimator"].chosen == "linear"
    assert "newest rows before the held-out days, where boosting as usual has" in said["estimator"].why


@pytest.mark.parametrize(("rows", "noise"), [(400, 0.2), (13_000, 2.5)], ids=["learnt well", "not small"])
def test_where_boosting_is_better_than_guessing_or_the_table_is_large_nothing_changes(project, rows, noise):
    """The block names no estimator."""
    model, said = drafted(project, table(rows, noise))
    assert model.training.estimator == "hist_gradient_boosting" and not model.training.options
    assert "estimator" not in said


def test_a_text_counts_in_the_comparison(project):
    """Where a text says most of what the answer is, boosting is not called worse than guessing for want of it."""
    rows, random = table(400, 2.5), np.random.default_rng(5)
    told = rows["answer"].map({"low": "came late", "middle": "has arrived", "high": "is broken"}).to_numpy()
    told = np.where(random.random(400) < 0.1, random.permutation(told), told)
    _, said = drafted(project, rows.assign(note=[f"the box {told[i]} on the way {i}" for i in range(400)]))
    assert "words" in said
    assert "estimator" not in said, said["estimator"].why


def test_weak_counts_get_an_estimator_of_counts(project):
    """Where boosting is worse than their mean at 5,600 rows to learn from, a Poisson regression, which answers nothing below 0, takes its place."""
    random = np.random.default_rng(5)
    rows = table(7000, 1.0)
    rows = rows.assign(answer=random.poisson(np.exp(0.1 + 0.1 * rows["size"])), depth=random.normal(size=7000).round(3))
    model, said = drafted(project, rows)
    assert model.training.estimator == "sklearn.linear_model.PoissonRegressor"
    assert model.training.options == {"alpha": 0.001} and model.evaluation.metric == "poisson_deviance"
    assert said["estimator"].chosen == "Poisson regression"
