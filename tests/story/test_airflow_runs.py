"""The whole loop on real flights through a real Airflow, MLflow and Traefik, with the process engine.

The tests share the services, and take the versions that they start from as fixtures: each runs alone too.
"""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pandas as pd
import psutil
import pytest

from demo.replay import requests
from demo.show import flights_between
from harness.load import steady_load
from harness.project import ROOT, change_params
from pipeline.deployer import traffic
from pipeline.ledger.approval_events import Approved, Rejected
from pipeline.ledger.events import DriftChecked, IntervalScored, RetrainAsked, RunOpened, StepEnded
from pipeline.ledger.receipt_events import RetrainDecided
from pipeline.ledger.rollout_events import RolledBack, RolloutEnded
from pipeline.ledger.store import airflow_run
from pipeline.runs.drift_report import evidently_file
from pipeline.services import control, processes
from pipeline.services.environment import USER, machine_secrets
from tests.support import browser
from tests.support.flights_story import MONITOR, OPERATE, RETRAIN, SCORE, backfill, pipeline
from tests.support.pages import follow
from tests.support.required import skip_or_fail
from tests.support.stack import CONSUMER, FLIGHTS, HOLDER, PRODUCER, TEAM, WEBHOOK_TOKEN

pytestmark = pytest.mark.timeout(2700)


def test_1_a_triggered_retrain_goes_live(stack, first_version):
    """A triggered retrain passes its gates, is registered and goes live, and each step is metered."""
    run, states = first_version.run, first_version.states
    assert set(states.values()) == {"success"}
    assert stack.live(FLIGHTS) == "1"
    name = airflow_run(RETRAIN, run)
    ended = {e.step: e.body for e in stack.context.ledger.events(StepEnded, run=name)}
    assert set(ended) == set(states) - {""}
    assert all(b["state"] == "success" and b["wall_s"] > 0 and b["peak_mb"] > 10 for b in ended.values())
    assert ended["train"]["cpu_s"] > 0.5
    assert "deprecated" not in stack.airflow.log(RETRAIN, run, "register"), "skops was there before Airflow was"


def test_1b_the_asset_of_the_champion_starts_another_teams_dag(stack, first_version):
    """A Dag with schedule=[Asset("champion__MODEL")] starts when a version goes live, and gets the version and its data."""
    until = time.monotonic() + 180
    while not (runs := stack.airflow.runs(CONSUMER)):
        assert time.monotonic() < until, "no run started"
        time.sleep(0.3)
    run = min(runs, key=lambda run: run["run_after"])
    assert (run["run_type"], stack.finish(CONSUMER, run["dag_run_id"])[""]) == ("asset_triggered", "success")
    path = f"/dags/{CONSUMER}/dagRuns/{run['dag_run_id']}/taskInstances/what_is_live/xcomEntries/return_value"
    (extra,) = stack.airflow.get(path)["value"]
    tags = stack.context.registry.version_facts(FLIGHTS, "1").tags
    assert (extra["model"], extra["version"], extra["data_version"]) == (FLIGHTS, "1", tags["perennial.data_version"])


def test_1c_a_week_is_scored_and_backfilled_and_stands_there_once(stack, first_version):
    """The score Dag scores the interval of its form, and a backfill each of its own; done again, each row is there once."""
    stack.airflow.wait_for_dag(SCORE)
    for _ in range(2):
        run = stack.airflow.trigger(SCORE, interval="2013-04-01/2013-04-08")
        assert set(stack.finish(SCORE, run).values()) == {"success"}
    path = f"/dags/{SCORE}/dagRuns/{run}/taskInstances/score_interval/xcomEntries/return_value"
    told = stack.airflow.get(path)["value"]
    assert told["rows_in"] == told["scored"] + told["refused"] > 1000
    filled = backfill(stack, SCORE, "2013-04-01", "2013-04-08", reprocess_behavior="completed")
    assert set(filled.values()) == {"success"}
    scored = pd.concat(pd.read_parquet(path) for path in (stack.project / "scores").glob("*/*/scores.parquet"))
    weeks = scored.groupby("interval_start").size()
    assert (len(weeks), weeks.iloc[0]) == (2, told["scored"])
    events = [e.event for e in stack.context.ledger.events(IntervalScored, model=FLIGHTS)]
    assert {e.interval_start[:10] for e in events} == {"2013-04-01", "2013-04-08"}
    assert all(e.cost > 0 for e in events)


