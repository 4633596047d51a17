"""Starts and stops the services of one machine.

`up` starts the Procfile under a supervisor in a session of its own, or lets a new supervisor take over what runs, and waits until
every service answers. `down` ends exactly the processes that `up` and the rollouts started, and reports them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil

from pipeline.errors import PerennialError, ServiceError
from pipeline.ledger.store import Ledger
from pipeline.rollout import deploy, recovery
from pipeline.rollout.context import RolloutContext
from pipeline.rollout.engines.base import EngineSettings
from pipeline.rollout.engines.process import ProcessEngine
from pipeline.rollout.engines.select import LocalEngines
from pipeline.rollout.probe import answering_version, is_https
from pipeline.rollout.routing import foreign_files
from pipeline.services import processes
from pipeline.services.environment import Addresses, environment, write_files
from pipeline.services.slot_keeper import gets_traffic
from pipeline.settings.environment import Environment
from pipeline.settings.models import load

START_LIMIT_S = 180.0
STOP_LIMIT_S = 20.0
# Slots that were started again get so long to answer before they are started anew.
SLOTS_LIMIT_S = 15.0

# Takes a line about the progress, for a person at a terminal.
Report = Callable[[str], None]


def up(project: Path, home: Path, report: Report, wait_for_all: bool = True) -> Addresses:
    """Starts the services that do not run yet, reconciles, and returns the addresses. Raises ServiceError.

    Live traffic comes first: the router, then the slots. A service that does not come up holds up no other. Without
    `wait_for_all` MLflow and Airflow may still be starting when this returns.
    """
    at = Addresses.from_environment()
    with _one_at_a_time(home, report):
        for line in foreign_files.set_aside(home):
            report(line)
        recorded = processes.read(home)
        if recorded is not None and recorded.home not in ("", str(home)):
            _end_moved(project, home, Path(recorded.home), report)
        supervisor = processes.supervisor(home)
        if supervisor is not None:
            report("services run already")
            # One that is waiting for its next try has it now. A supervisor of an earlier version knows no such signal.
            if recorded is not None and recorded.home:
                supervisor.send_signal(signal.SIGUSR1)
        else:
            _refuse_taken_ports(home, at)
            write_files(project, home, at)
            _start(project, home, os.environ | environment(project, home, at))
        waiting = _Waiting(home, report)
        waiting.until_up("Traefik", f"{at.router_api}/ping", "router")
        _wait_for_slots(project, home)
        errors = [*waiting.errors, *_reconcile(project, home, report)]
        if wait_for_all:
            waiting.for_the_rest(at)
    for error in dict.fromkeys([*errors, *waiting.errors]):
        raise error
    return at


@contextlib.contextmanager
def _one_at_a_time(home: Path, report: Report) -> Iterator[None]:
    """Only one `up` or `down` works on a home at a time; the kernel frees the lock of one that was killed."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / "services.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("another `make up` or `make down` is going on here: waiting for its end")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _end_moved(project: Path, home: Path, old: Path, report: Report) -> None:
    """Ends what still runs for the folder in which this home was before: it would write there."""
    ended = []
    # Processes are in the files of this folder, and containers carry the mark of the old one.
    for place in (home, old):
        ended += deploy.stop_all(LocalEngines(EngineSettings.of(Environment.read().at(project, place))))
    services = _end_services(home)
    if ended or services:
        report(f"this folder was moved from {old}: what ran there is ended ({len(ended)} slots), and is started here")


def _wait_for_slots(project: Path, home: Path) -> None:
    """Waits until the slots that get traffic answer: their keeper starts those again that died, with the machine for example."""
    settings = EngineSettings.of(Environment.read().at(project, home))
    processes_of_slots, until = ProcessEngine(settings), time.monotonic() + SLOTS_LIMIT_S
    while any(gets_traffic(home, dead.model, dead.slot) for dead in processes_of_slots.dead()):
        if time.monotonic() > until:
            return
        time.sleep(0.05)
    for slot in [running for engine in LocalEngines(settings).all() for running in engine.all()]:
        while answering_version(slot.address) is None and time.monotonic() < until:
            time.sleep(0.05)


def _reconcile(project: Path, home: Path, report: Report) -> list[PerennialError]:
    """Makes slots, routes and ledger agree, because the machine may have been off; returns the error of one that it could not."""
    params = load(project)
    for fault in (*params.faults.values(), *params.teams.faults.values(), *params.broken.values()):
        report(str(fault))
    models = params.models
    here = Environment.read().at(project, home)
    context = RolloutContext.of(here, Ledger(here.ledger_url), models=models)
    try:
        for line in recovery.reconcile(context, {name: model.rollout for name, model in models.items()}):
            report(line)
    except PerennialError as error:
        return [error]
    return []


