"""Starts and stops this machine's services, and knows which processes are its own.

`up` starts the Procfile under honcho in a session of its own and waits until all of it answers. `down` ends
exactly what `up` and the rollouts started, by process id and start time, and says what it ended.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil

from pipeline.errors import ServiceError
from pipeline.ledger.store import Ledger
from pipeline.rollout import deploy, recovery
from pipeline.rollout.context import RolloutContext
from pipeline.rollout.engines.base import EngineSettings
from pipeline.rollout.engines.select import LocalEngines
from pipeline.rollout.probe import certified
from pipeline.services import processes
from pipeline.services.settings import Addresses, environment, mlflow_store, write_files
from pipeline.settings.environment import Environment
from pipeline.settings.models import load

START_LIMIT_S = 180.0
STOP_LIMIT_S = 20.0

Say = Callable[[str], None]


def up(project: Path, home: Path, say: Say) -> Addresses:
    """Starts what does not run yet and returns the addresses. Raises ServiceError in one line."""
    at = Addresses.from_environment()
    if processes.supervisor(home) is not None:
        say("services run already")
    else:
        _refuse_taken_ports(at)
        write_files(project, home, at)
        env = os.environ | environment(project, home, at)
        if not (home / "airflow" / "airflow.db").is_file():
            say("making the databases of Airflow and MLflow")
            _make_databases(home, env)
        say("starting Airflow, MLflow and Traefik")
        _start(project, home, env)
    _wait_until_up(home, at, say)
    settings = {name: model.rollout for name, model in load(project).models.items()}
    limits = {name: rollout.serving.rate_limit for name, rollout in settings.items()}
    here = Environment.read().at(project, home)
    context = RolloutContext.of(here, Ledger(here.ledger_url), rate_limits=limits)
    for line in recovery.reconcile(context, settings):
        say(line)
    return at


def down(project: Path, home: Path, say: Say) -> int:
    """Ends the services and every slot; returns how many processes and containers that were."""
    engines = LocalEngines(EngineSettings.of(Environment.read().at(project, home)))
    ended = deploy.stop_all(engines)
    for running in ended:
        say(f"ended {running.model} {running.slot}, version {running.version} ({running.engine})")
    ours = processes.family(home)
    supervisor = processes.supervisor(home)
    # The supervisor ends its own; without one each is asked by itself.
    for process in [supervisor] if supervisor else ours:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(ours, timeout=STOP_LIMIT_S)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=STOP_LIMIT_S)
    processes.forget(home)
    say(f"ended {len(ours)} service processes" if ours else f"nothing ran in {home}")
    return len(ended) + len(ours)


def running(home: Path) -> bool:
    """Whether this home's services run."""
    return processes.supervisor(home) is not None


def leftovers(home: Path) -> int:
    """How many processes of this home still run, whatever became of its folder."""
    return len(processes.family(home))


def _start(project: Path, home: Path, env: dict[str, str]) -> None:
    procfile = project / "Procfile"
    command = [sys.executable, "-m", "honcho", "--no-prefix", "--env", os.devnull, "-f", str(procfile), "start"]
    with (home / "services.log").open("ab") as log:
        process = subprocess.Popen(
            command, cwd=project, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    commands = [line for line in procfile.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    processes.record(home, process.pid, len(commands))


def _make_databases(home: Path, env: dict[str, str]) -> None:
    commands = [["airflow", "db", "migrate"], ["mlflow", "db", "upgrade", mlflow_store(home)]]

    def run(command: list[str]) -> None:
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
            raise ServiceError(" ".join(command[:3]), last, f"look at {home}")

    with ThreadPoolExecutor() as both:
        list(both.map(run, commands))


def _refuse_taken_ports(at: Addresses) -> None:
    for name, port in at.ports().items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                raise ServiceError(
                    f"port {port}", f"is in use{_user_of(port)}", f"stop that, or set PERENNIAL_{name.upper()}_PORT"
                ) from error


def _user_of(port: int) -> str:
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (process {connection.pid})"
    except psutil.Error:
        return ""
    return ""


def _wait_until_up(home: Path, at: Addresses, say: Say) -> None:
    checks = {
        "Traefik": f"{at.router_api}/ping",
        "MLflow": f"{at.mlflow}/health",
        "Airflow": f"{at.airflow}/api/v2/monitor/health",
        # The first call takes Airflow seconds and a task's own call would time out: warm it up.
        "Airflow's task API": f"{at.airflow}/execution/health",
    }
    start = time.monotonic()
    for name, url in checks.items():
        while not _healthy(name, url):
            if processes.supervisor(home) is None:
                raise ServiceError(name, "ended at its start", f"read the end of {home / 'services.log'}")
            if time.monotonic() - start > START_LIMIT_S:
                raise ServiceError(
                    name, f"does not answer at {url} after {START_LIMIT_S:g} s", f"read {home / 'services.log'}"
                )
            time.sleep(0.2)
        say(f"{name} is up after {time.monotonic() - start:.0f} s")


def _healthy(name: str, url: str) -> bool:
    try:
        answer = httpx.get(url, timeout=20, verify=certified(url))
    except httpx.HTTPError:
        return False
    if name == "Airflow":
        parts = answer.json() if answer.status_code == 200 else {}
        return all(parts.get(p, {}).get("status") == "healthy" for p in ("metadatabase", "scheduler", "dag_processor"))
    return answer.status_code == 200
