"""Backfills through a real Airflow: weeks again, while what is live stays exactly as it was.

Two weeks; half a year with `PERENNIAL_REQUIRE=exhaustive`.

The tests share the services and the weeks, which are a fixture: each runs alone too.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import httpx
import pandas as pd
import pytest

from harness.project import CHURN, change_params, customers
from pipeline.ledger.events import RunOpened, RunSettled, VersionRegistered
from pipeline.ledger.rollout_events import RolloutEnded, SlotStarting
from pipeline.ledger.store import airflow_run
from pipeline.services.environment import USER, machine_secrets
from pipeline.workspaces import dvc_graph, dvc_remote
from tests.support import browser
from tests.support.flights_story import MONDAYS, RETRAIN, WEEKS, after, backfill, ended, pipeline
from tests.support.required import EXHAUSTIVE, skip_or_fail
from tests.support.stack import FLIGHTS, WINDOW_DAYS

pytestmark = pytest.mark.timeout(2700)
# The as-of of the first of the weeks.
FIRST = after(MONDAYS[0], 7)


def digest(stack, version):
    return stack.context.registry.version_facts(FLIGHTS, version).tags["perennial.model_digest"]


def kept_partitions(stack, version):
    """The files that a version's MLflow run says it was trained on."""
    import mlflow

    run = stack.context.registry.version_facts(FLIGHTS, version).mlflow_run
    return mlflow.artifacts.load_dict(f"runs:/{run}/partitions.json")


def test_1_weeks_are_backfilled_and_nothing_live_changes(stack, backfilled):
    """Weeks are backfilled at once beside a retrain from the command line, and nothing live changes."""
    state, live, load = backfilled.live_before, backfilled.live_after, backfilled.load
    champion = state["champion"]
    code, out, err = backfilled.beside
    assert list(backfilled.states.values()) == ["success"] * WEEKS
    assert code == 0, err
    assert (load.failed, load.failures, set(load.versions)) == (0, [], {champion})
    assert digest(stack, json.loads(out)["version"]) == digest(stack, champion), "the run beside it made the same model"
    assert {**live, "challenger": state["challenger"]} == state
    assert live["challenger"] in (state["challenger"], json.loads(out)["version"]), (
        "the run beside it may be challenger"
    )
    events = backfilled.events_before
    assert stack.context.ledger.events()[: len(events)] == events
    assert stack.context.ledger.verify()[1] is None


def test_2_each_week_is_a_version_under_its_own_name(stack, backfilled):
    """Each week is one version with its own as-of alias and window, and its roll_out task says why it was skipped."""
    versions = backfilled.versions
    assert len(set(versions.values())) == len(versions) == WEEKS
    assert (min(versions), max(versions)) == (f"asof-{FIRST}", f"asof-{after(MONDAYS[-1], 7)}")
    for alias, version in versions.items():
        tags = stack.context.registry.version_facts(FLIGHTS, version).tags
        assert (tags["perennial.as_of"][:10], tags["perennial.origin"]) == (alias.removeprefix("asof-"), "backfill")
    for alias, monday in ((min(versions), MONDAYS[0]), (max(versions), MONDAYS[-1])):
        days = sorted(dvc_remote.day_of(file) for file in kept_partitions(stack, versions[alias]))
        assert (len(days), days[0], days[-1]) == (WINDOW_DAYS, after(monday, 7 - WINDOW_DAYS), after(monday, 6))
    for run in backfilled.states:
        tasks = {t["task_id"]: t["state"] for t in stack.airflow.tasks(RETRAIN, run)}
        assert (tasks["register"], tasks["roll_out"], tasks["settle"]) == ("success", "skipped", "success")
    assert "comes from a backfill, which never goes live" in stack.airflow.log(RETRAIN, run, "roll_out")
    ended = stack.context.ledger.events(RolloutEnded, SlotStarting, run=airflow_run(RETRAIN, run))
    assert ended == []


def test_3_one_of_them_is_rebuilt_into_an_empty_cache(stack, backfilled):
    """A backfilled version is rebuilt identically into an empty cache."""
    done = pipeline("reproduce", FLIGHTS, backfilled.versions[f"asof-{FIRST}"], "--json")
    out, err = done.communicate()
    told = json.loads(out)
    assert (done.returncode, told["identical"]) == (0, True), (told["compared"], err)
    assert told["as_of"].startswith(FIRST)
    assert len(told["compared"]) == 12


def test_3b_dvc_repro_on_ones_own_machine_makes_the_same_model(stack, backfilled):
    """`dvc repro` restores what Airflow's run of the same as-of made, with the same digest."""
    settings = (stack.project / "params.yaml").read_text()
    change_params(stack.project, f"models.{FLIGHTS}.as_of", f"{FIRST}T00:00:00Z")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "dvc", "repro", f"package@{FLIGHTS}"], capture_output=True, text=True, check=True
        )
    finally:
        (stack.project / "params.yaml").write_text(settings)
    said = done.stdout + done.stderr
    assert all(
        f"Stage '{stage}@{FLIGHTS}' is cached - skipping run" in said for stage in ("train", "evaluate", "package")
    )
    manifest = dvc_graph.read_json(stack.project / "artifacts" / FLIGHTS / "package" / "manifest.json")
    assert manifest["model_digest"] == digest(stack, backfilled.versions[f"asof-{FIRST}"])


