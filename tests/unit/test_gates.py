"""Each gate reports passed or not, what it observed, its limit and the reason; every gate reports."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from harness.project import churn_rows
from pipeline.errors import GateError
from pipeline.gates import champion as champion_gate
from pipeline.gates import (
    data_contract,
    held_out_rows,
    metric_limit,
    naive_baseline,
    onnx_parity,
    run,
    schema,
    unknown_categories,
)
from pipeline.gates.base import PackagedModel, ValidatedData, Verdict
from pipeline.gates.packaged import packaged_model
from pipeline.serving.runtime import Runtime
from pipeline.serving.schema import Column, Reader, Schema
from pipeline.settings.gates import NAMES
from pipeline.training import evaluate
from pipeline.workspaces.dvc_graph import Artifacts


@pytest.fixture
def churn(settings):
    return settings.model("churn")


@pytest.fixture
def files(churn, churn_artifacts, tmp_path):
    """Artifacts of a model that is good."""
    files = Artifacts(tmp_path, "churn")
    shutil.copytree(churn_artifacts.folder, files.folder)
    rows = len(churn_rows(churn))
    report = {"in": rows, "kept": rows, "quarantined": 0, "held_out": 300, "faults": [], "missing": []}
    files.validation.write_text(json.dumps(report))
    return files


def by_name(verdicts):
    return {verdict.gate: verdict for verdict in verdicts}


def test_a_good_model_passes_all(churn, files):
    """A good model passes every gate."""
    verdicts = run.verdicts(churn, files, None, None)
    assert [v.gate for v in verdicts] == [
        "enough_rows",
        "held_out_rows",
        "data_contract",
        "missing_values",
        "metric_limit",
        "naive_baseline",
        "schema",
        "unknown_categories",
        "unknown_ranges",
        "champion",
        "automatic_slices",
        "calibration",
        "constant_prediction",
        "perfect_score",
        "leakage",
        "onnx_parity",
        "package_size",
        "one_row_latency",
    ]
    assert all(v.passed for v in verdicts)
    run.refuse_failed("churn", verdicts)


def test_settings_know_each_gate_by_its_name():
    """The names that `gates.modes` takes are those of the gates' files, in the order of the report."""
    assert tuple(run.name_of(gate) for gate in (*run.DATA_GATES, *run.MODEL_GATES)) == NAMES


def test_a_gate_that_is_off_does_not_run_and_one_that_warns_stops_nothing(churn, files, monkeypatch):
    """The first gives no verdict at all, the second one that is told and has its mode."""

    def broken(packaged):
        raise AssertionError("ran")

    def failing(packaged):
        return Verdict("metric_limit", False, 0.1, 0.6, "too low")

    broken.__module__, failing.__module__ = champion_gate.__name__, metric_limit.__name__
    monkeypatch.setattr(run, "MODEL_GATES", (broken, failing))
    modes = {"champion": "off", "metric_limit": "warn", "enough_rows": "off"}
    model = churn.model_copy(update={"gates": churn.gates.model_copy(update={"modes": modes})})
    verdicts = by_name(run.verdicts(model, files, None, None))
    assert {"champion", "enough_rows"}.isdisjoint(verdicts)
    assert (verdicts["metric_limit"].word, verdicts["metric_limit"].stops) == ("warned", False)
    assert [name for name, verdict in verdicts.items() if verdict.mode_is_set] == ["metric_limit"]
    run.refuse_failed("churn", list(verdicts.values()))


def test_a_gate_that_ends_with_an_error_has_not_passed_and_the_others_report(churn, files, monkeypatch):
    """Whatever odd input it stumbled over: the report has it in one line, with the key that lets a version pass without it."""

    def broken(packaged):
        raise ValueError("cannot convert\nfloat NaN")

    broken.__module__ = champion_gate.__name__
    monkeypatch.setattr(run, "MODEL_GATES", (broken, metric_limit.verdict))
    verdicts = by_name(run.verdicts(churn, files, None, None))
    assert str(verdicts["champion"]) == (
        "FAILED champion: ended with an error and has judged nothing (ValueError: cannot convert float NaN); "
        "gates.modes.champion: warn lets a version pass without it"
    )
    assert verdicts["champion"].stops and not verdicts["champion"].has_figure and verdicts["metric_limit"].passed