def test_1d_a_teams_models_share_its_slots_and_the_one_with_the_higher_priority_goes_first(stack):
    """A task waits for a slot of its team's pool; then the model with the higher priority is first, though it asked last. The pools follow params.yaml."""
    assert stack.pools() == {"default_pool": 128, f"team__{TEAM}": 1, "team__idle": 3}
    stack.airflow.wait_for_dag(HOLDER)
    held = stack.airflow.trigger(HOLDER)
    stack.wait_for_task(HOLDER, held, "hold", "running")
    runs = {}
    for model in ("churn", "loyal"):
        dag = f"monitor__{model}"
        stack.airflow.wait_for_dag(dag)
        runs[dag] = stack.airflow.trigger(dag, as_of="2024-03-01T00:00:00Z")
        stack.wait_for_task(dag, runs[dag], "check_drift", "scheduled")
    pool = stack.airflow.get(f"/pools/team__{TEAM}")
    assert (pool["open_slots"], pool["running_slots"], pool["scheduled_slots"]) == (0, 1, 2)
    (stack.home / "let-go").touch()
    assert set(stack.finish(HOLDER, held).values()) == {"success"}
    for dag, run in runs.items():
        stack.finish(dag, run)
    checks = {
        dag: next(t for t in stack.airflow.tasks(dag, run) if t["task_id"] == "check_drift")
        for dag, run in runs.items()
    }
    assert checks["monitor__loyal"]["end_date"] <= checks["monitor__churn"]["start_date"]
    change_params(stack.project, "teams", {TEAM: {"slots": 2}})
    until = time.monotonic() + 60
    while (pools := stack.pools()) != {"default_pool": 128, f"team__{TEAM}": 2}:
        assert time.monotonic() < until, pools
        time.sleep(0.3)


def test_1e_an_alert_from_elsewhere_starts_one_look(stack):
    """The route of the real API server wants its own token and no login, and starts the monitor Dag once."""
    dag, alerts = "monitor__churn", f"{stack.at.airflow}/perennial/alerts"
    stack.airflow.wait_for_dag(dag)
    sent = {"commonLabels": {"model": "churn"}, "alerts": [{"status": "firing", "labels": {"alertname": "Slow"}}]}
    assert httpx.post(alerts, json=sent).status_code == 401
    token = {"authorization": f"Bearer {WEBHOOK_TOKEN}"}
    first, again = (httpx.post(alerts, json=sent, headers=token, timeout=60) for _ in range(2))
    assert (first.status_code, again.status_code) == (202, 200), first.text + again.text
    (run,), (same,) = first.json()["runs"], again.json()["runs"]
    assert (run["dag"], run["started"], same) == (dag, True, {**run, "started": False})
    assert stack.finish(dag, run["run"])[""] == "success"
    assert stack.airflow.run(dag, run["run"])["triggering_user_name"] == "alert webhook"
    unknown = httpx.post(alerts, json={"model": "nobody"}, headers=token)
    assert (unknown.status_code, unknown.json()["error"].partition(";")[0]) == (
        422,
        "model nobody: is not in params.yaml",
    )


def test_1f_the_page_of_alerts_says_what_happens(stack):
    """Each command of docs/alerts.md does what the page says."""
    ports = {"8080": stack.at.airflow.rpartition(":")[2]}
    follow(ROOT / "docs" / "alerts.md", stack.project, {"PERENNIAL_WEBHOOK_TOKEN": WEBHOOK_TOKEN}, ports)


def test_1g_the_asset_of_another_teams_dag_starts_a_look(stack):
    """It is known by its name alone, wherever it lies; the look is as of the event."""
    dag = "monitor__loyal"
    for each in (dag, PRODUCER):
        stack.airflow.wait_for_dag(each)
    assert set(stack.finish(PRODUCER, stack.airflow.trigger(PRODUCER)).values()) == {"success"}
    until = time.monotonic() + 180
    while not (runs := [run for run in stack.airflow.runs(dag) if run["run_type"] == "asset_triggered"]):
        assert time.monotonic() < until, "no run started"
        time.sleep(0.3)
    assert [stack.finish(dag, run["dag_run_id"])[""] for run in runs] == ["success"]