def test_4_again_it_is_the_same_versions(stack, backfilled):
    """A week that is backfilled again makes the same digest and no second version."""
    client = stack.context.registry.client()
    versions = {
        v.version: v.tags["perennial.model_digest"] for v in client.search_model_versions(f"name = '{FLIGHTS}'")
    }
    states = backfill(stack, RETRAIN, MONDAYS[0], MONDAYS[0], reprocess_behavior="completed")
    assert list(states.values()) == ["success"]
    again = {v.version: v.tags["perennial.model_digest"] for v in client.search_model_versions(f"name = '{FLIGHTS}'")}
    assert again == versions
    registered = stack.context.ledger.events(VersionRegistered, model=FLIGHTS)
    assert registered[-1].body["version"] == backfilled.versions[f"asof-{FIRST}"]


def test_4b_a_week_that_leaves_nothing_to_learn_says_so(stack):
    """A week without training rows fails with the reason in its task's log, and no interval ends after the schedule."""
    stack.airflow.wait_for_dag(RETRAIN)
    ((early, state),) = backfill(stack, RETRAIN, "2013-01-07", "2013-01-07").items()
    assert state == "failed"
    assert "the data begins on 2013-01-01, so all 10,835 rows are in the 14 days held out" in stack.airflow.log(
        RETRAIN, early, "train"
    )
    assert stack.context.ledger.events(VersionRegistered, run=airflow_run(RETRAIN, early)) == []
    planned = stack.airflow.post(
        "/backfills/dry_run",
        {
            "dag_id": RETRAIN,
            "from_date": "2013-12-16T00:00:00Z",
            "to_date": "2014-01-31T00:00:00Z",
            "max_active_runs": 4,
        },
    )
    assert [run["logical_date"][:10] for run in planned["backfills"]] == ["2013-12-16", "2013-12-23"]


def test_5_from_mlflows_page_of_a_version_to_its_data_and_back(stack, backfilled):
    """MLflow's page of a version links to the page of its data, which links back."""
    if gone := browser.missing():
        skip_or_fail("browser", gone)
    version = backfilled.versions[f"asof-{FIRST}"]
    data = stack.context.registry.version_facts(FLIGHTS, version).tags["perennial.data_version"]
    assert httpx.get(f"{stack.at.airflow}/perennial/data/{data}").status_code == 401
    with browser.browser() as driver:
        browser.log_in(driver, stack.at.airflow, USER, machine_secrets(stack.home)["password"])
        driver.get(f"{stack.at.mlflow}/#/models/{FLIGHTS}/versions/{version}")
        link = browser.wait_for(driver, "link text", "where else it was used").get_attribute("href")
        assert link == f"{stack.at.airflow}/perennial/data/{data}"
        driver.get(link)
        rows = driver.find_element("id", "versions").text
        assert f"version {version}" in rows
        assert f"asof-{FIRST}" in rows
        assert len(driver.find_elements("css selector", "svg.strip rect")) == WINDOW_DAYS
        back = driver.find_element("link text", f"version {version}").get_attribute("href")
        assert back == f"{stack.at.mlflow}/#/models/{FLIGHTS}/versions/{version}"
        assert driver.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
        severe = [line["message"] for line in driver.get_log("browser") if line["level"] == "SEVERE"]
        assert [message for message in severe if message.startswith(stack.at.airflow)] == [], "MLflow's own pages aside"
        driver.get(f"{stack.at.airflow}/perennial/data/{'0' * 32}")
        assert "is no data version" in driver.page_source


def test_5b_a_backfill_from_the_form_of_airflows_page(stack):
    """A backfill that is started from Airflow's own form registers its week and goes live nowhere."""
    if gone := browser.missing():
        skip_or_fail("browser", gone)
    stack.airflow.wait_for_dag("retrain__loyal")
    with browser.browser() as driver:
        browser.log_in(driver, stack.at.airflow, USER, machine_secrets(stack.home)["password"])
        browser.start_backfill(driver, stack.at.airflow, "retrain__loyal", "2024/02/18", "2024/02/18")
        until = time.monotonic() + 120
        while not (made := stack.airflow.get("/backfills", dag_id="retrain__loyal")["backfills"]):
            assert time.monotonic() < until, driver.find_element("tag name", "body").text
            time.sleep(0.5)
    ended(stack, made[0]["id"])
    runs = stack.airflow.runs("retrain__loyal")
    assert {(r["run_type"], r["state"]) for r in runs} == {("backfill", "success")}
    aliases = stack.context.registry.client().get_registered_model("loyal").aliases
    assert list(aliases) == ["asof-2024-02-19"], "no champion, where the model never had one"
    assert [e.event.as_of[:10] for e in stack.context.ledger.events(RunOpened, model="loyal")] == ["2024-02-19"]
    assert stack.live("loyal") is None


