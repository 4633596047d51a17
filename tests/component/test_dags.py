"""The Dags: generated from params.yaml and dvc.yaml, with the right steps, forms and intervals."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from harness.project import CHURN, ROOT, change_params, make_project
from pipeline.runs.stages import STAGES
from pipeline.settings.rollout import STRATEGIES
from pipeline.workspaces import dvc_graph
from tests.support.dag_shapes import count_what_has_landed_beside_the_training

SUPPORT = Path(__file__).parents[1] / "support"


def airflow_of(project, folder):
    """The environment of an Airflow of its own, in `folder`, with the Dags and plugins of `project`."""
    return os.environ | {
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(project / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(project / "plugins"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder / 'airflow.db'}",
        "PERENNIAL_PROJECT": str(project),
    }


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """A process that has imported Airflow, and forks another for each project whose Dags it is asked for."""
    env = airflow_of(ROOT, tmp_path_factory.mktemp("reader"))
    command = [sys.executable, str(SUPPORT / "read_dags.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) as process:
        yield process
        process.stdin.close()


@pytest.fixture(scope="module")
def read_dags(reader):
    """Reads all Dags of a project as plain facts."""

    def read(project, mode="machine"):
        reader.stdin.write(f"{project}\t{mode}\n")
        reader.stdin.flush()
        for line in reader.stdout:
            if line.startswith("@@"):
                told = json.loads(line.removeprefix("@@"))
                assert told, "no Dags could be read; the reader's output says why"
                return told
        raise AssertionError("the reader of Dags ended")

    return read


@pytest.fixture(scope="module")
def told(read_dags):
    return read_dags(ROOT)


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


def test_an_event_of_another_dags_asset_starts_a_look_or_a_retrain(project, read_dags):
    """Any one of them, by name or URI, beside the schedule, whose intervals stay; a retrain goes by its drift event as before."""
    before = read_dags(project)["dags"]
    assert (before["monitor__churn"]["starts_on"], before["retrain__churn"]["starts_on"]) == ([], ["drift__churn"])
    change_params(project, "models.churn.monitor.on_asset", ["orders_landed", "s3://lake/orders"])
    change_params(project, "models.churn.schedule.on_asset", ["orders_corrected"])
    after = read_dags(project)
    assert after["errors"] == {}
    monitor, retrain = (after["dags"][f"{kind}__churn"] for kind in ("monitor", "retrain"))
    assert (monitor["starts_on"], monitor["timetable"]) == (
        ["orders_landed", "s3://lake/orders"],
        "AssetOrTimeSchedule",
    )
    assert retrain["starts_on"] == ["drift__churn", "orders_corrected"]
    assert [dag["intervals"] for dag in (monitor, retrain)] == [
        before[f"{kind}__churn"]["intervals"] for kind in ("monitor", "retrain")
    ]


def test_a_run_waits_for_a_person_where_the_model_wants_an_approval(project, read_dags):
    """The task `approve` stands between `register` and `roll_out`, and nowhere without `approval: required`."""
    assert "approve" not in read_dags(project)["dags"]["retrain__churn"]["tasks"]
    change_params(project, "models.churn.approval", "required")
    told = read_dags(project)
    assert told["errors"] == {}
    tasks = told["dags"]["retrain__churn"]["tasks"]
    assert (tasks["approve"], tasks["roll_out"]) == (["register"], ["approve", "register"])


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


def test_workers_count_the_log_before_a_look_on_a_server(project, read_dags):
    """In a mapped task of the team's pool, after the watch; however it ends, also without files to count, the look goes on after it."""
    change_params(project, "teams", {"growth": {"slots": 2}})
    change_params(project, "models.churn.team", "growth")
    change_params(project, "models.churn.schedule.queues", {"profile_landed": "counting"})
    dags = [read_dags(project, mode)["dags"] for mode in ("machine", "server")]
    here, server = (told["monitor__churn"] for told in dags)
    more = {name: after for name, after in server["tasks"].items() if here["tasks"].get(name) != after}
    assert more == {
        "list_partitions": ["watch_rollout"],
        "profile_partitions": ["list_partitions"],
        "partitions_profiled": ["profile_partitions"],
        "check_drift": ["partitions_profiled", "watch_rollout"],
    }
    assert (here["mapped"], server["mapped"]) == ({}, {"profile_partitions": "{{ group_title }}"})
    assert (here["rules"], server["rules"]) == ({}, {"partitions_profiled": "all_done"})
    assert server["pools"] == dict.fromkeys(("check_drift", "profile_partitions"), "team__growth")
    count_what_has_landed_beside_the_training(*(told["retrain__churn"] for told in dags))