def test_1h_a_person_approves_in_the_browser_and_the_run_goes_on(stack):
    """The run waits with its gates' verdicts; a click lets it go live, the audit has who approved, a rejection by command skips the next, and clearing its task asks again."""
    if gone := browser.missing():
        skip_or_fail("browser", gone)
    dag, asked = "retrain__careful", {"as_of": "2024-03-01T00:00:00Z"}
    stack.airflow.wait_for_dag(dag)
    run = stack.airflow.trigger(dag, **asked)
    stack.wait_for_task(dag, run, "approve", "awaiting_input", 600)
    assert stack.live("careful") is None
    with browser.browser() as driver:
        browser.log_in(driver, stack.at.airflow, USER, machine_secrets(stack.home)["password"])
        driver.get(f"{stack.at.airflow}/dags/{dag}/runs/{run}/tasks/approve/required_actions")
        assert "metric_limit" in browser.wait_for(driver, "xpath", "//table[.//*[text()='metric_limit']]").text
        browser.press(driver, "//button[normalize-space()='Approve']")
        stack.wait_for_answer(dag, run, "approve")
        browser.leave(driver)
        assert set(stack.finish(dag, run).values()) == {"success"}
        assert stack.live("careful") == "1"
        (approved,) = stack.context.ledger.events(Approved, model="careful")
        assert (approved.event.by, approved.event.through, approved.run) == (USER, "airflow", airflow_run(dag, run))
        driver.get(f"{stack.at.airflow}/perennial/audit/careful?kind=approval")
        assert f"approved by {USER}" in driver.find_element("id", "audit").text
    run = stack.airflow.trigger(dag, **asked)
    stack.wait_for_task(dag, run, "approve", "awaiting_input", 600)
    rejecting = pipeline("reject", "careful", "2", "--reason", "not today")
    out, err = rejecting.communicate()
    assert (rejecting.returncode, f"its run {airflow_run(dag, run)} goes on" in out) == (0, True), out + err
    states = stack.finish(dag, run)
    # The task is skipped where Airflow took the answer for a lost worker, and tried it again.
    assert states.pop("approve") in ("success", "skipped")
    ended = {"": "success", "roll_out": "skipped", "settle": "success"}
    assert {task: states[task] for task in ended} == ended
    again = {"dag_run_id": run, "task_ids": ["approve"], "only_failed": False, "dry_run": False, "reset_dag_runs": True}
    stack.airflow.post(f"/dags/{dag}/clearTaskInstances", again)
    stack.wait_for_task(dag, run, "approve", "awaiting_input", 600)
    assert pipeline("reject", "careful", "2", "--reason", "nor tomorrow").wait() == 0
    states = stack.finish(dag, run)
    assert {task: states[task] for task in ended} == ended
    assert stack.live("careful") == "1"
    assert len(stack.context.ledger.events(Rejected, model="careful")) == 2


def test_2_mlflow_knows_the_run_and_the_version(stack, first_version):
    """MLflow has the run's parameters, metrics, dataset and verdicts, and the version's signature and tags."""
    import mlflow

    mlflow.set_tracking_uri(stack.at.mlflow)
    client = mlflow.MlflowClient()
    version = client.get_model_version(FLIGHTS, "1")
    run = client.get_run(version.run_id)
    assert client.get_experiment(run.info.experiment_id).name == FLIGHTS
    assert run.data.params["training.estimator"] == "hist_gradient_boosting"
    assert run.data.metrics["roc_auc"] > 0.65
    data_version = version.tags["perennial.data_version"]
    assert run.inputs.dataset_inputs[0].dataset.digest == data_version[:32]
    assert len(version.tags["perennial.code_revision"]) == 40
    assert version.tags["perennial.as_of"] == "2013-04-01T00:00:00+00:00"
    info = mlflow.models.get_model_info(f"models:/{FLIGHTS}/1")
    assert info.signature is not None
    assert info.saved_input_example_info is not None
    assert [t for t in run.data.tags if t.startswith("gate.")] != []
    verdicts = mlflow.artifacts.load_dict(f"{run.info.artifact_uri}/gates.json")["verdicts"]
    assert {"schema", "champion", "metric_limit", "onnx_parity"} <= {v["gate"] for v in verdicts}
    assert all(v["passed"] and v["reason"] for v in verdicts)


