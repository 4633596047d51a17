"""A regression is judged by the scale of its predictions: its limits, its golden requests and the digits that are shown."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from harness.project import CHURN, change_params
from pipeline.errors import RolloutError
from pipeline.gates import champion, metric_limit, naive_baseline
from pipeline.gates.base import PackagedModel
from pipeline.monitoring.drift import DriftVerdict
from pipeline.monitoring.live_quality import LiveQuality
from pipeline.policy.retrain import decide
from pipeline.serving.schema import Schema
from pipeline.settings.models import Model, Monitor, load
from pipeline.training import evaluate, tasks
from tests.support.golden import golden_answers

MODEL = Model.model_validate(CHURN)
REGRESSION = {
    "training": CHURN["training"] | {"task": "regression"},
    "evaluation": CHURN["evaluation"] | {"metric": "mae"},
}


def test_a_package_without_a_scale_is_judged_as_before(churn_package, tmp_path, monkeypatch):
    """Versions that are registered already keep their rule: 1e-5, relative for answers above 1."""
    golden = json.loads((churn_package / "golden.json").read_text())
    assert (golden.pop("scale"), golden.pop("tolerance")) == (1.0, MODEL.gates.parity_tolerance)

    def with_answers(change):
        answers = [answer + change for answer in golden["predictions"]]
        (tmp_path / "golden.json").write_text(json.dumps(golden | {"predictions": answers}))
        return golden_answers(churn_package, tmp_path, monkeypatch)

    assert with_answers(0.5e-5) == len(golden["predictions"])
    with pytest.raises(RolloutError, match=r"golden answers are wrong.*was 1e-05"):
        with_answers(3e-5)


@pytest.mark.parametrize(
    ("task", "predictions", "scale"),
    [
        ("binary", [0.1, 0.9], 1.0),
        ("regression", [0.0, 2000.0], 1000.0),
        ("regression", [1e-6, 3e-6], 1e-6),
        ("regression", [-7.0, -7.0], 7.0),
        ("regression", [0.0, 0.0], 1.0),
    ],
)
def test_the_scale_is_the_predictions_spread(task, predictions, scale):
    """Their size where all are equal; a probability is its own measure."""
    assert tasks.TASKS[task](None).scale(np.array(predictions)) == scale


def judged(unit, **gates):
    """What gates say of errors of 60 against 100 for the naive guess and 50 for the champion, in such a unit."""
    model = Model.model_validate(CHURN | REGRESSION | {"evaluation": CHURN["evaluation"] | {"metric": "rmse"}})
    model = model.model_copy(update={"gates": model.gates.model_copy(update=gates | {"metric_limit": 70 * unit})})
    seen = pd.date_range("2024-02-20", periods=60, freq="2h", tz="UTC")
    held_out = pd.DataFrame({"seen_at": seen, "left": 0.0, "prediction": [60 * unit, -60 * unit] * 30})
    figures = evaluate.Evaluation(60, 9, "rmse", {"rmse": 60 * unit}, {"rmse": 100 * unit})
    reader = SimpleNamespace(schema=Schema(()))
    answers = np.array([50 * unit, -50 * unit] * 30)
    before = SimpleNamespace(reader=reader, task="regression", classes=(), predict_frame=lambda frame: answers)
    packaged = PackagedModel(model, {}, figures, held_out, SimpleNamespace(reader=reader, classes=()), before, "3")
    packaged = replace(packaged, champion_trained_to=seen[0])
    return metric_limit.verdict(packaged), naive_baseline.verdict(packaged), champion.verdict(packaged)


@pytest.mark.parametrize("unit", [1e-8, 1.0, 1e4])
def test_the_limits_of_errors_are_shares_of_the_naive_guess(unit):
    """0.4 better than the guess and 0.1 worse than the champion, whatever the target's unit."""
    _, guess, before = judged(unit, baseline_margin=0.39, champion_tolerance=0.11)
    assert (guess.passed, before.passed) == (True, True)
    assert (guess.observed, before.observed) == (pytest.approx(0.4), pytest.approx(-0.1))
    _, guess, before = judged(unit, baseline_margin=0.41, champion_tolerance=0.09)
    assert (guess.passed, before.passed) == (False, False)
    assert "at least 0.41 of the naive guess's rmse better required (gates.baseline_margin)" in guess.reason
    calm, limits = DriftVerdict("no drift", "", 100, 100, []), Monitor(cron="0 * * * *", window_days=7)
    live = LiveQuality("rmse", 65.1 * unit, 60 * unit, 500, 600, naive=100 * unit)
    live = replace(live, low=65.05 * unit, high=65.2 * unit)
    assert decide(calm, live, limits).decision == "retrain"
    assert decide(calm, replace(live, value=64.9 * unit), limits).decision == "wait"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0000006, "6e-07"),
        (0.00123456, "0.001235"),
        (12.3456, "12.35"),
        (123456.7, "123,457"),
        (0.0, "0"),
        (3e12, "3e+12"),
    ],
)
def test_an_error_is_shown_with_four_digits_that_count(value, text):
    """0.0000 would say that the model of a target in millionths is perfect."""
    assert evaluate.shown("rmse", value) == text
    assert evaluate.shown("roc_auc", 0.84) == "0.8400"


def test_an_old_key_and_a_limit_in_another_unit_are_refused_by_name(project):
    """In one line each, which says what stands for it."""
    change_params(project, "models.churn.rollout.golden_tolerance", 1e-5)
    assert "golden_tolerance is gone: gates.parity_tolerance is for" in str(load(project).broken["churn"])
    large = {"monitor": CHURN["monitor"] | {"quality_drop": 5}}
    with pytest.raises(
        ValueError, match=r"monitor.quality_drop\s+is a share of the naive guess's mae, from 0 to 1; got 5"
    ):
        Model.model_validate(CHURN | REGRESSION | large)
