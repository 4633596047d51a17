"""The model card of a version, and what moves its predictions, as MLflow keeps them and as a command gives them."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from mlflow.tracking._tracking_service import utils

from harness.project import CHURN
from pipeline.cli.main import main
from pipeline.context import Context
from pipeline.gates.base import Table, Verdict
from pipeline.ledger.approval_events import DeployRefused
from pipeline.ledger.events import DriftChecked, GatesChecked, VersionRegistered
from pipeline.ledger.rollout_events import RolledBack, RolloutEnded
from pipeline.registry import card_records
from pipeline.registry.file_client import FileClient
from pipeline.runs.model_card.card import card, html, markdown
from pipeline.runs.model_card.keep import intervals, keep
from pipeline.serving.explain import Explainer
from pipeline.serving.runtime import Runtime
from pipeline.settings.models import Model
from pipeline.training import evaluate, fit, package, skops_file
from pipeline.training.package import background_rows
from pipeline.workspaces.dvc_graph import Artifacts

trained = pytest.mark.usefixtures("trained_before")


def sections(made):
    return {section["title"]: section for section in made.as_dict()["sections"]}


def artifact(context, path):
    run = card_records.read(context.registry, "churn", "1").mlflow_run
    folder = context.home / "fetched"
    folder.mkdir(exist_ok=True)
    with open(context.registry.client().download_artifacts(run, path, str(folder)), encoding="utf-8") as file:
        return file.read()


@trained
def test_the_store_in_a_file_says_what_mlflows_client_says(version_one):
    """Version, aliases, run, figures, artifacts and logged model are the same with MLflow and without it."""
    registry = Context.here().registry
    told = []
    for client in (registry.client(), registry.reading()):
        version = client.get_model_version("churn", "1")
        run = client.get_run(version.run_id)
        (made,) = run.outputs.model_outputs
        items = [
            (item.path, item.is_dir)
            for folder in (None, "package")
            for item in client.list_artifacts(version.run_id, folder)
        ]
        (found,) = client.search_model_versions("name = 'churn'")
        told.append(
            [str(version.version), version.source, dict(version.tags), str(found.version), dict(found.tags)]
            + [run.info.artifact_uri, run.info.start_time, run.info.end_time, run.info.lifecycle_stage]
            + [dict(run.data.tags), dict(run.data.params), dict(run.data.metrics), items]
            + [
                client.get_experiment_by_name("churn").experiment_id,
                client.get_logged_model(made.model_id).artifact_location,
            ]
            + [{alias: str(n) for alias, n in client.get_registered_model("churn").aliases.items()}]
        )
    assert isinstance(registry.reading(), FileClient)
    assert told[0] == told[1]


@trained
def test_a_version_has_its_card_and_its_shap_values_in_mlflow(project, version_one, capsys, tmp_path):
    """A new version has figures and picture of its SHAP values, intervals, and its card; the command gives the card in three forms."""
    context = Context.here()
    shap = json.loads(artifact(context, "explanation/shap.json"))
    assert shap["how"] == "SHAP" and list(shap["importance"]) == ["spend", "calls", "plan"] and shap["rows"] == 100
    assert artifact(context, "explanation/shap.svg").count("<circle") == 300
    low, high = json.loads(artifact(context, "explanation/intervals.json"))["roc_auc"]
    assert low < context.registry.version_facts("churn", "1").metrics["roc_auc"] < high
    (limit,) = (v for v in json.loads(artifact(context, "gates.json"))["verdicts"] if v["gate"] == "metric_limit")
    assert limit["interval"] == pytest.approx([low, high]), "the card has one interval of a metric, not two"
    assert artifact(context, "card.md").startswith("# Model card: churn version 1\n")
    assert "Will this customer leave?" in artifact(context, "card.html")
    assert main(["card", "churn", "--html", str(tmp_path / "card.html")]) == 0
    told = capsys.readouterr().out
    assert "## Live history" in told and "roc_auc (the one that counts) | 0.9" in told and "It was never live." in told
    assert "- **required**: no, models.churn.approval was none\n\nNobody was asked, and nobody decided." in told
    assert "<svg" in (tmp_path / "card.html").read_text()
    assert main(["card", "churn", "1", "--json"]) == 0
    facts = {s["title"]: s["facts"] for s in json.loads(capsys.readouterr().out)["sections"]}
    assert facts["Data"]["window"] == "2024-01-31 to 2024-03-01" and facts["Version"]["run"] == "one"


@trained
def test_the_history_grows(project, version_one):
    """The card has when the version was live, what rolled it back, alarms and live quality; what MLflow keeps is replaced on request."""
    context = Context.here()
    quality = {"metric": "roc_auc", "value": 0.71, "low": 0.66, "high": 0.76, "labelled": 480, "held_out": 0.92}
    alarm = {"since": "2024-03-09", "start": "2024-03-02", "features": {"spend": "2024-03-09"}}
    for event in (
        RolloutEnded(version="1", slot="blue", switch_s=0.1),
        DriftChecked(
            verdict="drift",
            reason="r",
            champion="1",
            as_of="2024-03-09",
            live_quality=quality,
            alarm=alarm,
            said="it <drifts>",
        ),
        RolledBack(version="0", slot="green", left="1", reason="too bold"),
        DeployRefused(version="1", why="changed since bob approved it: image"),
    ):
        context.ledger.append(event, "churn")
    # MLflow remembers in a process where a run's artifacts are, and the project was copied since it was made.
    utils._artifact_repos_cache.clear()
    assert main(["card", "churn", "1", "--keep"]) == 0
    kept = artifact(context, "card.md")
    assert (
        "| spend |" in kept and "too bold" in kept and "roc_auc 0.71 (0.66 to 0.76) on 480 rows; 0.92 held out" in kept
    )
    assert "| deploy refused | version 1 was not deployed: changed since bob approved it: image |" in kept
    page = html(card(context, "churn", "1"))
    assert "it &lt;drifts&gt;" in page and "it <drifts>" not in page
    (live,) = (t for t in sections(card(context, "churn", "1"))["Live history"]["tables"] if t["title"] == "Live")
    ((begin, end),) = live["rows"]
    assert begin < end != "now"


@trained
def test_slices_and_intervals_come_from_the_verdicts(project, version_one):
    """A verdict's table is under slices and fairness, and its interval among the gates; without either that is said."""
    context = Context.here()
    run = context.ledger.events(VersionRegistered, model="churn")[-1]
    context.ledger.append(GatesChecked(verdicts=[]), "churn", run.run)
    context.ledger.append(run.event, "churn", run.run)
    assert sections(card(context, "churn", "1"))["Slices and fairness"]["notes"] == ["Not recorded."]
    table = Table(("slice", "auc"), (("plan = plus | basic", 0.8), ("plan = *", None)))
    found = Verdict("slices", False, 0.1, 0.05, "plus is worse", (0.02, 0.18), mode="warn", table=table)
    context.ledger.append(GatesChecked(verdicts=[found.as_dict()]), "churn", run.run)
    context.ledger.append(run.event, "churn", run.run)
    made = card(context, "churn", "1")
    assert sections(made)["Slices and fairness"]["tables"][0]["rows"] == [
        ["plan = plus | basic", "0.8"],
        ["plan = *", "–"],
    ]
    assert sections(made)["Gates"]["tables"][0]["rows"] == [
        ["slices", "warned", "0.1", "0.02 to 0.18", "0.05", "plus is worse"]
    ]
    assert "| plan = plus \\| basic | 0.8 |" in markdown(made)


