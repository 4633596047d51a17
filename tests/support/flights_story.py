"""What the stories on flights start from: a version that went live, a second one that drift brought, weeks that were backfilled.

Each is made once for the tests of a run that need it, so that each test of a story runs alone too.
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pandas as pd
import pytest

from demo.replay import Replay, Tally, requests
from demo.show import flights_between
from harness import served
from harness.load import steady_load
from pipeline.ledger.store import Event
from pipeline.monitoring import live_quality
from pipeline.rollout.routing import route_file
from pipeline.rollout.slots import predictions_folder
from tests.support.required import EXHAUSTIVE
from tests.support.stack import FLIGHTS, Stack, inside

RETRAIN, MONITOR, OPERATE, SCORE = (f"{kind}__{FLIGHTS}" for kind in ("retrain", "monitor", "operate", "score"))
WEEKS = 26 if EXHAUSTIVE else 2
# The Mondays that the weeks begin with; the last of them is in the middle of the year's data either way.
MONDAYS = [f"{day:%Y-%m-%d}" for day in pd.date_range(end="2013-10-28", periods=WEEKS, freq="7D")]


@dataclass(frozen=True)
class FirstVersion:
    run: str
    states: dict[str, str]


@pytest.fixture(scope="package")
def first_version(_stack: Stack) -> FirstVersion:
    """Version 1, live after a retrain as of April."""
    with inside(_stack) as stack:
        stack.airflow.wait_for_dag(RETRAIN)
        run = stack.airflow.trigger(RETRAIN, as_of="2013-04-01T00:00:00Z", reason="the first")
        return FirstVersion(run, stack.finish(RETRAIN, run))


@dataclass(frozen=True)
class SecondVersion:
    flights: int
    replayed: Tally
    monitored: dict[str, str]
    run: str
    states: dict[str, str]
    load: Tally


@pytest.fixture(scope="package")
def second_version(_stack: Stack, first_version: FirstVersion) -> SecondVersion:
    """Version 2, live after summer's flights were asked for, drifted from April's, and the monitor saw it; under load."""
    with inside(_stack) as stack:
        model = stack.context.params.model(FLIGHTS)
        june = flights_between(stack.project, "2013-06-05", "2013-07-01")
        replayed = Replay(f"{stack.at.router}/{FLIGHTS}").play(requests(june, model, "1h"))
        wait_for_log(stack, replayed.rows)
        one = next(requests(june, model, None))
        with steady_load(f"{stack.at.router}/{FLIGHTS}", one, pace=50) as load:
            run = stack.airflow.trigger(MONITOR, as_of="2013-07-01T00:00:00Z")
            monitored = stack.finish(MONITOR, run)
            retrain = _asset_triggered(stack)
            states = stack.finish(RETRAIN, retrain)
        return SecondVersion(len(june), replayed, monitored, retrain, states, load)


def wait_for_log(stack: Stack, rows: int, limit_s: float = 120) -> None:
    """Waits until the prediction log has so many rows: a slot writes what it has answered later."""
    until = time.monotonic() + limit_s
    while (found := live_quality.logged(predictions_folder(stack.home, FLIGHTS))) < rows:
        assert time.monotonic() < until, f"{found} of {rows} rows are logged"
        time.sleep(0.3)


def _asset_triggered(stack: Stack) -> str:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        runs = [r for r in stack.airflow.runs(RETRAIN) if r["run_type"] == "asset_triggered"]
        if runs:
            return runs[-1]["dag_run_id"]
        time.sleep(0.3)
    pytest.fail("the drift event started no run within two minutes")


@dataclass(frozen=True)
class Backfilled:
    """Weeks that were backfilled, and what was live before and after; `beside` is a retrain's (exit code, stdout, stderr)."""

    states: dict[str, str]
    live_before: dict[str, Any]
    live_after: dict[str, Any]
    events_before: list[Event]
    beside: tuple[int, str, str]
    load: Tally
    versions: dict[str, str]


@pytest.fixture(scope="package")
def backfilled(_stack: Stack, first_version: FirstVersion) -> Backfilled:
    """Several weeks at once, beside a retrain from the command line as of the champion's own time, under load."""
    with inside(_stack) as stack:
        before, events = live_state(stack), stack.context.ledger.events()
        as_of = stack.context.registry.version_facts(FLIGHTS, before["champion"]).tags["perennial.as_of"]
        model = stack.context.params.model(FLIGHTS)
        one = next(requests(flights_between(stack.project, "2013-07-01", "2013-07-02"), model, None))
        with steady_load(f"{stack.at.router}/{FLIGHTS}", one, pace=20) as load:
            retrain = pipeline("retrain", FLIGHTS, "--as-of", as_of, "--json")
            states = backfill(stack, RETRAIN, MONDAYS[0], MONDAYS[-1])
            out, err = retrain.communicate()
        aliases = stack.context.registry.client().get_registered_model(FLIGHTS).aliases
        versions = {name: str(version) for name, version in aliases.items() if name.startswith("asof-")}
        beside = (retrain.returncode, out, err)
        return Backfilled(states, before, live_state(stack), events, beside, load, versions)


def after(day: str, days: int) -> str:
    return f"{pd.Timestamp(day) + timedelta(days=days):%Y-%m-%d}"


def pipeline(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, served.__file__, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def backfill(stack: Stack, dag: str, start: str, end: str, **more: Any) -> dict[str, str]:
    """Starts a backfill and waits for its runs; their states by run id."""
    body = {"dag_id": dag, "from_date": f"{start}T00:00:00Z", "to_date": f"{end}T00:00:00Z", "max_active_runs": 4}
    started = stack.airflow.post("/backfills", body | more)
    ended(stack, started["id"])
    runs = [r for r in stack.airflow.runs(dag) if r["run_type"] == "backfill"]
    return {r["dag_run_id"]: r["state"] for r in runs if start <= r["data_interval_start"][:10] <= end}


def ended(stack: Stack, backfill: int, limit_s: float = 2400) -> None:
    until = time.monotonic() + limit_s
    while stack.airflow.get(f"/backfills/{backfill}")["completed_at"] is None:
        assert time.monotonic() < until, "the backfill did not end"
        time.sleep(1)


def live_state(stack: Stack) -> dict[str, Any]:
    """All that says what is live: the route file, MLflow's aliases, what answers."""
    registered = stack.context.registry.client().get_registered_model(FLIGHTS)
    aliases = {str(k): str(v) for k, v in registered.aliases.items()}
    return {
        "route": (route_file.routes_folder(stack.home) / f"{FLIGHTS}.yaml").read_bytes(),
        "champion": aliases.get("champion"),
        "challenger": aliases.get("challenger"),
        "answers": stack.live(FLIGHTS),
    }