def test_6_runs_of_one_model_and_of_another_at_once(stack):
    """Of runs of one model at once, each goes live over what its gates saw, or is refused and says so; another model's go on."""
    counts = {"churn": 4, "loyal": 4} if EXHAUSTIVE else {"churn": 2, "loyal": 1}
    started = []
    for model, count in counts.items():
        stack.airflow.wait_for_dag(f"retrain__{model}")
        days = [f"2024-03-0{day}T00:00:00Z" for day in range(1, 1 + count)]
        started += [(f"retrain__{model}", stack.airflow.trigger(f"retrain__{model}", as_of=day)) for day in days]
    states = {airflow_run(dag, run): stack.finish(dag, run, limit_s=2400)[""] for dag, run in started}
    for model, count in counts.items():
        rollouts = [e for e in stack.context.ledger.events(RolloutEnded, model=model) if e.run in states]
        live = {e.run for e in rollouts}
        ends = stack.context.ledger.events(RunSettled, model=model)
        settled = {e.run: e.event.outcome for e in ends if e.run in states}
        assert len(settled) == count and live, "the first run to end goes live"
        for run, outcome in settled.items():
            assert states[run] == ("success" if run in live else "failed")
            assert run in live or (
                "not rolled out: " in outcome and "not compared" in outcome or "is younger" in outcome
            )
        as_ofs = [stack.context.ledger.events(RunOpened, run=e.run)[0].event.as_of for e in rollouts]
        assert as_ofs == sorted(as_ofs), "no version replaces one of a younger as-of"
        assert stack.live(model) == stack.context.registry.champion(model) == rollouts[-1].body["version"]
    assert stack.context.ledger.verify()[1] is None
    live = stack.live("churn")
    versions = {e.run: e.event.version for e in stack.context.ledger.events(VersionRegistered, model="churn")}
    late = next(run for dag, run in started if dag == "retrain__churn" and versions[airflow_run(dag, run)] != live)
    cleared = {"dag_run_id": late, "task_ids": ["roll_out"], "only_failed": False, "dry_run": False}
    stack.airflow.post("/dags/retrain__churn/clearTaskInstances", cleared | {"reset_dag_runs": True})
    assert stack.finish("retrain__churn", late)["roll_out"] == "failed", "a run that is cleared comes too late"
    assert stack.live("churn") == stack.context.registry.champion("churn") == live


def test_7_a_scheduled_run_is_the_same_beside_a_backfill_of_its_own_dag(stack):
    """A scheduled run beside a backfill of its own Dag goes live and is rebuilt identically."""
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    steady_customers(stack.project, until=midnight + timedelta(days=2))
    source = CHURN["source"]["query"].replace("customers/*", "customers/steady/*")
    steady = CHURN | {
        "schedule": {"cron": "0 0 * * *", "start": "2024-01-01T00:00:00Z"},
        "source": CHURN["source"] | {"query": source},
    }
    change_params(stack.project, "models.steady", steady)
    stack.airflow.read_again("retrain__churn")
    stack.airflow.wait_for_dag("retrain__steady")
    asked = [f"{midnight - timedelta(days=days):%Y-%m-%d}" for days in ((4, 3) if EXHAUSTIVE else (3, 3))]
    states = backfill(stack, "retrain__steady", *asked)
    assert set(states.values()) == {"success"}
    scheduled = next(r for r in stack.airflow.runs("retrain__steady") if r["run_type"] == "scheduled")
    run = scheduled["dag_run_id"]
    assert set(stack.finish("retrain__steady", run, limit_s=2400).values()) == {"success"}
    times = {r["dag_run_id"]: (r["start_date"], r["end_date"]) for r in stack.airflow.runs("retrain__steady")}
    start, end = times[run]
    assert any(begun < end and start < done for name, (begun, done) in times.items() if name in states), times
    (made,) = stack.context.ledger.events(VersionRegistered, run=airflow_run("retrain__steady", run))
    # The midnight before the run, which may be another one than before the test.
    as_of = datetime.fromisoformat(scheduled["data_interval_end"])
    assert as_of in (midnight, midnight + timedelta(days=1))
    assert (made.body["alias"], datetime.fromisoformat(made.body["as_of"])) == ("challenger", as_of)
    version = made.body["version"]
    assert stack.live("steady") == stack.context.registry.champion("steady") == version
    aliases = stack.context.registry.client().get_registered_model("steady").aliases
    assert len({name for name in aliases if name.startswith("asof-")}) == len(states) > 0
    rebuilt = pipeline("reproduce", "steady", version, "--json")
    out, err = rebuilt.communicate()
    assert json.loads(out)["identical"], err


def steady_customers(project, until):
    """The customers of the other tests, moved so that the last one comes just before `until`."""
    frame = customers()
    moved = pd.Timestamp(until) - frame.seen_at.max().ceil("D")
    folder = project / "customers" / "steady"
    folder.mkdir()
    frame.assign(seen_at=frame.seen_at + moved, decided_at=frame.decided_at + moved).to_parquet(folder / "all.parquet")
