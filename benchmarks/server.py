"""The whole compose file: seconds until healthy, memory at rest, and a retrain through Celery against the local executor.

Both retrain the same model on the same days, behind slots of the same engine. On the server every second step is sent to another
queue, so that most steps find their workspace on the other worker's disk.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.limits import within_limit
from demo.airflow_api import AirflowApi
from harness.compose import Server, missing, model_of_the_server, running
from harness.environment import environment
from harness.project import make_project
from pipeline.services import control
from pipeline.services.environment import PORTS, USER, machine_secrets
from pipeline.settings.net import free_port

DAYS = ("2024-02-20", "2024-02-24", "2024-02-28", "2024-03-03")
REST_S = 30.0


def main() -> bool:
    if reason := missing():
        raise SystemExit(f"server: {reason}")
    with tempfile.TemporaryDirectory() as folder:
        with running(Path(folder) / "server") as server:
            healthy_s = server.up_s
            time.sleep(REST_S)
            rest_gib = _memory_gib(server)
            by_celery = _retrains(server.airflow)
        by_local = _local(Path(folder) / "local")
    cores = len(os.sched_getaffinity(0))
    print(f"on {cores} cores: healthy after {healthy_s:.0f} s; {rest_gib:.2f} GiB at rest, with two workers")
    for executor, seconds in (("Celery, two workers", by_celery), ("local executor", by_local)):
        print(f"a retrain, {executor}: {', '.join(f'{s:.1f}' for s in seconds)} s; the first is not counted")
    ratio = statistics.median(by_celery[1:]) / statistics.median(by_local[1:])
    within = [
        within_limit("seconds from images built to all healthy", healthy_s, 120, binding=False),
        within_limit("GiB of memory at rest", rest_gib, 4),
        within_limit("a retrain through Celery, times the local executor's", ratio, 1.5),
    ]
    return all(within)


def _retrains(airflow: AirflowApi) -> list[float]:
    """Seconds from the trigger to the end of the run of each day."""
    return [_timed(airflow, day) for day in DAYS]


def _timed(airflow: AirflowApi, day: str) -> float:
    start = time.monotonic()
    run = airflow.trigger("retrain__churn", as_of=f"{day}T00:00:00Z")
    while (state := airflow.run("retrain__churn", run)["state"]) not in ("success", "failed"):
        time.sleep(0.2)
    if state == "failed":
        raise SystemExit(f"the run of {day} failed")
    return time.monotonic() - start


def _local(folder: Path) -> list[float]:
    """The same with the local executor, as after `make up`."""
    project = make_project(folder, {"churn": model_of_the_server()})
    (project / "warehouse").mkdir()
    (project / "customers").rename(project / "warehouse" / "customers")
    home = project / "home"
    own = {f"PERENNIAL_{name}_PORT": str(free_port()) for name in PORTS}
    with environment({**own, "PERENNIAL_PROJECT": str(project), "PERENNIAL_HOME": str(home)}):
        addresses = control.up(project, home, _silent)
        try:
            airflow = AirflowApi(addresses.airflow, USER, machine_secrets(home)["password"])
            airflow.wait_for_dag("retrain__churn")
            return _retrains(airflow)
        finally:
            control.down(project, home, _silent)


def _silent(_line: str) -> None:
    """Drops the lines of progress."""


def _memory_gib(server: Server) -> float:
    """The memory of all containers of the compose file together, as the engine reports it."""
    names = [c["Name"].lstrip("/") for c in server.containers()]
    lines = server.run(["docker", "stats", "--no-stream", "--format", "{{.MemUsage}}", *names]).stdout.splitlines()
    units: dict[str, Callable[[float], float]] = {
        "GiB": lambda n: n,
        "MiB": lambda n: n / 1024,
        "KiB": lambda n: n / 1024**2,
    }
    total = 0.0
    for used in (line.partition(" ")[0] for line in lines):
        for unit, gib in units.items():
            if used.endswith(unit):
                total += gib(float(used.removesuffix(unit)))
    return total
