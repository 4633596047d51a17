"""`make demo`: the whole loop on the flights of 2013, with a line for each thing that happens.

Trains a model as of April and brings it live. Replays April to the first week of July against the live address. The monitor finds that the
weather has drifted, and asks whether a retrain pays: the receipt says what one is expected to save and costs. If it pays, that event starts
the retrain Dag; if not, a person overrides it, so that there is something to settle. The version goes live while requests keep coming. Four
more weeks follow, and their labels say what that retrain was worth: the demo ends with its statement of account. The state is
in .perennial/demo: each demo starts with an empty one and leaves the services running.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from demo import flights, labels
from demo.airflow_api import AirflowApi
from demo.replay import Replay, Tally, requests
from demo.summary import DemoResult, print_summary
from pipeline.context import Context
from pipeline.errors import PerennialError, ServiceError
from pipeline.ledger.events import DriftChecked
from pipeline.ledger.receipt_events import RetrainDecided
from pipeline.ledger.store import airflow_run
from pipeline.services import control
from pipeline.services.environment import USER, Addresses, machine_secrets
from pipeline.settings import models as params
from pipeline.settings.environment import Environment

MODEL = "flight-delay"
# The labels of the weeks up to LAST_ASKED have come by LABELLED.
LAST_ASKED, LABELLED = "2013-08-05", "2013-08-08T00:00:00Z"
FIRST, SECOND = "2013-04-01T00:00:00Z", "2013-07-08T00:00:00Z"
# The flights from SECOND up to here are asked of both versions.
LATER = "2013-07-22"
RUN_LIMIT_S = 300.0
START = time.monotonic()


def progress(text: str) -> None:
    """Prints a line of progress with the seconds since the start."""
    print(f"[{time.monotonic() - START:5.0f} s] {text}", flush=True)


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
        result = _run_loop(project, home)
    except PerennialError as error:
        print(error, file=sys.stderr)
        return 1
    print_summary(result, machine_secrets(home)["password"])
    return 0 if result.requests.failed == 0 else 1


def _start_over(project: Path, home: Path) -> None:
    """Ends and removes an earlier demo, and stops the services of `make up`, which use the same ports."""
    own = project / ".perennial"
    if control.running(own):
        progress("stopping the services of `make up` to free their ports; what was live comes back with `make up`")
        control.down(project, own, progress)
    if home.exists() or control.leftovers(home):
        progress("removing an earlier demo")
        control.down(project, home, progress)
        shutil.rmtree(home, ignore_errors=True)


def _run_loop(project: Path, home: Path) -> DemoResult:
    addresses = _start_services(project, home)
    context = Context.here()
    airflow = AirflowApi(addresses.airflow, USER, machine_secrets(home)["password"])
    airflow.wait_for_dag(f"retrain__{MODEL}")
    airflow.wait_for_dag(f"monitor__{MODEL}")

    progress("no model is live yet: triggering retrain as of 1 April through Airflow's REST API")
    first = airflow.trigger(f"retrain__{MODEL}", as_of=FIRST, reason="the first model of the demo")
    _follow(airflow, f"retrain__{MODEL}", first)
    address = f"{addresses.router}/{MODEL}"
    model = context.params.model(MODEL)
    progress(f"version 1 is live at {address}; replaying the flights from April to 7 July in time order")
    spring = flights_between(project, FIRST[:10], SECOND[:10])
    spring_tally = _play_with_progress(Replay(address, connections=4), requests(spring, model, "30min"), len(spring))

    progress("the flights of the quarter have landed: triggering the monitor as of 8 July")
    # Of later weeks than those that say what the retrain was worth: these are version 2's.
    summer = flights_between(project, LAST_ASKED, "2013-10-01")
    with _playing(Replay(address, connections=2, pace=60), requests(summer, model, None)) as summer_tally:
        monitor, second = _monitor_and_retrain(context, airflow)
    progress("version 2 is live; replaying the flights of the four weeks since, whose labels come as they land")
    july = flights_between(project, SECOND[:10], LAST_ASKED)
    july_tally = _play_with_progress(Replay(address, connections=4), requests(july, model, "30min"), len(july))
    for settled in labels.settle(context, MODEL, params.time_of(LABELLED)):
        progress(f"as of 8 August the labels of these weeks are there: {settled.sentence()}")
    return DemoResult(
        context,
        addresses,
        MODEL,
        airflow_run(f"retrain__{MODEL}", first),
        airflow_run(f"retrain__{MODEL}", second),
        airflow_run(f"monitor__{MODEL}", monitor),
        spring_tally + summer_tally + july_tally,
        flights_between(project, SECOND[:10], LATER),
        time.monotonic() - START,
    )


def _start_services(project: Path, home: Path) -> Addresses:
    progress("landing the flights of 2013 and starting Airflow, MLflow and Traefik")
    with ThreadPoolExecutor(1) as beside:
        warehouse = beside.submit(flights.main, [str(project / "warehouse" / "flights")])
        addresses = control.up(project, home, progress)
        warehouse.result()
    os.environ["MLFLOW_TRACKING_URI"] = addresses.mlflow
    return addresses


def _monitor_and_retrain(context: Context, airflow: AirflowApi) -> tuple[str, str]:
    """The run of the monitor, and the retrain run that its event started, or a person where a retrain does not pay; both have ended."""
    monitor = airflow.trigger(f"monitor__{MODEL}", as_of=SECOND)
    _follow(airflow, f"monitor__{MODEL}", monitor)
    decision = _print_decision(context, monitor)
    second = _started_by_event(airflow) if decision == "retrain" else _overridden(airflow)
    _follow(airflow, f"retrain__{MODEL}", second)
    # Requests of a moment more, which the new version answers.
    time.sleep(2)
    return monitor, second


def flights_between(project: Path, start: str, end: str) -> pd.DataFrame:
    """The warehouse's flights with scheduled departure in [start, end), in time order."""
    files = [f for f in sorted((project / "warehouse" / "flights").glob("*.parquet")) if start <= f.stem < end]
    return pd.concat([pd.read_parquet(f) for f in files], ignore_index=True)