def test_a_sample_without_a_row_that_was_learnt_is_none(churn, files):
    """The sample is of what is served: a small one may have held-out rows alone, and no guess is made of those."""
    held_out = pd.read_parquet(files.predictions)
    held_out.drop(columns="prediction").tail(1).to_parquet(files.reference)
    assert packaged_model(churn, files, None, None).reference is None


def test_every_gate_reports_and_every_failure_is_in_the_line(churn, files):
    """Two gates fail: the error has both reasons, and the other gates report that they passed."""
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
    verdicts = by_name(run.verdicts(churn, files, None, None))
    assert {name for name, v in verdicts.items() if not v.passed} == {"enough_rows", "data_contract"}
    with pytest.raises(GateError) as refused:
        run.refuse_failed("churn", list(verdicts.values()))
    assert "50 rows kept" in str(refused.value)
    assert "plan isin: 50 rows, e.g. gold" in str(refused.value)


def test_too_few_held_out_rows_are_refused_with_the_label_delay(churn):
    """A model is not judged on a handful of rows: the line has their number, the limit, the held-out days and the labels' delay."""
    delay = {"median": 4 * 86_400, "p95": 9 * 86_400}
    data = ValidatedData(churn, {"held_out": 49, "label_delay_s": delay})
    verdict = held_out_rows.verdict(data)
    assert (verdict.passed, verdict.observed, verdict.limit) == (False, 49, 50)
    assert verdict.reason == (
        "49 labelled rows in the last 7 days (evaluation.holdout_days), at least 50 required (evaluation.min_holdout_rows); "
        "label delay 4 days (median), 95 % within 9 days"
    )
    assert held_out_rows.verdict(replace(data, validation={"held_out": 50})).passed
    assert held_out_rows.verdict(replace(data, validation={})) is None
    fewer = churn.model_copy(update={"evaluation": churn.evaluation.model_copy(update={"min_holdout_rows": 49})})
    assert held_out_rows.verdict(replace(data, model=fewer)).passed


def test_a_package_that_answers_otherwise_fails_parity(churn, files):
    """A package whose prediction differs from the evaluation's fails onnx_parity."""
    predictions = pd.read_parquet(files.predictions)
    predictions.loc[3, "prediction"] += 0.01
    predictions.to_parquet(files.predictions)
    parity = by_name(run.verdicts(churn, files, None, None))["onnx_parity"]
    assert not parity.passed
    assert parity.observed == pytest.approx(0.01, abs=1e-5)


def test_a_nan_answer_fails_parity(churn, files):
    """A package whose evaluation has no number fails onnx_parity."""
    predictions = pd.read_parquet(files.predictions)
    predictions.loc[3, "prediction"] = np.nan
    predictions.to_parquet(files.predictions)
    assert not by_name(run.verdicts(churn, files, None, None))["onnx_parity"].passed


def test_worse_than_the_champion_fails_and_names_its_version(churn, files, tmp_path):
    """A model that is worse than the champion on the same rows fails and names the champion's version."""
    champion = shutil.copytree(files.package, tmp_path / "champion")
    predictions = pd.read_parquet(files.predictions)
    predictions["prediction"] = np.random.default_rng(0).random(len(predictions))
    predictions.to_parquet(files.predictions)
    verdict = by_name(run.verdicts(churn, files, champion, "7"))["champion"]
    assert not verdict.passed
    assert verdict.observed < -0.2
    assert "version 7 on the same" in verdict.reason


def test_as_good_as_the_champion_passes(churn, files, tmp_path):
    """A model that equals the champion passes the champion gate."""
    champion = shutil.copytree(files.package, tmp_path / "champion")
    verdict = by_name(run.verdicts(churn, files, champion, "7"))["champion"]
    assert verdict.passed
    assert verdict.observed == pytest.approx(0.0, abs=1e-6)


