"""Airflow on SQLite with our connections and order of writers, against Airflow on Postgres: processor seconds and memory.

The same settings, Dag and number of runs for both, one after the other. Postgres is the machine's own, started in a folder
of this benchmark. Without a Postgres the benchmark prints that and compares nothing.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from benchmarks.limits import within_limit
from pipeline.services.environment import USER, Addresses, environment, machine_secrets, write_files
from pipeline.settings.environment import Environment
from pipeline.settings.net import free_port

RUNS, START_S = 8, 180
DAG = '''"""A dag for airflow: five tasks that do nothing, one after the other."""
from airflow.sdk import dag, task

@dag(schedule=None, max_active_runs=10)
def five():
    tasks = [task(task_id=f"t{n}")(lambda: None)() for n in range(5)]
    for before, after in zip(tasks, tasks[1:]):
        before >> after

five()
'''


@dataclass(frozen=True)
class Used:
    """Processor seconds of `RUNS` runs, of a minute without any, and the memory of all processes in MB."""

    runs_s: float
    idle_s: float
    memory_mb: float
    wall_s: float


def main() -> bool:
    postgres_bin = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"))), None)
    if postgres_bin is None:
        print("skipped: there is no Postgres on this machine (Debian's package is postgresql)")
        return True
    used = {}
    for name in ("SQLite", "Postgres"):
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            Path(folder).chmod(0o755)  # Postgres runs as another user when this is root
            database = stack.enter_context(_postgres(postgres_bin, Path(folder))) if name == "Postgres" else None
            used[name] = _measured(Path(folder), database)
        figures = used[name]
        print(
            f"{name:9} {RUNS} runs of 5 tasks: {figures.runs_s:5.1f} processor seconds, {figures.wall_s:4.0f} s; "
            f"a minute of rest: {figures.idle_s:4.1f}; {figures.memory_mb:4.0f} MB"
        )
    ratio = used["SQLite"].runs_s / used["Postgres"].runs_s
    return within_limit("processor seconds of runs on SQLite, times those on Postgres", ratio, 1.25)


@dataclass(frozen=True)
class Database:
    process: psutil.Process
    url: str


def _measured(folder: Path, database: Database | None) -> Used:
    home, dags = folder / "home", folder / "dags"
    dags.mkdir()
    (dags / "five.py").write_text(DAG)
    ports = (free_port() for _ in range(4))
    at = Addresses(*(f"http://127.0.0.1:{port}" for port in ports))
    project = Environment.read().project
    write_files(project, home, at)
    env = os.environ | environment(project, home, at) | {"AIRFLOW__CORE__DAGS_FOLDER": str(dags)}
    if database is not None:
        env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = database.url
        for name in ("CONNECT_ARGS", "CONNECT_ARGS_ASYNC"):
            del env[f"AIRFLOW__DATABASE__SQL_ALCHEMY_{name}"]
    subprocess.run(["airflow", "db", "migrate"], env=env, check=True, capture_output=True)
    with ExitStack() as stack:
        api = ["api-server", "--host", "127.0.0.1", "--port", str(at.ports()["airflow"]), "--workers", "1"]
        commands = [api, ["scheduler", "--skip-serve-logs"], ["dag-processor"]]
        processes = [stack.enter_context(_running(["airflow", *command], env, folder)) for command in commands]
        roots = [*processes, *([database.process] if database else [])]
        client = _logged_in(at, home)
        _run(client, 1)
        before, start = _processor_s(roots), time.monotonic()
        _run(client, RUNS)
        runs_s, wall_s = _processor_s(roots) - before, time.monotonic() - start
        before = _processor_s(roots)
        time.sleep(60)
        return Used(runs_s, _processor_s(roots) - before, _memory_mb(roots), wall_s)


def _logged_in(at: Addresses, home: Path) -> httpx.Client:
    """A client of Airflow's API, when its services and the Dag are there."""
    client, until = httpx.Client(base_url=at.airflow, timeout=60), time.monotonic() + START_S

    def wait(path: str) -> None:
        while True:
            try:
                if client.get(path).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            assert time.monotonic() < until, path
            time.sleep(0.5)

    wait("/api/v2/monitor/health")
    wait("/execution/health")
    login = {"username": USER, "password": machine_secrets(home)["password"]}
    client.headers["Authorization"] = f"Bearer {client.post('/auth/token', json=login).json()['access_token']}"
    wait("/api/v2/dags/five")
    return client


def _run(client: httpx.Client, count: int) -> None:
    """Triggers `count` runs and waits for all of them."""
    url = "/api/v2/dags/five/dagRuns"
    triggered = [client.post(url, json={"logical_date": None, "conf": {}}).raise_for_status() for _ in range(count)]
    open_runs = {answer.json()["dag_run_id"] for answer in triggered}
    while open_runs:
        time.sleep(0.5)
        for run in sorted(open_runs):
            state = client.get(f"{url}/{run}").json()["state"]
            assert state != "failed", run
            open_runs -= {run} if state == "success" else set()


def _family(roots: list[psutil.Process]) -> list[psutil.Process]:
    return [process for root in roots for process in (root, *root.children(recursive=True))]


def _processor_s(roots: list[psutil.Process]) -> float:
    """Seconds of the processes, and of those of their children that have ended."""
    total = 0.0
    for process in _family(roots):
        try:
            total += sum(process.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue
    return total


def _memory_mb(roots: list[psutil.Process]) -> float:
    """Memory with each shared page counted once."""
    return sum(process.memory_full_info().pss for process in _family(roots)) / 1e6


@contextmanager
def _running(command: list[str], env: dict[str, str] | None, folder: Path) -> Iterator[psutil.Process]:
    with (folder / f"{command[1]}.log").open("wb") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(20)


@contextmanager
def _postgres(binaries: Path, folder: Path) -> Iterator[Database]:
    """A Postgres of its own; as root it runs as the user postgres, because Postgres refuses root."""
    data, port = folder / "postgres", free_port()
    data.mkdir(mode=0o700)
    user = []
    if os.geteuid() == 0:
        shutil.chown(data, "postgres")
        user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    initdb = [*user, f"{binaries}/initdb", "-D", str(data), "-A", "trust", "-U", "postgres"]
    subprocess.run(initdb, check=True, capture_output=True)
    options = ["-D", str(data), "-p", str(port), "-k", "/tmp", "-c", "listen_addresses=127.0.0.1"]
    with _running([*user, f"{binaries}/postgres", *options], None, folder) as process:
        address = ["-h", "127.0.0.1", "-p", str(port)]
        while subprocess.run([f"{binaries}/pg_isready", "-q", *address], check=False).returncode:
            time.sleep(0.1)
        create = [f"{binaries}/psql", *address, "-U", "postgres", "-qc", "CREATE DATABASE airflow"]
        subprocess.run(create, check=True)
        yield Database(process, f"postgresql+psycopg2://postgres@127.0.0.1:{port}/airflow")
