"""The Dags: generated from params.yaml and dvc.yaml, with the right steps, forms and intervals."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from harness.project import CHURN, ROOT, change_params
from pipeline.runs.stages import STAGES
from pipeline.settings.rollout import STRATEGIES
from pipeline.workspaces import dvc_graph

READ_DAGS = Path(__file__).parents[1] / "support" / "read_dags.py"


def read_dags(project, tmp_path):
    """All Dags of a project as plain facts, read in a process of its own with an empty Airflow home."""
    env = os.environ | {
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(project / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(project / "plugins"),
        "PERENNIAL_PROJECT": str(project),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path / 'airflow.db'}",
    }
    done = subprocess.run(
        [sys.executable, str(READ_DAGS), str(project / "dags")], capture_output=True, text=True, env=env, check=False
    )
    assert "@@" in done.stdout, done.stderr
    return json.loads(done.stdout.rpartition("@@")[2])


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    return read_dags(ROOT, tmp_path_factory.mktemp("dags"))


def test_they_all_parse(told):
    """Airflow reads all Dags without an error: three for each model of params.yaml."""
    assert told["errors"] == {}
    assert set(told["dags"]) == {f"{kind}__flight-delay" for kind in ("retrain", "monitor", "operate")}


def test_stages_stand_once_and_everywhere_the_same(told):
    """dvc.yaml, pipeline/runs/stages.py and the Dag name the same stages."""
    in_dvc = set(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"])
    tasks = set(told["dags"]["retrain__flight-delay"]["tasks"])
    own = {"open_workspace", "check_gates", "register", "roll_out", "settle"}
    assert in_dvc == set(STAGES) == set(dvc_graph.order(ROOT)) == tasks - own


def test_the_order_is_that_of_the_files(told):
    """Each stage's task runs after the stages whose files it needs, and the steps of the run come after all stages."""
    tasks = told["dags"]["retrain__flight-delay"]["tasks"]
    for stage, needs in dvc_graph.order(ROOT).items():
        assert set(needs) <= set(tasks[stage])
    assert tasks["validate"] == ["open_workspace", "snapshot"]
    assert set(STAGES) <= set(tasks["check_gates"])
    assert "check_gates" in tasks["register"]
    assert tasks["roll_out"] == ["register"]
    assert told["dags"]["retrain__flight-delay"]["teardowns"] == ["settle"]


def test_the_form_asks_for_as_of_reason_and_strategy(told):
    """The form of the retrain Dag has an as-of, a reason, one of the strategies, and no schema change is accepted unasked."""
    form = told["dags"]["retrain__flight-delay"]["params"]
    assert set(form) == {"as_of", "reason", "strategy", "accept_schema_change"}
    assert form["accept_schema_change"]["value"] is False
    assert form["as_of"]["format"] == "date-time"
    assert form["strategy"]["enum"] == list(STRATEGIES) == ["all-at-once", "canary", "linear", "shadow", "replay"]


def test_it_runs_on_a_schedule_or_on_drift_and_does_not_catch_up(told):
    """The retrain Dag runs on its schedule or on a drift event, and makes up for no missed run."""
    dag = told["dags"]["retrain__flight-delay"]
    assert (dag["timetable"], dag["catchup"]) == ("AssetOrTimeSchedule", False)
    assert told["dags"]["monitor__flight-delay"]["timetable"] == "ClosingCronTimetable"


@pytest.mark.parametrize("dag", ["retrain__flight-delay", "monitor__flight-delay"])
def test_the_schedules_end_does_not_end_runs_by_hand(told, dag):
    """Neither Dag nor task has an end date, which would make later manual runs empty."""
    assert told["dags"][dag]["end"] is None
    assert told["dags"][dag]["task_ends"] == []


def test_the_intervals_are_whole_weeks_up_to_the_end(told):
    """A backfill's intervals are whole weeks, and none ends after the schedule's end."""
    assert told["dags"]["retrain__flight-delay"]["intervals"] == [
        ["2013-12-02", "2013-12-09"],
        ["2013-12-09", "2013-12-16"],
        ["2013-12-16", "2013-12-23"],
        ["2013-12-23", "2013-12-30"],
    ]