def with_features(folder, change):
    """The package in `folder` with other columns in its manifest's schema."""
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["schema"]["columns"] = change(manifest["schema"]["columns"])
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_a_column_that_is_mostly_unknown_fails(churn, files):
    """Held-out categories that training never saw are counted by column; more than the limit fail the gate with an example."""
    predictions = pd.read_parquet(files.predictions)
    kept, of = len(predictions), by_name(run.verdicts(churn, files, None, None))
    assert of["unknown_categories"].passed
    assert "held-out rows: none" in of["unknown_categories"].reason
    rows = predictions.assign(
        plan=predictions["plan"].str.upper().where(predictions.index < kept * 0.6, predictions["plan"])
    )
    held = PackagedModel(churn, {}, None, rows, Runtime.load(files.package))
    verdict = unknown_categories.verdict(held)
    assert not verdict.passed
    assert verdict.observed == pytest.approx(0.6, abs=0.01)
    assert "plan 60" in verdict.reason and "gates.unknown_share" in verdict.reason


def test_a_model_that_refuses_the_rows_it_was_tested_on_fails(churn, files):
    """The parity gate asks as a user does: a row that the door refuses is a failed gate with the row and the rule."""
    held_out = pd.read_parquet(files.predictions)
    reader = with_columns(
        Runtime.load(files.package).manifest, lambda columns: [{**c, "nullable": False} for c in columns]
    )
    package = SimpleNamespace(reader=reader, predict=None, classes=())
    held_out.loc[3, "calls"] = np.nan
    verdict = onnx_parity.verdict(PackagedModel(churn, {}, None, held_out, package))
    assert not verdict.passed
    assert "the package refuses a row that it was tested on: row" in verdict.reason
    assert "column calls must not be missing" in verdict.reason


def with_columns(manifest, change):
    """The reader of a manifest whose schema has other columns."""
    schema = manifest["schema"]
    return Reader(Schema.from_json({**schema, "columns": change(schema["columns"])}))


CHANGED = {
    "column calls is added": lambda features: [f for f in features if f["name"] != "calls"],
    "column visits is dropped": lambda features: [*features, {"name": "visits", "kind": "number"}],
    "column plan is now text": lambda features: [
        {"name": "plan", "kind": "number"} if f["name"] == "plan" else f for f in features
    ],
    "column spend may no longer be missing": lambda features: [{**f, "nullable": True} for f in features],
    "column plan may no longer be gold": lambda features: [
        {**f, "allowed": [*f["allowed"], "gold"]} if "allowed" in f else f for f in features
    ],
}


@pytest.mark.parametrize("change", CHANGED)
def test_other_columns_than_the_champions_fail_unless_they_are_accepted(churn, files, change):
    """A model that takes other columns than the champion fails `schema` with each column's name, and passes on purpose."""
    now = Runtime.load(files.package)
    champion = SimpleNamespace(reader=with_columns(now.manifest, CHANGED[change]), task="binary")
    packaged = PackagedModel(churn, {}, None, None, now, champion, "7")
    refused, accepted = schema.verdict(packaged), schema.verdict(replace(packaged, accept_schema_change=True))
    assert (refused.passed, accepted.passed) == (False, True)
    assert change in refused.reason and "--accept-schema-change" in refused.reason
    assert change in accepted.reason and "accepted on purpose" in accepted.reason


TEXT, SINCE = Column("note", "text", groups=64), Column("since", "datetime")


@pytest.mark.parametrize(
    ("live", "candidate", "passed", "said"),
    [
        (
            Schema((SINCE,), event_time="seen_at"),
            Schema((SINCE,), event_time="seen_at", timezone="Europe/Berlin"),
            False,
            "beside version 7: since, seen_at without a zone is now a time in Europe/Berlin, not in UTC; tell the clients",
        ),
        (
            Schema((TEXT,)),
            Schema((replace(TEXT, groups=512),)),
            True,
            "the same columns beside version 7; not comparable on logged requests: "
            "the words of note in 512 groups, the live version's log has 64",
        ),
        (Schema((TEXT,)), Schema((replace(TEXT, groups=0),)), True, "the same columns beside version 7"),
    ],
    ids=["another zone", "more groups of words", "no groups"],
)
def test_a_zone_needs_consent_and_other_groups_of_words_are_said(churn, live, candidate, passed, said):
    """In another zone the same clock time is another moment; of words in other groups the log tells nothing, which refuses nobody."""
    now, champion = (SimpleNamespace(reader=Reader(of), task="binary") for of in (candidate, live))
    packaged = PackagedModel(churn, {}, None, None, now, champion, "7")
    verdict = schema.verdict(packaged)
    assert (verdict.passed, verdict.reason[: len(said)]) == (passed, said)
    assert schema.verdict(replace(packaged, accept_schema_change=True)).passed


