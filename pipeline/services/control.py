"""Starts and stops the services of one machine.

`up` starts the Procfile under honcho in a session of its own and waits until every service answers. `down` ends exactly the
processes that `up` and the rollouts started, and reports them.
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
from pipeline.rollout.probe import is_https
from pipeline.services import processes
from pipeline.services.environment import Addresses, environment, mlflow_store, write_files
from pipeline.settings.environment import Environment
from pipeline.settings.models import load

START_LIMIT_S = 180.0
STOP_LIMIT_S = 20.0

# Takes a line about the progress, for a person at a terminal.
Report = Callable[[str], None]


def up(project: Path, home: Path, report: Report) -> Addresses:
    """Starts the services that do not run yet, reconciles, and returns the addresses. Raises ServiceError."""
    at = Addresses.from_environment()
    if processes.supervisor(home) is not None:
        report("services run already")
    else:
        _refuse_taken_ports(at)
        write_files(project, home, at)
        env = os.environ | environment(project, home, at)
        if not (home / "airflow" / "airflow.db").is_file():
            report("making the databases of Airflow and MLflow")
            _make_databases(home, env)
        report("starting Airflow, MLflow and Traefik")
        _start(project, home, env)
    _wait_until_up(home, at, report)
    _reconcile(project, home, report)
    return at


def _reconcile(project: Path, home: Path, report: Report) -> None:
    """Makes slots, routes and ledger agree: the machine may have been off."""
    models = load(project).models
    here = Environment.read().at(project, home)
    context = RolloutContext.of(here, Ledger(here.ledger_url), models=models)
    for line in recovery.reconcile(context, {name: model.rollout for name, model in models.items()}):
        report(line)


def down(project: Path, home: Path, report: Report) -> int:
    """Ends the services and every slot; returns the number of processes and containers that it ended."""
    engines = LocalEngines(EngineSettings.of(Environment.read().at(project, home)))
    slots = deploy.stop_all(engines)
    for slot in slots:
        report(f"ended {slot.model} {slot.slot}, version {slot.version} ({slot.engine})")
    services = processes.family(home)
    supervisor = processes.supervisor(home)
    # The supervisor ends its own services. When it was killed, each service gets the signal itself.
    for process in [supervisor] if supervisor else services:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(services, timeout=STOP_LIMIT_S)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=STOP_LIMIT_S)
    processes.forget(home)
    report(f"ended {len(services)} service processes" if services else f"nothing ran in {home}")
    return len(slots) + len(services)


def running(home: Path) -> bool:
    """Whether the services of this home run."""
    return processes.supervisor(home) is not None


def leftovers(home: Path) -> int:
    """The number of processes of this home that still run, also after its folder was removed."""
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
        result = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            last = (result.stderr.strip() or result.stdout.strip() or "no output").splitlines()[-1]
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
                    f"port {port}", f"is in use{_user_of(port)}", f"stop its user, or set PERENNIAL_{name.upper()}_PORT"
                ) from error


def _user_of(port: int) -> str:
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (process {connection.pid})"
    except psutil.Error:
        return ""
    return ""


def _wait_until_up(home: Path, at: Addresses, report: Report) -> None:
    checks = {
        "Traefik": f"{at.router_api}/ping",
        "MLflow": f"{at.mlflow}/health",
        "Airflow": f"{at.airflow}/api/v2/monitor/health",
        # The first call takes Airflow seconds, so that a task's own call would time out.
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
        report(f"{name} is up after {time.monotonic() - start:.0f} s")


def _healthy(name: str, url: str) -> bool:
    try:
        answer = httpx.get(url, timeout=20, verify=is_https(url))
    except httpx.HTTPError:
        return False
    if name == "Airflow":
        parts = answer.json() if answer.status_code == 200 else {}
        return all(parts.get(p, {}).get("status") == "healthy" for p in ("metadatabase", "scheduler", "dag_processor"))
    return answer.status_code == 200