@contextmanager
def _playing(replay: Replay, bodies: Iterable[bytes]) -> Iterator[Tally]:
    """Sends `bodies` in the background until the block ends; the tally is complete after it."""
    user = threading.Thread(target=replay.play, args=(bodies,), daemon=True)
    user.start()
    try:
        yield replay.tally
    finally:
        replay.stop()
        user.join()


def _play_with_progress(replay: Replay, bodies: Iterable[bytes], total: int) -> Tally:
    """Sends all `bodies`, with a line of progress every five seconds."""
    worker = threading.Thread(target=replay.play, args=(bodies,), daemon=True)
    worker.start()
    while worker.is_alive():
        worker.join(5)
        tally = replay.tally
        progress(f"  {tally.rows:,} of {total:,} flights predicted in {tally.sent:,} requests, {tally.failed} failed")
    return replay.tally


def _follow(airflow: AirflowApi, dag: str, run: str) -> None:
    """Prints each task when it ends, until the run succeeds. Raises ServiceError with the end of a failed task's log."""
    ended: set[str] = set()
    until = time.monotonic() + RUN_LIMIT_S
    while True:
        state = airflow.run(dag, run)["state"]
        for task in airflow.tasks(dag, run):
            name = task["task_id"]
            if task["state"] in ("success", "failed", "skipped", "upstream_failed") and name not in ended:
                ended.add(name)
                duration = f" in {task['duration']:.1f} s" if task["duration"] else ""
                progress(f"  {dag} {name}: {task['state']}{duration}")
                if task["state"] == "failed":
                    raise ServiceError(f"task {name}", airflow.log(dag, run, name)[-500:], "see its log in Airflow")
        if state == "success":
            return
        if state == "failed" or time.monotonic() > until:
            raise ServiceError(f"run {run}", f"is {state}", "see it in Airflow")
        time.sleep(0.3)


def _print_decision(context: Context, run: str) -> str:
    """What the monitor saw and the receipt says; returns the decision."""
    run = airflow_run(f"monitor__{MODEL}", run)
    check = context.ledger.events(DriftChecked, run=run)[-1].event
    progress(f"the monitor says {check.verdict}: {', '.join(check.moved)}")
    receipt = context.ledger.events(RetrainDecided, run=run)[-1].event
    progress(f"the receipt: {receipt.sentence()}")
    if receipt.saving is not None and receipt.cost is not None:
        progress(
            f"a retrain is expected to save {receipt.saving:,.2f} {receipt.currency} ({receipt.low:,.2f} to {receipt.high:,.2f}) over "
            f"{receipt.ahead} weeks and costs {receipt.cost:,.2f}; guessed: {', '.join(receipt.economics['guesses'])}"
        )
    others = ", ".join(f"{rule} {what}" for rule, what in receipt.others.items())
    progress(f"it would be otherwise with {receipt.flips}; other rules: {others}")
    return receipt.decision


def _overridden(airflow: AirflowApi) -> str:
    """The run of a person who asks for the retrain that does not pay."""
    progress(
        "so nothing is retrained by itself; a person overrides it with a reason, and the account will say what that was worth"
    )
    return airflow.trigger(
        f"retrain__{MODEL}", as_of=SECOND, reason="by hand: to see what a retrain would have been worth"
    )


def _started_by_event(airflow: AirflowApi) -> str:
    """The run that the monitor's event started."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        started = [run for run in airflow.runs(f"retrain__{MODEL}") if run["run_type"] == "asset_triggered"]
        if started:
            progress(
                "it pays: Airflow started the retrain Dag from the monitor's event; requests keep coming meanwhile"
            )
            return started[-1]["dag_run_id"]
        time.sleep(0.3)
    raise ServiceError("the monitor's event", "started no retrain run within 60 s", "see the asset's events in Airflow")


if __name__ == "__main__":
    sys.exit(main())
