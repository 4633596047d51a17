"""Each gate says passed or not, what it observed, its limit and why; all of them speak."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from harness.project import churn_rows
from pipeline.errors import GateError
from pipeline.gates import data_contract, metric_limit, naive_baseline, run
from pipeline.training import evaluate, fit, package
from pipeline.workspaces.dvc_graph import Artifacts


@pytest.fixture
def churn(settings):
    return settings.model("churn")


@pytest.fixture
def files(churn, tmp_path):
    """Artifacts of a model that is good."""
    made = Artifacts(tmp_path, "churn")
    made.folder.mkdir(parents=True)
    rows = churn_rows(churn)
    fit.save(fit.fit(rows, churn), made.model)
    evaluate.evaluate(churn, rows, made.model, made.predictions, made.reference, made.metrics)
    package.build("churn", churn, made.model, made.predictions, made.package)
    made.validation.write_text(
        json.dumps({"in": len(rows), "kept": len(rows), "quarantined": 0, "faults": [], "missing": []})
    )
    return made


def by_name(told):
    return {v.gate: v for v in told}


def test_a_good_model_passes_all(churn, files):
    told = run.verdicts(churn, files, None, None)
    assert [v.gate for v in told] == [
        "enough_rows",
        "data_contract",
        "missing_values",
        "metric_limit",
        "naive_baseline",
        "champion",
        "onnx_parity",
    ]
    assert all(v.passed for v in told)
    run.refuse_failed("churn", told)


def test_all_gates_speak_and_every_failure_is_in_the_line(churn, files):
    """Two failed gates: both reasons are told, and the others still said passed."""
    files.validation.write_text(
        json.dumps(
            {
                "in": 100,
                "kept": 50,
                "quarantined": 50,
                "faults": [{"column": "plan", "check": "isin", "rows": 50, "examples": ["gold"]}],
                "missing": [],
            }
        )
    )
    told = by_name(run.verdicts(churn, files, None, None))
    assert {name for name, v in told.items() if not v.passed} == {"enough_rows", "data_contract"}
    with pytest.raises(GateError) as refused:
        run.refuse_failed("churn", list(told.values()))
    assert "50 rows kept" in str(refused.value)
    assert "plan isin: 50 rows, e.g. gold" in str(refused.value)


def test_a_package_that_answers_otherwise_fails_parity(churn, files):
    predictions = pd.read_parquet(files.predictions)
    predictions.loc[3, "prediction"] += 0.01
    predictions.to_parquet(files.predictions)
    parity = by_name(run.verdicts(churn, files, None, None))["onnx_parity"]
    assert not parity.passed
    assert parity.observed == pytest.approx(0.01, abs=1e-5)


def test_a_nan_answer_fails_parity(churn, files):
    predictions = pd.read_parquet(files.predictions)
    predictions.loc[3, "prediction"] = np.nan
    predictions.to_parquet(files.predictions)
    assert not by_name(run.verdicts(churn, files, None, None))["onnx_parity"].passed


def test_worse_than_the_champion_fails_and_names_its_version(churn, files, tmp_path):
    """The champion answers the same rows through its own package."""
    champion = shutil.copytree(files.package, tmp_path / "champion")
    predictions = pd.read_parquet(files.predictions)
    predictions["prediction"] = np.random.default_rng(0).random(len(predictions))
    predictions.to_parquet(files.predictions)
    verdict = by_name(run.verdicts(churn, files, champion, "7"))["champion"]
    assert not verdict.passed
    assert verdict.observed < -0.2
    assert "version 7 on the same" in verdict.reason


def test_as_good_as_the_champion_passes(churn, files, tmp_path):
    champion = shutil.copytree(files.package, tmp_path / "champion")
    verdict = by_name(run.verdicts(churn, files, champion, "7"))["champion"]
    assert verdict.passed
    assert verdict.observed == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(
    ("metric", "observed", "limit", "passed"),
    [
        ("roc_auc", 0.7, 0.6, True),
        ("roc_auc", 0.5, 0.6, False),
        ("log_loss", 0.4, 0.5, True),
        ("log_loss", 0.6, 0.5, False),
        ("roc_auc", float("nan"), 0.1, False),
    ],
)
def test_the_limit_points_the_way_of_the_metric(metric, observed, limit, passed):
    report = {"metric": metric, "metrics": {metric: observed}, "rows": 10}
    assert metric_limit.good_enough(report, limit).passed is passed


def test_no_better_than_a_guess_fails():
    report = {"metric": "rmse", "metrics": {"rmse": 2.0}, "baseline": {"rmse": 2.05}}
    assert not naive_baseline.beats_guess(report, 0.1).passed
    assert naive_baseline.beats_guess(report, 0.01).passed


def test_bad_rows_over_the_limit_fail(churn):
    report = {"in": 1000, "kept": 980, "quarantined": 20, "faults": []}
    verdict = data_contract.few_bad_rows(report, churn.gates.contract)
    assert (verdict.passed, verdict.observed, verdict.limit) == (False, 0.02, 0.01)