def test_wider_rules_and_another_order_are_no_schema_change(churn, files):
    """A model that takes every request that the champion takes passes `schema`."""
    now = Runtime.load(files.package)
    narrower = with_columns(now.manifest, lambda columns: [{**c, "nullable": False} for c in reversed(columns)])
    champion = SimpleNamespace(reader=narrower, task="binary")
    assert schema.verdict(PackagedModel(churn, {}, None, None, now, champion, "7")).passed


def test_a_champion_that_needs_a_dropped_column_stops_no_run(churn, files, tmp_path):
    """A dropped feature makes the champion not comparable: with the change accepted every gate passes and one says so."""
    champion = with_features(shutil.copytree(files.package, tmp_path / "champion"), lambda features: features)
    names = churn.training.features
    predictions = pd.read_parquet(files.predictions).drop(columns=names[0])
    reader = Reader(Schema((Column("calls"), Column("plan", "category"))))
    held = PackagedModel(
        churn, {}, None, predictions, SimpleNamespace(reader=reader, classes=()), Runtime.load(champion), "7"
    )
    verdict = champion_gate.verdict(held)
    assert verdict.passed
    assert "not comparable: the champion, version 7, needs spend" in verdict.reason


def packaged(model, limits, **evaluation):
    """What the gates on metrics look at: `limits` of params.yaml's gates, and an evaluation."""
    settings = model.model_copy(update={"gates": model.gates.model_copy(update=limits)})
    figures = {"rows": 10, "trained_rows": 90, "baseline": {}} | evaluation
    no_rows = pd.DataFrame({"seen_at": pd.to_datetime([], utc=True), "left": [], "prediction": []})
    return PackagedModel(settings, {}, evaluate.Evaluation(**figures), no_rows, SimpleNamespace(classes=()))


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
def test_the_limit_points_the_way_of_the_metric(churn, metric, observed, limit, passed):
    """metric_limit is a lower limit for scores, an upper one for losses, and a missing metric fails."""
    model = packaged(churn, {"metric_limit": limit}, metric=metric, metrics={metric: observed})
    assert metric_limit.verdict(model).passed is passed


def test_no_better_than_a_guess_fails(churn):
    """A model that does not beat the naive baseline by its margin fails."""
    rmse = {"metric": "rmse", "metrics": {"rmse": 2.0}, "baseline": {"rmse": 2.05}}
    assert not naive_baseline.verdict(packaged(churn, {"baseline_margin": 0.1}, **rmse)).passed
    assert naive_baseline.verdict(packaged(churn, {"baseline_margin": 0.01}, **rmse)).passed


def test_bad_rows_over_the_limit_fail(churn):
    """More quarantined rows than max_bad_share fail the data contract."""
    report = {"in": 1000, "kept": 980, "quarantined": 20, "faults": []}
    verdict = data_contract.verdict(ValidatedData(churn, report))
    assert (verdict.passed, verdict.observed, verdict.limit) == (False, 0.02, 0.01)


def test_a_backfill_is_not_compared_with_the_champion(churn, files):
    """A backfill has no champion gate."""
    verdicts = run.verdicts(churn, files, None, None, backfill=True)
    assert "champion" not in by_name(verdicts)
    assert all(verdict.passed for verdict in verdicts)


def test_a_verdict_reads_back_from_its_dict():
    """A verdict reads back from its dictionary, unknown keys included, and a missing key is an error."""
    verdict = Verdict("parity", False, 0.5, 0.1, "the difference is too large")
    assert Verdict.from_dict(json.loads(json.dumps(verdict.as_dict())) | {"added_later": 1}) == verdict
    with pytest.raises(KeyError, match="passed"):
        Verdict.from_dict({"gate": "parity"})
