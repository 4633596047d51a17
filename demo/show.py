"""`make demo`: the whole loop for real, on the flights of 2013, with a line for each thing that happens and why.

Train as of April and go live; replay April to June against the live address; the monitor finds that the world
has changed; the retrain Dag starts from that event and the new version goes live while requests keep coming.
It keeps its state in .perennial/demo, starts over each time, and leaves the services running.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from demo import flights
from demo.airflow_api import AirflowApi
from demo.replay import Replay, Tally, requests
from demo.summary import Told, print_summary
from pipeline.context import Context
from pipeline.errors import PerennialError, ServiceError
from pipeline.ledger.events import DriftChecked
from pipeline.ledger.store import airflow_run
from pipeline.services import control
from pipeline.services.environment import USER, machine_secrets
from pipeline.settings import models as params
from pipeline.settings.environment import Environment

MODEL = "flight-delay"
FIRST, SECOND = "2013-04-01T00:00:00Z", "2013-07-01T00:00:00Z"
LATER_DAYS = 14
RUN_LIMIT_S = 300.0
BEGAN = time.monotonic()


def say(text: str) -> None:
    """One line of progress with the seconds since the start."""
    print(f"[{time.monotonic() - BEGAN:5.0f} s] {text}", flush=True)


def main() -> int:
    project = Environment.read().project
    home = project / ".perennial" / "demo"
    os.environ |= {
        "PERENNIAL_HOME": str(home),
        "PERENNIAL_PROJECT": str(project),
        "PERENNIAL_DVC_CACHE": str(home / "dvc-cache"),
    }
    for name in ("MLFLOW_TRACKING_URI", "PERENNIAL_LEDGER_URL", "PERENNIAL_ROUTER_URL"):
        os.environ.pop(name, None)
    try:
        params.load(project).model(MODEL)
        _start_over(project, home)
        told = _loop(project, home)
    except PerennialError as error:
        print(error, file=sys.stderr)
        return 1
    print_summary(told, machine_secrets(home)["password"])
    return 0 if told.requests.failed == 0 else 1


def _start_over(project: Path, home: Path) -> None:
    """Whatever an earlier demo left, running or not, goes away; `make up`'s own services make room."""
    own = project / ".perennial"
    if control.running(own):
        say("stopping the services of `make up` to free their ports; what was live comes back with `make up`")
        control.down(project, own, say)
    if home.exists() or control.leftovers(home):
        say("clearing what an earlier demo left")
        control.down(project, home, say)
        shutil.rmtree(home, ignore_errors=True)


def _loop(project: Path, home: Path) -> Told:
    say("landing the flights of 2013 and starting Airflow, MLflow and Traefik")
    with ThreadPoolExecutor(1) as beside:
        landed = beside.submit(flights.main, [str(project / "warehouse" / "flights")])
        at = control.up(project, home, say)
        landed.result()
    os.environ["MLFLOW_TRACKING_URI"] = at.mlflow
    context = Context.here()
    airflow = AirflowApi(at.airflow, USER, machine_secrets(home)["password"])
    airflow.wait_for_dag(f"retrain__{MODEL}")
    airflow.wait_for_dag(f"monitor__{MODEL}")

    say("no model is live yet: triggering retrain as of 1 April through Airflow's REST API")
    first = airflow.trigger(f"retrain__{MODEL}", as_of=FIRST, reason="the first model of the demo")
    _follow(airflow, f"retrain__{MODEL}", first)
    address = f"{at.router}/{MODEL}"
    model = context.params.model(MODEL)
    say(f"version 1 is live at {address}; replaying the flights of April to June in time order")
    spring = _flights(project, "2013-04-01", "2013-07-01")
    replay = Replay(address, connections=4)
    told = _watched(replay, requests(spring, model, "30min"), len(spring))

    say("the quarter is over and its flights have landed: triggering the monitor as of 1 July")
    summer = _flights(project, "2013-07-01", "2013-10-01")
    keeps_coming = Replay(address, connections=2, pace=60)
    user = threading.Thread(target=keeps_coming.play, args=(requests(summer, model, None),), daemon=True)
    user.start()
    try:
        monitor = airflow.trigger(f"monitor__{MODEL}", as_of=SECOND)
        _follow(airflow, f"monitor__{MODEL}", monitor)
        _tell_drift(context, monitor)
        second = _started_by_drift(airflow)
        _follow(airflow, f"retrain__{MODEL}", second)
        time.sleep(2)
    finally:
        keeps_coming.stop()
        user.join()
    later = _flights(project, "2013-07-01", f"2013-07-{LATER_DAYS + 1:02d}")
    return Told(
        context,
        at,
        MODEL,
        airflow_run(f"retrain__{MODEL}", first),
        airflow_run(f"retrain__{MODEL}", second),
        airflow_run(f"monitor__{MODEL}", monitor),
        told + keeps_coming.tally,
        later,
        time.monotonic() - BEGAN,
    )


def _flights(project: Path, start: str, end: str) -> pd.DataFrame:
    """The warehouse's flights that are due to leave in [start, end), in time order."""
    files = [f for f in sorted((project / "warehouse" / "flights").glob("*.parquet")) if start <= f.stem < end]
    return pd.concat([pd.read_parquet(f) for f in files], ignore_index=True)


def _watched(replay: Replay, bodies, total: int) -> Tally:
    """Plays `bodies` with a line every few seconds."""
    worker = threading.Thread(target=replay.play, args=(bodies,), daemon=True)
    worker.start()
    while worker.is_alive():
        worker.join(5)
        tally = replay.tally
        say(f"  {tally.rows:,} of {total:,} flights asked about in {tally.sent:,} requests, {tally.failed} failed")
    return replay.tally


def _follow(airflow: AirflowApi, dag: str, run: str) -> None:
    """Says each task as it ends. Raises ServiceError with the failed task's last words."""
    seen: set[str] = set()
    until = time.monotonic() + RUN_LIMIT_S
    while True:
        state = airflow.run(dag, run)["state"]
        for task in airflow.tasks(dag, run):
            name = task["task_id"]
            if task["state"] in ("success", "failed", "skipped", "upstream_failed") and name not in seen:
                seen.add(name)
                say(f"  {dag} {name}: {task['state']}" + (f" in {task['duration']:.1f} s" if task["duration"] else ""))
                if task["state"] == "failed":
                    raise ServiceError(f"task {name}", airflow.log(dag, run, name)[-500:], "see its log in Airflow")
        if state == "success":
            return
        if state == "failed" or time.monotonic() > until:
            raise ServiceError(f"run {run}", f"is {state}", "see it in Airflow")
        time.sleep(0.3)


def _tell_drift(context: Context, run: str) -> None:
    check = context.ledger.events(DriftChecked, run=airflow_run(f"monitor__{MODEL}", run))[-1].event
    say(f"the monitor says {check.verdict}: {', '.join(check.moved)}; decision: {check.decision}")


def _started_by_drift(airflow: AirflowApi) -> str:
    """The run that the drift event started."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        found = [r for r in airflow.runs(f"retrain__{MODEL}") if r["run_type"] == "asset_triggered"]
        if found:
            say("Airflow started the retrain Dag from the drift event; requests keep coming meanwhile")
            return found[-1]["dag_run_id"]
        time.sleep(0.3)
    raise ServiceError("drift event", "started no retrain run within 60 s", "see the asset's events in Airflow")


if __name__ == "__main__":
    sys.exit(main())