def down(project: Path, home: Path, report: Report) -> int:
    """Ends the services and every slot; returns the number of processes and containers that it ended."""
    with _one_at_a_time(home, report):
        # Services first: one of them could start a slot again.
        services = _end_services(home)
        engines = LocalEngines(EngineSettings.of(Environment.read().at(project, home)))
        slots = deploy.stop_all(engines)
        for slot in slots:
            report(f"ended {slot.model} {slot.slot}, version {slot.version} ({slot.engine})")
    report(f"ended {services} service processes" if services else f"nothing ran in {home}")
    return len(slots) + services


def _end_services(home: Path) -> int:
    """Ends the supervisor and all services; returns the number of their processes."""
    services, supervisor = processes.family(home), processes.supervisor(home)
    services = [process for process in services if not processes.is_slot(process)]
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
    return len(services)


def running(home: Path) -> bool:
    """Whether the services of this home run."""
    return processes.supervisor(home) is not None


def leftovers(home: Path) -> int:
    """The number of processes of this home that still run, also after its folder was removed."""
    return len(processes.family(home))


def _start(project: Path, home: Path, env: dict[str, str]) -> None:
    command = [sys.executable, "-m", "pipeline.services.supervisor", str(home), str(project / "Procfile")]
    with (home / "services.log").open("ab") as log:
        process = subprocess.Popen(
            command, cwd=project, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    until = time.monotonic() + START_LIMIT_S
    while (supervisor := processes.supervisor(home)) is None or supervisor.pid != process.pid:
        if process.poll() is not None or time.monotonic() > until:
            raise ServiceError("supervisor", "ended at its start", f"read the end of {home / 'services.log'}")
        time.sleep(0.05)


def _refuse_taken_ports(home: Path, at: Addresses) -> None:
    """Raises ServiceError when a port is in use by another program than a service of this home, which is taken over."""
    for name, port in at.ports().items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                if _listener(port) in {process.pid for process in processes.family(home)}:
                    continue
                raise ServiceError(
                    f"port {port}", f"is in use{_user_of(port)}", f"stop its user, or set PERENNIAL_{name.upper()}_PORT"
                ) from error


def _listener(port: int) -> int | None:
    """The pid of the process that listens on the port, where it can be seen."""
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                return connection.pid
    except psutil.Error:
        return None
    return None


def _user_of(port: int) -> str:
    pid = _listener(port)
    try:
        return f" by {psutil.Process(pid).name()} (process {pid})" if pid is not None else ""
    except psutil.Error:
        return ""


class _Waiting:
    """Waits for one service after the other, all within START_LIMIT_S; `errors` are those of services that did not come."""

    def __init__(self, home: Path, report: Report) -> None:
        self._home, self._report, self._start = home, report, time.monotonic()
        self.errors: list[PerennialError] = []

    def for_the_rest(self, at: Addresses) -> None:
        """Until MLflow and Airflow are up."""
        if not (self._home / "airflow" / "airflow.db").is_file():
            self._report("making the databases of Airflow and MLflow")
        self.until_up("MLflow", f"{at.mlflow}/health", "mlflow", "databases")
        airflow = ("api", "scheduler", "dags", "databases")
        self.until_up("Airflow", f"{at.airflow}/api/v2/monitor/health", *airflow)
        # The first call takes Airflow seconds, so that a task's own call would time out.
        self.until_up("Airflow's task API", f"{at.airflow}/execution/health", *airflow)

    def until_up(self, name: str, url: str, *services: str) -> None:
        """Until `name` answers at `url`; gives up when one of the Procfile's `services` that it needs cannot stay up."""
        log = self._home / "services.log"
        while not _healthy(name, url):
            recorded = processes.read(self._home)
            down = [s for s in services if recorded and s in recorded.services and recorded.services[s].is_down]
            if processes.supervisor(self._home) is None:
                self.errors.append(ServiceError(name, "has no supervisor any more", f"`make up` starts it; read {log}"))
            elif down:
                advice = f"read the end of {log}; it is tried again at least once a minute"
                self.errors.append(ServiceError(name, f"cannot start: {down[0]} ends again and again", advice))
            elif time.monotonic() - self._start > START_LIMIT_S:
                self.errors.append(
                    ServiceError(name, f"does not answer at {url} after {START_LIMIT_S:g} s", f"read {log}")
                )
            else:
                time.sleep(0.2)
                continue
            return
        self._report(f"{name} is up after {time.monotonic() - self._start:.0f} s")


def _healthy(name: str, url: str) -> bool:
    try:
        answer = httpx.get(url, timeout=20, verify=is_https(url))
    except httpx.HTTPError:
        return False
    if name == "Airflow":
        parts = answer.json() if answer.status_code == 200 else {}
        return all(parts.get(p, {}).get("status") == "healthy" for p in ("metadatabase", "scheduler", "dag_processor"))
    return answer.status_code == 200