def test_the_form_for_what_to_do_begins_with_what_does_no_harm(told):
    """The form of the operate Dag offers reconcile before rollback and undeploy."""
    form = told["dags"]["operate__flight-delay"]["params"]
    assert set(form) == {"action", "reason", "version"}
    assert form["version"]["value"] is None
    assert form["action"]["enum"] == ["reconcile", "rollback", "undeploy", "freeze", "unfreeze", "prune"]
    assert form["action"]["value"] == "reconcile"


TELLING = """
from datetime import datetime
from airflow.sdk import DAG, task
from dag_parts import tell_champion, telling
def tell(dies):
    tell_champion("news")
    assert not dies, "killed after it told"
for name in ("killed", "tells"):
    with DAG(name, schedule=None, start_date=datetime(2024, 1, 1)):
        task(**telling("news"))(tell)(name == "killed")
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """(the state and the failed tasks of each run by its Dag and its conf's key, all that was said), with a right and a broken block."""
    folder = tmp_path_factory.mktemp("runs")
    project = make_project(folder / "project", {"churn": CHURN, "other": CHURN})
    change_params(project, "models.other.rollout.serving", {"max_rwos": 3})
    (project / "dags" / "telling.py").write_text(TELLING)
    env = airflow_of(project, folder) | {"PERENNIAL_HOME": str(project / "home")}
    command = [sys.executable, str(SUPPORT / "run_dags.py"), str(project / "dags")]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    told = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("@@")]
    assert len(told) == 13, done.stderr
    return {(dag, key): tuple(found) for dag, key, *found in told}, done.stdout + done.stderr


def test_that_a_champion_was_told_is_noted_with_the_success_of_the_task(runs):
    """A task that dies after it told notes nothing, so the next one tells again, and notes it once it has ended."""
    states, said = runs
    assert states["killed", "nothing"] == ("failed",)
    state, noted = states["tells", "nothing"]
    assert state == "success" and noted.startswith("tells/"), said


def test_a_run_refuses_a_key_that_its_form_does_not_have(runs):
    """An unknown key of a run's conf fails it and lists the form's; the monitor of a model without a champion skips its check."""
    ended, said = runs
    states = {run: found[0] for run, found in ended.items() if run[0].endswith("__churn")}
    refused = {(f"{kind}__churn", "acton"): "failed" for kind in ("operate", "monitor", "retrain")}
    others = [
        ("operate__churn", "reason"),
        ("operate__churn", "action"),
        ("monitor__churn", "nothing"),
        ("retrain__churn", "nothing"),
    ]
    assert states == refused | dict.fromkeys(others, "success"), said
    assert "model churn: no version is live yet" in said
    assert said.count("conf acton: is unknown to this Dag; use action, reason") >= 1


def test_a_frozen_models_run_begins_nothing(runs):
    """A run that begins by itself skips all its steps while its model is frozen, and says who froze it; `operate` freezes and ends it."""
    ended, said = runs
    assert ended["operate__churn", "action"] == ended["retrain__churn", "nothing"] == ("success",), said
    assert said.count("skipped: churn is frozen by dag_test: ") == 1
    assert said.count("no longer frozen, by dag_test: ") == 1


def test_another_model_is_another_pair_of_dags(project, read_dags):
    """Each model of params.yaml gets its Dags, and a stage that is only in dvc.yaml becomes a task."""
    written = yaml.safe_load((project / "dvc.yaml").read_text())
    written["stages"]["explain"] = {
        "foreach": "${models}",
        "do": {"cmd": "true", "deps": ["artifacts/${key}/model.skops"]},
    }
    (project / "dvc.yaml").write_text(yaml.safe_dump(written))
    told = read_dags(project)
    assert set(told["dags"]) == {"retrain__churn", "monitor__churn", "operate__churn"}
    assert "train" in told["dags"]["retrain__churn"]["tasks"]["explain"]


def test_what_computes_takes_a_slot_of_its_team_and_goes_by_the_models_priority(project, read_dags):
    """Stages, gates and drift check are in the pool of the model's team; what waits is in none. A person's action goes before all."""
    change_params(project, "teams", {"growth": {"slots": 2}})
    change_params(project, "models.other", CHURN)
    change_params(project, "models.churn.team", "growth")
    change_params(project, "models.churn.schedule.priority", 40)
    dags = read_dags(project)["dags"]
    assert dags["retrain__churn"]["pools"] == dict.fromkeys((*STAGES, "check_gates"), "team__growth")
    assert dags["monitor__churn"]["pools"] == {"check_drift": "team__growth"}
    assert [dags[f"{kind}__other"]["pools"] for kind in ("retrain", "monitor", "operate")] == [{}, {}, {}]
    priorities = {name: dag["priorities"] for name, dag in dags.items()}
    assert priorities["retrain__churn"] == priorities["monitor__churn"] == [40]
    assert priorities["retrain__other"] == [1] and priorities["operate__churn"] == [1000]