def test_3_drift_starts_a_retrain_that_goes_live_under_load(stack, second_version):
    """Drift in the live requests starts a retrain that goes live, without a failed request."""
    load, started = second_version.load, second_version.run
    assert (second_version.replayed.failed, second_version.replayed.rows) == (0, second_version.flights)
    assert {task: state for task, state in second_version.monitored.items() if state != "success"} == {
        "go_back": "skipped"
    }
    receipt = stack.context.ledger.events(RetrainDecided, model=FLIGHTS)[-1]
    assert (receipt.event.rule, receipt.event.decision, receipt.event.champion) == ("drift", "retrain", "1")
    assert set(receipt.event.others) == {"value", "metric", "forecast", "schedule"}
    assert len(receipt.event.losses) >= 3 and receipt.event.cost > 0
    assert set(second_version.states.values()) == {"success"}
    told = stack.context.ledger.events(DriftChecked)[-1].body
    assert told["verdict"] == "drift"
    assert {"temp", "dewp"} <= set(told["moved"])
    assert told["rows_now"] >= second_version.flights
    assert told["live_quality"]["labelled"] > 20_000
    page = Path(told["report"])
    assert "times its limit" in page.read_text() and evidently_file(page).stat().st_size > 100_000
    assert [e.event.since for e in stack.context.ledger.events(RetrainAsked)] == [told["alarm"]["since"]]
    opened = stack.context.ledger.events(RunOpened, run=airflow_run(RETRAIN, started))[0].body
    assert opened["as_of"] == "2013-07-01T00:00:00+00:00"
    assert opened["reason"] == receipt.event.reason(f"drift: {told['said']}")
    assert "changed since 2013-07-01" in told["said"]
    assert (load.failed, load.failures) == (0, [])
    assert set(load.versions) == {"1", "2"}
    assert stack.live(FLIGHTS) == "2"


def test_4_a_failed_gate_stops_the_run_and_shows_every_reason(stack, first_version):
    """A failed gate fails the run, shows every reason, registers nothing and leaves what is live."""
    live = stack.live(FLIGHTS)
    assert live is not None
    now = datetime.now(UTC).isoformat()  # what the trigger form sends, long after the schedule's end
    body = {"logical_date": now, "conf": {"as_of": "2024-03-01T00:00:00Z"}}
    run = stack.airflow.post("/dags/retrain__hopeless/dagRuns", body)["dag_run_id"]
    states = stack.finish("retrain__hopeless", run)
    assert (states[""], states["check_gates"], states["register"], states["settle"]) == (
        "failed",
        "failed",
        "upstream_failed",
        "success",
    )
    log = stack.airflow.log("retrain__hopeless", run, "check_gates")
    for reason in ("metric_limit: roc_auc", "FAILED naive_baseline", "passed onnx_parity"):
        assert reason in log
    assert stack.context.registry.champion("hopeless") is None
    (failed,) = [
        e.body
        for e in stack.context.ledger.events(StepEnded, run=airflow_run("retrain__hopeless", run))
        if e.body["state"] == "failed"
    ]
    assert "metric_limit" in failed["error"]
    assert stack.live(FLIGHTS) == live


def test_5b_operate_rolls_back_and_forward_under_load(stack, second_version):
    """The operate Dag rolls back, and refuses to bring the pulled version back; a person does by its number. No request fails."""
    model = stack.context.params.model(FLIGHTS)
    one = next(requests(flights_between(stack.project, "2013-07-01", "2013-07-02"), model, None))
    with steady_load(f"{stack.at.router}/{FLIGHTS}", one, pace=50) as load:
        for state in ("success", "failed"):
            run = stack.airflow.trigger(OPERATE, action="rollback", reason="a drill")
            assert set(stack.finish(OPERATE, run).values()) == {state}
            assert stack.live(FLIGHTS) == "1"
            assert stack.context.registry.champion(FLIGHTS) == "1"
        traffic(stack.context).deploy("", FLIGHTS, "2", "the drill is over", "all-at-once", 0)
        assert stack.live(FLIGHTS) == "2"
    assert (load.failed, load.failures) == (0, [])
    assert [e.body["reason"] for e in stack.context.ledger.events(RolledBack)] == ["a drill"]