def test_a_backfill_takes_no_as_of(tmp_path):
    """A backfill refuses an as-of in its conf, and each of its runs takes its interval's end."""
    code = """
import sys
from datetime import datetime
from types import SimpleNamespace
sys.path[:0] = sys.argv[1:]
from retrain import run_request
conf = {"as_of": "2013-06-01T00:00:00Z"}
for kind, given in (("backfill", conf), ("manual", conf), ("backfill", {})):
    run = SimpleNamespace(conf=given, run_type=kind, dag_id="d", run_id="r", data_interval_end=datetime(2013, 5, 6))
    form = {"as_of": None, "reason": None, "strategy": None}
    context = {"dag_run": run, "dag": SimpleNamespace(params=form), "params": {"as_of": None, "reason": None} | given, "triggering_asset_events": {}}
    try:
        print("@@" + run_request(context).as_of)
    except Exception as error:
        print(f"@@{type(error).__name__} {error}")
"""
    env = os.environ | {"AIRFLOW_HOME": str(tmp_path), "PERENNIAL_PROJECT": str(ROOT)}
    command = [sys.executable, "-c", code, str(ROOT / "dags"), str(ROOT / "plugins")]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=True)
    refused, by_hand, by_interval = (line[2:] for line in done.stdout.splitlines() if line.startswith("@@"))
    assert refused.startswith("SettingsError conf as_of: would make all runs of a backfill the same; leave it out")
    assert (by_hand, by_interval) == ("2013-06-01T00:00:00Z", "2013-05-06 00:00:00")


def test_the_monitor_ends_the_warm_predecessor_after_the_watch(told):
    """The monitor Dag ends an old predecessor after it has watched the rollout."""
    tasks = told["dags"]["monitor__flight-delay"]["tasks"]
    assert tasks["retire_predecessor"] == ["watch_rollout"]
    assert tasks["check_drift"] == ["watch_rollout"]


def test_a_broken_ledger_stops_no_drift_check(told):
    """The monitor Dag verifies the ledger in a task that no other task waits for."""
    tasks = told["dags"]["monitor__flight-delay"]["tasks"]
    assert tasks["verify_ledger"] == []
    assert not [name for name, after in tasks.items() if "verify_ledger" in after]


def test_the_form_for_what_to_do_begins_with_what_does_no_harm(told):
    """The form of the operate Dag offers reconcile before rollback and undeploy."""
    form = told["dags"]["operate__flight-delay"]["params"]
    assert set(form) == {"action", "reason"}
    assert form["action"]["enum"] == ["reconcile", "rollback", "undeploy"]
    assert form["action"]["value"] == "reconcile"


