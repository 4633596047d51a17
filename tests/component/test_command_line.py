"""The command line: one clear line and exit code 1 for a refusal, JSON on request."""

import json
import os
import shutil
import socket
import subprocess
import sys

import pytest

from harness.commands import said
from harness.project import CHURN, change_params, customers
from pipeline.context import Context
from pipeline.ledger.events import GatesChecked
from pipeline.workspaces import dvc_graph

pytestmark = pytest.mark.usefixtures("trained_before")


def pipeline(*arguments, **env):
    return said([*arguments], **env)


def python(*arguments, **env):
    """In an interpreter of its own, as a person starts it."""
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=os.environ | env, check=False
    )


def refused(*arguments, start=pipeline, **env):
    """The one line that a refusal prints."""
    done = start(*arguments, **env)
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 1, done
    assert "Traceback" not in done.stderr
    return lines[-1]


def test_dvc_repro_runs_all_stages_and_a_second_one_only_asks_the_source(project):
    """`dvc repro` runs all stages without services, and a second one runs only the snapshot."""
    shutil.rmtree(project / ".dvc" / "cache")
    dvc = [sys.executable, "-m", "dvc", "repro"]
    env = os.environ | {"PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"}
    first = subprocess.run(dvc, capture_output=True, text=True, env=env, check=True).stdout
    assert first.count("Running stage") == len(dvc_graph.order(project))
    second = subprocess.run(dvc, capture_output=True, text=True, env=env, check=True).stdout
    assert [line for line in second.splitlines() if "Running stage" in line] == ["Running stage 'snapshot@churn':"]
    assert "0 of them new" in second
    assert second.count("didn't change, skipping") == len(dvc_graph.order(project)) - 1


def test_retrain_without_services_then_costs_timeline_and_verify(project):
    """A retrain works without services, and costs, timeline, status, roi and verify report it; a gate says that no image serves."""
    change_params(project, "models.churn.gates.supply_chain", {"system_licences": ["unknown"]})
    told = json.loads(pipeline("retrain", "churn", "--json").stdout)
    assert told["version"] == "1"
    assert told["outcome"] == "version 1 was registered as challenger, not rolled out"
    (listed,) = project.rglob("artifacts/sbom.json")
    assert json.loads(listed.read_text())["bomFormat"] == "CycloneDX"
    bill = json.loads(pipeline("costs", "churn", "--json").stdout)
    (run,) = bill["runs"]
    assert sum(part["amount"] for part in bill["by_part"]) == pytest.approx(bill["total"])
    assert {"snapshot", "train", "check_gates", "register"} <= {s["step"] for s in run["steps"]}
    assert run["cost"] > 0
    kinds = [e["kind"] for e in json.loads(pipeline("timeline", "churn", "--json").stdout)["events"]]
    assert kinds == ["run_opened", "data_landed", "gates_checked", "version_registered", "run_settled"]
    (checked,) = Context.here().ledger.events(GatesChecked)
    (told,) = [each["reason"] for each in checked.event.verdicts if each["gate"] == "supply_chain"]
    assert "no image: process engine, as params.yaml says" in told
    assert json.loads(pipeline("verify", "--json").stdout)["intact"] is True
    (status,) = json.loads(pipeline("status", "--json").stdout)
    assert status["live"] is None
    roi = json.loads(pipeline("roi", "--json").stdout)
    assert roi["deployments"] == 0
    for command in (["costs"], ["timeline", "churn"], ["status"], ["roi"], ["verify"]):
        assert pipeline(*command).returncode == 0


def test_a_failed_gate_stops_before_registration_with_every_reason(project):
    """A failed gate ends the run before registration, and the message gives the reason of every failed gate."""
    change_params(project, "models.churn.gates.metric_limit", 0.999)
    change_params(project, "models.churn.gates.baseline_margin", 0.9)
    line = refused("retrain", "churn")
    assert "metric_limit: roc_auc" in line
    assert "naive_baseline: roc_auc" in line
    events = json.loads(pipeline("timeline", "churn", "--json").stdout)["events"]
    assert [e["kind"] for e in events] == ["run_opened", "data_landed", "gates_checked", "run_settled"]
    assert [v["gate"] for v in events[2]["details"]["verdicts"] if not v["passed"]] == [
        "metric_limit",
        "naive_baseline",
    ]
    assert events[3]["what"].startswith("run ended: failed at check_gates: churn gates: metric_limit")


@pytest.mark.parametrize(
    "command", [["retrain", "nothing"], ["timeline", "nothing"], ["costs", "nothing"], ["status", "nothing"]]
)
def test_an_unknown_model_is_one_line(project, command):
    """A command for an unknown model fails with one line that lists the models of params.yaml."""
    assert "is not in params.yaml; use one of its models: churn" in refused(*command)


def test_a_missing_column_is_one_line(project):
    """A source without a feature's column fails with one line that names the column."""
    customers().drop(columns="spend").to_parquet(project / "customers" / "all.parquet")
    assert "churn source: has no column spend" in refused("retrain", "churn")
    assert "churn source: has no column spend" in refused("stage", "snapshot", "churn")


def test_without_a_label_time_the_snapshot_says_what_it_takes_for_granted(project):
    """Without source.label_time the snapshot says that it takes labels as known at their row's time."""
    granted = "without source.label_time each label counts as known at its row's own time"
    assert granted not in pipeline("stage", "snapshot", "churn").stdout
    change_params(project, "models.churn.source.label_time", None)
    assert granted in pipeline("stage", "snapshot", "churn").stdout


