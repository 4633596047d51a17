"""What a version needs of its features is measured once, and an alarm is told in that order."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from harness.project import churn_rows
from pipeline.cli import tables
from pipeline.monitoring.drift import Window, compare
from pipeline.monitoring.profiles.in_memory import profile_of
from pipeline.monitoring.profiles.reference import keep_in, kept_in, reference_of
from pipeline.serving.schema import Column
from pipeline.settings.models import DriftLimits
from pipeline.training import evaluate
from pipeline.training.importances import MOST_ROWS, REPEATS, importances
from pipeline.training.tasks import Answers

COLUMNS = (Column("x", "number"), Column("note", "text"), Column("plan", "category"))


def rows(count=5000):
    random = np.random.default_rng(3)
    numbers = {name: random.normal(0, 1, count) for name in ("x", *COLUMNS[1].matrix)}
    return pd.DataFrame({**numbers, "plan": random.choice(["basic", "plus"], count)})


def test_a_feature_that_decides_matters_and_one_that_is_not_used_does_not():
    """The target is x itself: to deal x anew costs its variance twice, and a text's numbers have what the text has."""
    table = rows()
    target, seen = table["x"].to_numpy(), []

    def predict(features):
        seen.append(len(features))
        return Answers(features["x"].to_numpy())

    def loss(answers, places):
        return float(np.mean((answers.values - target[places]) ** 2))

    found = importances(table, COLUMNS, predict, loss, seed=1)
    assert found["x"] == pytest.approx(2.0, abs=0.2)
    assert {found[name] for name in ("plan", *COLUMNS[1].watched)} == {0.0}
    assert seen == [MOST_ROWS, len(COLUMNS) * REPEATS * MOST_ROWS]
    assert importances(table, COLUMNS, predict, loss, seed=1) == found


def test_a_loss_that_is_no_number_gives_no_importances():
    """As of a metric of one class."""
    assert importances(rows(50), COLUMNS, lambda f: Answers(f["x"].to_numpy()), lambda *_: float("nan"), seed=1) == {}


def test_evaluate_measures_them_on_the_held_out_rows(churn_artifacts, settings, tmp_path):
    """Who calls much and spends little leaves, whatever the plan; the same evaluation gives the same figures."""
    model, files = settings.model("churn"), [tmp_path / name for name in ("predictions", "reference", "report.json")]
    found = evaluate.evaluate(model, churn_rows(model), churn_artifacts.model, *files).importances
    assert set(found) == {"spend", "calls", "plan"}
    assert min(found["spend"], found["calls"]) > 0.05 > found["plan"]
    assert json.loads(churn_artifacts.metrics.read_text())["importances"] == found


def test_they_are_kept_with_the_profiles(tmp_path):
    """In the file of the reference, which has a digest; a file from before them has none."""
    table = rows(500)
    table.to_parquet(tmp_path / "reference.parquet")
    reference = reference_of(table, ["x"], ["plan"], None)
    keep_in(tmp_path / "reference.parquet", replace(reference, importances={"x": 0.25}))
    assert kept_in(tmp_path / "reference.parquet").only(["x"]).importances == {"x": 0.25}
    before = json.loads(reference.as_text())
    del before["importances"]
    assert type(reference).read_text(json.dumps(before)).importances == {}


def test_an_alarm_is_told_in_the_order_of_change_times_importance():
    """y moved further, and the model hardly uses it."""
    random = np.random.default_rng(5)
    before = pd.DataFrame({name: random.normal(0, 1, 4000) for name in ("x", "y")})
    now = before.sample(2000, random_state=1) + {"x": 0.5, "y": 1.0}
    plain = reference_of(before, ["x", "y"], [], None)
    weighed = replace(plain, importances={"x": 0.2, "y": 0.001})
    one, two = (compare(r, Window(profile_of(now, r.layout)), DriftLimits()) for r in (plain, weighed))
    assert [feature.feature for feature in one.moved] == ["y", "x"]
    assert [feature.feature for feature in two.moved] == two.as_dict()["moved"] == ["x", "y"]
    assert two.reason.index("x (") < two.reason.index("y (")
    first = next(line for line in tables.drift(two).splitlines() if line.strip().startswith("x "))
    assert "0.2000" in first and "importance" not in tables.drift(one)


def test_a_difference_of_two_matters_as_the_one_that_matters_more():
    """Nobody measures the importance of what no model gets."""
    random = np.random.default_rng(5)
    temp = random.normal(60, 20, 4000)
    before = pd.DataFrame({"temp": temp, "dewp": temp - random.gamma(4, 2, 4000)})
    swapped = before.sample(2000, random_state=1).rename(columns={"temp": "dewp", "dewp": "temp"})
    weighed = replace(reference_of(before, ["temp", "dewp"], [], None), importances={"temp": 0.2, "dewp": 0.1})
    found = compare(weighed, Window(profile_of(swapped, weighed.layout)), DriftLimits())
    assert {f.feature: f.importance for f in found.moved}["temp minus dewp"] == 0.2
    (line,) = (each for each in tables.drift(found).splitlines() if each.strip().startswith("temp minus dewp"))
    assert line.split()[-3:] == ["-", "-", "moved"]