@trained
def test_what_is_lost_is_said_and_nothing_else_fails(project, version_one, caplog):
    """A version of before has a card whose lost parts are not recorded; a run goes on when its explanation cannot be made."""
    context = Context.here()
    records = card_records.read(context.registry, "churn", "1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(card_records, "read", lambda *_: replace(records, files={}, tags={}))
        found = sections(card(context, "churn", "1"))
    assert found["Metrics"]["notes"] == found["What moves its predictions"]["notes"] == ["Not recorded."]
    assert found["Data"]["facts"]["source"] == "not recorded" and found["Gates"]["tables"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(card_records, "kept", lambda *_: set())
        keep(context, "churn", "1", context.params.model("churn"), Artifacts(project, "nothing"))
    assert "the run of churn gets no explanation: FileNotFoundError" in caplog.text
    assert "version 1 of churn gets no intervals: FileNotFoundError" in caplog.text


@trained
def test_a_version_that_does_not_exist_is_refused(project, capsys):
    """There is no card of a model that was never trained, and the line says what helps."""
    assert main(["card", "churn"]) == 1
    assert "train one: `perennial retrain churn`" in capsys.readouterr().err


def test_effects_are_those_of_the_library_shap(tmp_path):
    """On a package of 12 columns effects are those of shap's exact explainer, to 2 % of the predictions' spread."""
    import shap

    random, names = np.random.default_rng(3), [f"n{i}" for i in range(12)]
    rows = pd.DataFrame(random.normal(size=(2000, 12)), columns=names)
    rows["y"] = (
        rows.n0 * rows.n1 * 3 + np.sin(rows.n2 * 2) + rows.n3 * rows.n4 * rows.n5 + random.normal(size=2000) * 0.1
    )
    rows["seen_at"] = pd.date_range("2024-02-01", "2024-02-29", periods=2000, tz="UTC")
    block = {
        "training": {
            "task": "regression",
            "target": "y",
            "numeric": names,
            "estimator": "hist_gradient_boosting",
            "seed": 1,
        },
        "evaluation": {"holdout_days": 7, "metric": "rmse", "explain": True},
        "gates": {"metric_limit": 9},
        "source": {**CHURN["source"], "key": None, "label_time": None},
    }
    model, files = Model.model_validate(CHURN | block), Artifacts(tmp_path, "m")
    files.folder.mkdir(parents=True)
    skops_file.save(fit.fit(rows, model), files.model)
    evaluated = evaluate.evaluate(model, rows, files.model, files.predictions, files.reference, files.metrics)
    package.build("m", model, files.model, files.predictions, files.package)
    runtime, held_out = Runtime.load(files.package), pd.read_parquet(files.predictions)
    asked = runtime.rows_of_frame(held_out.head(20))
    ours = Explainer.of(runtime).explain(asked, runtime.predict(asked))
    background = background_rows(held_out)[names].to_numpy("float32").astype("float64")
    trees = shap.TreeExplainer(skops_file.load(files.model)[-1], background, feature_perturbation="interventional")
    difference = np.abs(ours.effects - trees.shap_values(asked.numbers.astype("float64")))
    spread = held_out.prediction.std()
    assert difference.max() < 0.02 * spread and difference.mean() < 0.005 * spread
    assert ours.base == pytest.approx(trees.expected_value, rel=1e-4)
    assert set(intervals(model, held_out, evaluated)) == {"r2", "rmse", "mae", "pinball"}, (
        "no deviance of negative targets"
    )