def test_an_unknown_key_is_one_line(project):
    """An unknown key in params.yaml fails with one line that gives the key's full name."""
    change_params(project, "models.churn.source.widow_days", 3)
    assert refused("retrain", "churn").startswith("params.yaml: unknown key models.churn.source.widow_days")


def test_a_query_that_returns_nothing_is_one_line(project):
    """A query without rows fails with one line that gives the window's start."""
    assert "no rows from 2030-12-02" in refused("retrain", "churn", "--as-of", "2031-01-01")


def test_a_model_that_was_never_trained_is_one_line(project):
    """The drift check of a model without a champion fails with one line."""
    assert "model churn: has no champion to monitor" in refused("drift", "churn")


def test_no_mlflow_is_one_line_and_quick(project):
    """An MLflow that does not answer fails the command with one line and no retries of minutes."""
    line = refused("-m", "pipeline", "retrain", "churn", start=python, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert line.startswith("mlflow http://127.0.0.1:9: does not answer")


def test_no_router_is_one_line(project, version_one):
    """A router that does not answer fails a deployment with one line."""
    assert "router http://127.0.0.1:9: does not answer" in refused(
        "deploy", "churn", "1", PERENNIAL_ROUTER_URL="http://127.0.0.1:9"
    )


def test_a_port_in_use_is_one_line_that_names_the_port_and_its_user(project):
    """`up` on a port that is taken fails with one line that names the port and its setting."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        line = refused("-m", "pipeline.services", "up", start=python, PERENNIAL_MLFLOW_PORT=port)
    assert f"port {port}: is in use" in line
    assert "PERENNIAL_MLFLOW_PORT" in line


def test_no_git_repository_is_one_line(project):
    """A retrain outside a git repository fails with one line."""
    shutil.rmtree(project / ".git")
    assert "is not a git repository with a commit" in refused("retrain", "churn")


def test_outside_a_project_is_one_line(tmp_path, monkeypatch):
    """A command outside a project fails with one line that names the files it looked for."""
    monkeypatch.chdir(tmp_path)
    assert "no params.yaml and dvc.yaml here or above" in refused("status")


def test_wrong_usage_is_exit_code_2(project):
    """An unknown command or an argument that does not parse ends with exit code 2."""
    assert python("-m", "pipeline", "fly").returncode == 2
    assert pipeline("timeline", "churn", "--at", "yesterday").returncode == 2


def test_drift_between_two_files_needs_no_model(project, tmp_path):
    """`drift` compares two files of different formats without any model."""
    before, now = customers(30), customers(30)
    before.to_parquet(tmp_path / "before.parquet")
    now.assign(spend=now.spend * 3).to_csv(tmp_path / "now.csv", index=False)
    files = ("--reference", str(tmp_path / "before.parquet"), "--current", str(tmp_path / "now.csv"))
    done = pipeline("drift", *files, "--json", "--html", str(tmp_path / "page.html"))
    told = json.loads(done.stdout)
    assert (done.returncode, told["verdict"], told["moved"]) == (0, "drift", ["spend"])
    assert "spend" in (tmp_path / "page.html").read_text()
    assert "cannot be read as Parquet" in refused("drift", "--reference", "none.parquet", "--current", "none.parquet")


def test_one_definition_serves_every_model(project):
    """A second model needs nothing but its block in params.yaml."""
    second = CHURN | {
        "training": CHURN["training"]
        | {"task": "regression", "target": "spend", "numeric": ["calls", "left"], "options": {}},
        "evaluation": CHURN["evaluation"] | {"metric": "rmse"},
        "gates": {"metric_limit": 1000.0, "contract": {}},
    }
    change_params(project, "models.spend", second)
    assert "was registered" in pipeline("retrain", "spend").stdout


def test_bad_rows_over_the_limit_stop_the_run_and_stay_readable(project):
    """Too many bad rows stop the run before training, with counts and examples, and the rows are kept at MLflow."""
    import mlflow
    import pandas as pd

    from pipeline.context import Context

    frame = customers()
    frame.loc[2000:2099, "plan"] = ["gold", "silver"] * 50
    frame.loc[2100:2149, "spend"] = float("inf")
    frame["left"] = 1.0
    frame.to_parquet(project / "customers" / "all.parquet")
    change_params(project, "models.churn.gates.contract.min_rows", 10_000)
    line = refused("retrain", "churn")
    assert "data_contract: 150 of 1,681 rows break the contract (8.92%)" in line
    assert "plan isin(['basic', 'plus']): 100 rows, e.g. gold silver" in line
    assert "spend finite: 50 rows, e.g. inf" in line
    assert "enough_rows: 1,531 rows kept, at least 10,000 required" in line, "all that is wrong with the data, at once"
    events = json.loads(pipeline("timeline", "churn", "--json").stdout)["events"]
    assert events[-1]["what"].startswith("run ended: failed at validate: churn gates: enough_rows")

    client = Context.here().registry.client()
    (run,) = client.search_runs([client.get_experiment_by_name("churn").experiment_id])
    kept = mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="quarantine.parquet")
    quarantine = pd.read_parquet(kept)
    assert len(quarantine) == 150
    assert set(quarantine.reason) == {
        "plan: isin(['basic', 'plus'])",
        "spend: finite; spend: less_than_or_equal_to(1000.0)",
    }
    assert client.search_model_versions("name = 'churn'") == []