def test_6_the_page_is_behind_the_login_and_shows_what_is_live(stack, second_version):
    """The pages need a login; the overview shows the live version, and those of the model and of ROI draw their charts on laptop and phone."""
    if gone := browser.missing():
        skip_or_fail("browser", gone)
    for page in ("", f"backtest/{FLIGHTS}"):
        assert httpx.get(f"{stack.at.airflow}/perennial/{page}").status_code == 401
    with browser.browser() as driver:
        browser.log_in(driver, stack.at.airflow, USER, machine_secrets(stack.home)["password"])
        driver.get(f"{stack.at.airflow}/perennial/")
        card = driver.find_element("id", f"model-{FLIGHTS}").text
        assert "version 2" in card
        assert "answers" in card
        assert "Warm: version 1 in blue" in card
        assert "version 2 live in green" in driver.find_element("id", "deployments").text
        assert "went live" in driver.find_element("id", "runs").text
        link = driver.find_element("link text", "report").get_attribute("href")
        assert httpx.get(link).status_code == 401
        errors = [line for line in driver.get_log("browser") if line["level"] == "SEVERE"]
        assert errors == []
        assert driver.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
        pages = {
            f"model/{FLIGHTS}": ("Version 2 is live", 1),
            "roi": ("Break-even of", 2),
            f"roi/{FLIGHTS}": ("This model alone", 2),
        }
        for path, (said, charts) in pages.items():
            assert httpx.get(f"{stack.at.airflow}/perennial/{path}").status_code == 401
            driver.get(f"{stack.at.airflow}/perennial/{path}")
            browser.wait_for(driver, "css selector", ".main-svg")
            assert said in driver.find_element("tag name", "body").text
            assert len(driver.find_elements("css selector", ".js-plotly-plot")) == charts
            assert browser.faults(driver, 1280) + browser.faults(driver, 420) == []
        assert browser.filtered(driver, "numbers", "maturity") == ["level"], "on a phone too"
        driver.get(link)
        assert "PSI" in driver.page_source
        driver.get(f"{stack.at.airflow}/perennial/reports/{FLIGHTS}/..%2F..%2Fsecrets.json")
        assert "password" not in driver.page_source


def test_7_the_ledger_tells_it_all_and_its_chain_is_intact(stack, second_version):
    """The ledger has every event of the runs, and its chain is intact."""
    from pipeline.accounts.roi import roi
    from pipeline.accounts.statement import Terms
    from pipeline.ledger import costs

    context = stack.context
    assert context.ledger.verify()[1] is None
    runs = costs.run_costs(context.ledger, context.params.prices, model=FLIGHTS)
    known = {
        airflow_run(dag, r["dag_run_id"]) for dag in (RETRAIN, MONITOR, OPERATE, SCORE) for r in stack.airflow.runs(dag)
    }
    assert {run.run for run in runs} == known
    assert all(run.cost > 0 for run in runs)
    one = roi(context.ledger, Terms.of(context.params), context.params.baseline, model=FLIGHTS)
    assert one.deployments == len(context.ledger.events(RolloutEnded, model=FLIGHTS)) >= 2


def test_8_everything_listens_on_the_loopback_address_only(stack, first_version):
    """Services and slots listen on the loopback address only."""
    ours = {p.pid for p in processes.family(stack.home)} | {
        json.loads(f.read_text())["pid"] for f in (stack.home / "slots").glob("*.json")
    }
    listening = {c.laddr.ip for c in psutil.net_connections("inet") if c.status == psutil.CONN_LISTEN and c.pid in ours}
    assert listening == {"127.0.0.1"}


def test_8b_a_service_that_dies_comes_back_and_live_traffic_does_not_notice(stack, first_version):
    """A scheduler that is killed is started again and schedules the next run, without a failed request."""
    schedulers = [p for p in processes.family(stack.home) if _is_scheduler(p)]
    model = stack.context.params.model(FLIGHTS)
    one = next(requests(flights_between(stack.project, "2013-07-01", "2013-07-02"), model, None))
    with steady_load(f"{stack.at.router}/{FLIGHTS}", one, pace=50) as load:
        assert schedulers
        for process in schedulers:
            process.kill()
        run = stack.airflow.trigger(OPERATE, action="reconcile", reason="a drill")
        assert set(stack.finish(OPERATE, run).values()) == {"success"}
    assert (load.failed, load.failures) == (0, [])
    assert processes.supervisor(stack.home) is not None


def _is_scheduler(process: psutil.Process) -> bool:
    try:
        title = " ".join(process.cmdline())
    except psutil.Error:
        # A child that has just ended.
        return False
    return "airflow scheduler" in title and "supervisor" not in title


def test_9_down_ends_all_even_what_lost_its_supervisor_and_up_brings_back_what_was_live(stack, first_version):
    """`down` ends all services and slots, and `up` makes the last champion live again."""
    live = stack.live(FLIGHTS)
    assert live is not None
    processes.supervisor(stack.home).kill()
    time.sleep(1)
    assert len(processes.family(stack.home)) > 5
    control.down(stack.project, stack.home, print)
    assert processes.family(stack.home) == []
    assert not [
        p
        for p in psutil.process_iter(["cmdline"])
        if str(stack.home) in " ".join(p.info["cmdline"] or []) and p.pid != os.getpid()
    ]
    control.up(stack.project, stack.home, print)
    assert stack.live(FLIGHTS) == live