def test_a_run_refuses_a_key_that_its_form_does_not_have(project, tmp_path):
    """An unknown key of a run's conf fails it and lists the form's; the monitor of a model without a champion skips its check."""
    code = """
import sys
sys.path.insert(0, sys.argv[1])
from airflow.utils.db import initdb
from airflow.dag_processing.dagbag import DagBag
initdb()
dags = DagBag(dag_folder=sys.argv[1]).dags
for kind in ("operate", "monitor", "retrain"):
    print("@@", kind, dags[f"{kind}__churn"].test(run_conf={"acton": "rollback"}).state)
print("@@", "early", dags["monitor__churn"].test().state)
print("@@", "known", dags["operate__churn"].test(run_conf={"reason": "to see"}).state)
"""
    env = os.environ | {
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(project / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path / 'airflow.db'}",
        "PERENNIAL_PROJECT": str(project),
        "PERENNIAL_HOME": str(project / "home"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(project / "plugins"),
    }
    command = [sys.executable, "-c", code, str(project / "dags")]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    told = dict(line.split()[1:] for line in done.stdout.splitlines() if line.startswith("@@"))
    refused = {"operate": "failed", "monitor": "failed", "retrain": "failed"}
    assert told == refused | {"known": "success", "early": "success"}, done.stderr
    said = done.stdout + done.stderr
    assert "model churn: no version is live yet" in said
    assert said.count("conf acton: is unknown to this Dag; use action, reason") >= 1


def test_another_model_is_another_pair_of_dags(project, tmp_path):
    """Each model of params.yaml gets its Dags, and a stage that is only in dvc.yaml becomes a task."""
    written = yaml.safe_load((project / "dvc.yaml").read_text())
    written["stages"]["explain"] = {
        "foreach": "${models}",
        "do": {"cmd": "true", "deps": ["artifacts/${key}/model.skops"]},
    }
    (project / "dvc.yaml").write_text(yaml.safe_dump(written))
    told = read_dags(project, tmp_path)
    assert set(told["dags"]) == {"retrain__churn", "monitor__churn", "operate__churn"}
    assert "train" in told["dags"]["retrain__churn"]["tasks"]["explain"]


BROKEN = (
    "params.yaml: unknown key models.other.rollout.serving.max_rwos; correct it there; docs/params.md lists every key"
)


def test_a_models_broken_block_leaves_all_dags_and_schedules_where_they_were(project, tmp_path):
    """A broken block keeps its model's Dags with their schedules and says so on them; the other model's Dags do not change."""
    change_params(project, "models.other", CHURN)
    before = read_dags(project, tmp_path)
    assert len(before["dags"]) == 6
    change_params(project, "models.other.rollout.serving", {"max_rwos": 3})
    after = read_dags(project, tmp_path)
    assert (after["errors"], set(after["dags"])) == ({}, set(before["dags"]))
    for name, dag in after["dags"].items():
        if name in ("retrain__other", "monitor__other"):
            assert dag["about"] == BROKEN
            assert dag["page"].startswith(f"**Every run fails at once: {BROKEN}**")
            same = ("tasks", "timetable", "intervals", "teardowns", "catchup")
            assert {key: dag[key] for key in same} == {key: before["dags"][name][key] for key in same}
        else:
            assert dag == before["dags"][name]


def test_a_block_that_was_never_right_has_dags_without_a_schedule(project, tmp_path):
    """A model whose first block is broken has its Dags, which say so and never start by themselves."""
    change_params(project, "models.other", {"as_of": "yesterday"})
    change_params(project, "models.no/dag", {})
    told = read_dags(project, tmp_path)
    assert told["errors"] == {}
    assert {f"{kind}__{name}" for kind in ("retrain", "monitor", "operate") for name in ("churn", "other")} == set(
        told["dags"]
    )
    assert told["dags"]["retrain__other"]["timetable"] == "NullTimetable"
    assert "models.other" in told["dags"]["monitor__other"]["about"]


@pytest.mark.parametrize("content", ["models:\n  churn: [\n", ""])
def test_a_file_that_cannot_be_read_takes_no_dag_away(project, tmp_path, content):
    """When params.yaml is no YAML, or empty, all Dags stay with their schedules, and each says what is wrong."""
    before = read_dags(project, tmp_path)
    (project / "params.yaml").write_text(content)
    after = read_dags(project, tmp_path)
    assert (after["errors"], set(after["dags"])) == ({}, set(before["dags"]))
    dag = after["dags"]["retrain__churn"]
    assert "params.yaml" in dag["about"]
    assert dag["timetable"] == "AssetOrTimeSchedule"
    assert dag["intervals"] == before["dags"]["retrain__churn"]["intervals"]


def test_runs_of_a_broken_block_fail_at_once_with_its_line_and_operate_goes_on(project, tmp_path):
    """Retrain and monitor runs of a broken block fail in their first task with the block's line; reconcile by operate works."""
    code = """
import sys
sys.path.insert(0, sys.argv[1])
from airflow.utils.db import initdb
from airflow.dag_processing.dagbag import DagBag
initdb()
dags = DagBag(dag_folder=sys.argv[1]).dags
for kind in ("monitor", "retrain", "operate"):
    run = dags[f"{kind}__other"].test()
    print("@@", kind, run.state, *sorted(t.task_id for t in run.get_task_instances() if t.state == "failed"))
"""
    change_params(project, "models.other", CHURN)
    change_params(project, "models.other.rollout.serving", {"max_rwos": 3})
    env = os.environ | {
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(project / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path / 'airflow.db'}",
        "PERENNIAL_PROJECT": str(project),
        "PERENNIAL_HOME": str(project / "home"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(project / "plugins"),
    }
    command = [sys.executable, "-c", code, str(project / "dags")]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    told = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("@@")]
    assert told == [
        ["monitor", "failed", "watch_rollout"],
        ["retrain", "failed", "open_workspace"],
        ["operate", "success"],
    ], done.stderr
    assert (done.stdout + done.stderr).count(BROKEN) >= 2
