"""A real Airflow, MLflow and Traefik with a project of four models, two of them a team's, started once for all the tests that need them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import yaml

from demo import flights as demo_flights
from demo.airflow_api import AirflowApi
from harness.environment import environment
from harness.project import CHURN, ROOT, change_params, make_project
from pipeline.context import Context
from pipeline.rollout.routing import route_file
from pipeline.services import control
from pipeline.services.environment import PORTS, USER, Addresses, machine_secrets
from pipeline.settings.net import free_port

FLIGHTS = "flight-delay"
# A Dag of another team, which knows nothing of ours.
CONSUMER = "refresh_dashboard"
CONSUMER_DAG = f'''
from airflow.sdk import DAG, Asset, task

champion = Asset("champion__{FLIGHTS}")

with DAG("{CONSUMER}", schedule=[champion]):

    @task
    def what_is_live(triggering_asset_events=None):
        return [event.extra for event in triggering_asset_events[champion]]

    what_is_live()
'''
# A Dag of another team, whose data a model of ours is looked at for.
PRODUCER, LANDED = "lands_orders", "orders_landed"
PRODUCER_DAG = f'''
from airflow.sdk import DAG, Asset, task

with DAG("{PRODUCER}", schedule=None):

    @task(outlets=[Asset("{LANDED}", uri="s3://lake/orders")])
    def land():
        pass

    land()
'''
# Keeps the one slot of the team until it is let go.
TEAM, HOLDER = "growth", "holds_the_slot"
HOLDER_DAG = f'''
import time

from airflow.sdk import DAG, task

from pipeline.settings.environment import Environment

with DAG("{HOLDER}", schedule=None):

    @task(pool="team__{TEAM}")
    def hold():
        while not (Environment.read().home / "let-go").exists():
            time.sleep(0.1)

    hold()
'''
WINDOW_DAYS = 42
WEBHOOK_TOKEN = "of-the-story"
# Airflow reads its Dags anew each half a minute, which takes a tenth of a processor as long as the story goes on. Who changes them says so
# (`AirflowApi.read_again`).
DAGS_ARE_READ_S = 300


@dataclass
class Stack:
    project: Path
    home: Path
    at: Addresses
    airflow: AirflowApi
    env: dict[str, str]

    @property
    def context(self) -> Context:
        return Context.here()

    def finish(self, dag: str, run: str, limit_s: float = 600) -> dict[str, str]:
        """Waits for a run's end; task states by name, and the run's own under ''."""
        until = time.monotonic() + limit_s
        while (state := self.airflow.run(dag, run)["state"]) not in ("success", "failed"):
            assert time.monotonic() < until, f"{dag} {run} is {state}"
            # A question takes the server as much processor time as a part of a task does.
            time.sleep(1)
        return {t["task_id"]: t["state"] for t in self.airflow.tasks(dag, run)} | {"": state}

    def wait_for_task(self, dag: str, run: str, task: str, state: str, limit_s: float = 120) -> None:
        """Waits until the task is in `state`."""
        until = time.monotonic() + limit_s
        while (now := {t["task_id"]: t["state"] for t in self.airflow.tasks(dag, run)}).get(task) != state:
            assert time.monotonic() < until, f"{dag} {run}: {now}"
            time.sleep(0.5)

    def wait_for_answer(self, dag: str, run: str, task: str, limit_s: float = 120) -> None:
        """Waits until the task no longer waits for a person."""
        until = time.monotonic() + limit_s
        while {t["task_id"]: t["state"] for t in self.airflow.tasks(dag, run)}[task] == "awaiting_input":
            assert time.monotonic() < until, f"{dag} {run}: {task} still waits"
            time.sleep(0.2)

    def pools(self) -> dict[str, int]:
        """Airflow's pools and their slots."""
        return {pool["name"]: pool["slots"] for pool in self.airflow.get("/pools")["pools"]}

    def live(self, model: str, limit_s: float = 60) -> str | None:
        """The version that answers. One that missed a health check on a busy machine is covered by its predecessor until the router's
        next look: then it is who answers after that."""
        until = time.monotonic() + limit_s
        while True:
            answered = httpx.get(f"{self.at.router}/{model}/v2/health/ready").headers.get("x-model-version")
            route = route_file.read(self.home, model)
            if route is None or route.candidate or answered == route.live.version or time.monotonic() > until:
                return answered
            time.sleep(0.2)


@pytest.fixture(scope="package")
def _stack(tmp_path_factory):
    hopeless = CHURN | {"gates": CHURN["gates"] | {"metric_limit": 0.999, "baseline_margin": 0.9}}
    folder = tmp_path_factory.mktemp("stack") / "project"
    settings = yaml.safe_load((ROOT / "params.yaml").read_text())["models"][FLIGHTS]
    settings["rollout"]["engine"] = "process"
    # Half the days and a third of the trees of params.yaml: these tests are about runs, and make dozens of them.
    settings["source"]["window_days"] = WINDOW_DAYS
    settings["training"]["options"]["max_iter"] = 40
    settings["gates"]["metric_limit"] = 0.55
    # The story is about an alarm that starts a retrain, whether it pays or not.
    settings["policy"] = {"rule": "drift"}
    # Other tests run beside this one, and no answer is quick then.
    settings["rollout"]["limits"]["p99_ms"] = None
    settings["scoring"] = {"cron": "0 0 * * 1", "destination": {"parquet": "scores"}}
    churn = CHURN | {"team": TEAM}
    loyal = churn | {"schedule": CHURN["schedule"] | {"priority": 50}}
    careful = CHURN | {"approval": "required"}
    project = make_project(
        folder, {FLIGHTS: settings, "churn": churn, "loyal": loyal, "hopeless": hopeless, "careful": careful}
    )
    change_params(project, "teams", {TEAM: {"slots": 1}, "idle": {"slots": 3}})
    change_params(project, "models.loyal.monitor.on_asset", [LANDED])
    for name, dag in {CONSUMER: CONSUMER_DAG, HOLDER: HOLDER_DAG, PRODUCER: PRODUCER_DAG}.items():
        (project / "dags" / f"{name}.py").write_text(dag)
    demo_flights.main([str(ROOT / "warehouse" / "flights")])
    (project / "warehouse").symlink_to(ROOT / "warehouse")
    home = project / "home"
    env = {f"PERENNIAL_{name}_PORT": str(free_port()) for name in PORTS}
    env |= {"PERENNIAL_PROJECT": str(project), "PERENNIAL_HOME": str(home), "PERENNIAL_WEBHOOK_TOKEN": WEBHOOK_TOKEN}
    env["AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL"] = str(DAGS_ARE_READ_S)
    # Only while it starts and stops: other tests of the session have homes of their own.
    with environment({**env, "MLFLOW_TRACKING_URI": None}):
        at = control.up(project, home, print)
    env |= {"PERENNIAL_ROUTER_URL": at.router, "MLFLOW_TRACKING_URI": at.mlflow}
    yield Stack(project, home, at, AirflowApi(at.airflow, USER, machine_secrets(home)["password"]), env)
    with environment({**env, "MLFLOW_TRACKING_URI": None}):
        control.down(project, home, print)


@contextmanager
def inside(stack: Stack) -> Iterator[Stack]:
    """For the time of the block this process works in the stack's project."""
    with environment(stack.env), chdir(stack.project):
        yield stack


@pytest.fixture
def stack(_stack):
    with inside(_stack):
        yield _stack