def test_a_model_with_scoring_or_backtests_has_a_dag_for_it(project, read_dags):
    """A score Dag has its intervals, and its form takes another one; a backtest Dag has a task for each training window; a broken block keeps them."""
    where = {"parquet": "scores"}
    change_params(project, "models.churn.schedule", {"cron": "@weekly", "start": "2013-01-01T00:00:00Z"})
    change_params(project, "models.churn.scoring", {"cron": "0 0 1 * *", "destination": where})
    change_params(project, "models.churn.policy", {"backtest_cron": "0 3 1 * *"})
    dags = read_dags(project)["dags"]
    dag, backtest = dags["score__churn"], dags["backtest__churn"]
    assert backtest["tasks"] == {
        "plan": [],
        "windows_of": ["plan"],
        "make_versions": ["plan", "windows_of"],
        "compare_policies": ["make_versions", "plan"],
    }
    assert (backtest["catchup"], backtest["timetable"]) == (False, dag["timetable"])
    assert dag["tasks"] == {"score_interval": []}
    assert (dag["catchup"], set(dag["params"])) == (False, {"interval"})
    assert dag["intervals"] == [
        ["2013-12-01", "2014-01-01"],
        ["2014-01-01", "2014-02-01"],
        ["2014-02-01", "2014-03-01"],
        ["2014-03-01", "2014-04-01"],
    ]
    change_params(project, "models.churn.scoring", {"cron": "0 0 1 * *", "destination": where, "to": "x"})
    assert "models.churn.scoring.to" in read_dags(project)["dags"]["score__churn"]["about"]


BROKEN = (
    "params.yaml: unknown key models.other.rollout.serving.max_rwos; correct it there; docs/params.md lists every key"
)


def test_a_models_broken_block_leaves_all_dags_and_schedules_where_they_were(project, read_dags):
    """A broken block keeps its model's Dags with their schedules and says so on them; the other model's Dags do not change."""
    change_params(project, "models.other", CHURN)
    before = read_dags(project)
    assert len(before["dags"]) == 6
    change_params(project, "models.other.rollout.serving", {"max_rwos": 3})
    after = read_dags(project)
    assert (after["errors"], set(after["dags"])) == ({}, set(before["dags"]))
    for name, dag in after["dags"].items():
        if name in ("retrain__other", "monitor__other"):
            assert dag["about"] == BROKEN
            assert dag["page"].startswith(f"**Every run fails at once: {BROKEN}**")
            same = ("tasks", "timetable", "intervals", "teardowns", "catchup")
            assert {key: dag[key] for key in same} == {key: before["dags"][name][key] for key in same}
        else:
            assert dag == before["dags"][name]


def test_a_block_that_was_never_right_has_dags_without_a_schedule(project, read_dags):
    """A model whose first block is broken has its Dags, which say so and never start by themselves."""
    change_params(project, "models.other", {"as_of": "yesterday"})
    change_params(project, "models.no/dag", {})
    told = read_dags(project)
    assert told["errors"] == {}
    assert {f"{kind}__{name}" for kind in ("retrain", "monitor", "operate") for name in ("churn", "other")} == set(
        told["dags"]
    )
    assert told["dags"]["retrain__other"]["timetable"] == "NullTimetable"
    assert "faults, the first: params.yaml: " in told["dags"]["monitor__other"]["about"]
    assert "\n- params.yaml: missing key models.other.source (for example" in told["dags"]["retrain__other"]["page"]


@pytest.mark.parametrize("content", ["models:\n  churn: [\n", ""])
def test_a_file_that_cannot_be_read_takes_no_dag_away(project, read_dags, content):
    """When params.yaml is no YAML, or empty, all Dags stay with their schedules, and each says what is wrong."""
    before = read_dags(project)
    (project / "params.yaml").write_text(content)
    after = read_dags(project)
    assert (after["errors"], set(after["dags"])) == ({}, set(before["dags"]))
    dag = after["dags"]["retrain__churn"]
    assert "params.yaml" in dag["about"]
    assert dag["timetable"] == "AssetOrTimeSchedule"
    assert dag["intervals"] == before["dags"]["retrain__churn"]["intervals"]


def test_runs_of_a_broken_block_fail_at_once_with_its_line_and_operate_goes_on(runs):
    """Retrain and monitor runs of a broken block fail in their first task with the block's line; reconcile by operate works."""
    ended, said = runs
    assert {dag: found for (dag, _), found in ended.items() if dag.endswith("__other")} == {
        "monitor__other": ("failed", "watch_rollout"),
        "retrain__other": ("failed", "open_workspace"),
        "operate__other": ("success",),
    }, said
    assert said.count(BROKEN) >= 2
