"""What the server's story starts from: versions that went live through Airflow, and workers that take steps of some queues only."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from demo.replay import Tally
from harness.compose import Server
from harness.load import steady_load
from harness.project import bodies
from pipeline.reliability import grafana, prometheus
from pipeline.settings.slo import Slo


@dataclass(frozen=True)
class Retrained:
    """A retrain through Airflow: its tasks by name with the run's state under '', and the load meanwhile."""

    tasks: dict[str, dict[str, Any]]
    workers: tuple[str, ...]
    live: tuple[str | None, str | None]
    load: Tally | None = None


@pytest.fixture(scope="module")
def first_release(server: Server) -> Retrained:
    """Version 1, live after a retrain with a worker to each queue, and every second step in the other queue."""
    one, two = server.workers
    with only(server, one, "default"), only(server, two, "other"):
        tasks = server.finish(server.retrain("2024-02-20T00:00:00Z"))
    return Retrained(tasks, (one, two), live_at_last(server, "1"))


@pytest.fixture(scope="module")
def second_release(server: Server, first_release: Retrained) -> Retrained:
    """Version 2, live after a retrain under load, with requests like the customers that it learnt from."""
    with steady_load(server.address, bodies(), pace=100) as tally:
        tasks = server.finish(server.retrain("2024-02-25T00:00:00Z"))
        live = live_at_last(server, "2")
    return Retrained(tasks, tuple(server.workers), live, tally)


class only:
    """While it is entered, a worker takes steps from these queues and no other."""

    def __init__(self, server: Server, worker: str, *queues: str) -> None:
        self._server, self._worker = server, worker
        self._not = [queue for queue in ("default", "other") if queue not in queues]

    def __enter__(self) -> None:
        self._tell("cancel_consumer")

    def __exit__(self, *_: object) -> None:
        self._tell("add_consumer")

    def _tell(self, what: str) -> None:
        def tell(queue: str) -> None:
            command = f'celery -b "$AIRFLOW__CELERY__BROKER_URL" control -d celery@{self._worker} {what} {queue}'
            self._server.run(["docker", "exec", self._worker, "sh", "-c", command])

        with ThreadPoolExecutor() as all_of_them:
            list(all_of_them.map(tell, self._not))


def ask_for_service_levels(server: Server, url: str) -> None:
    """Has promtool check the rules of objectives, and asks the Prometheus at `url` for each expression of their dashboard."""
    slo = Slo(p95_ms=1000, p99_ms=40)
    into = ["docker", "exec", "-i", server.container("prometheus")["Id"]]
    server.run([*into, "promtool", "check", "rules", "/dev/stdin"], input=prometheus.rules({"churn": slo}))
    panels = json.loads(grafana.dashboard({"churn": slo}))["panels"]
    drawn = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    answers = {expr: httpx.get(f"{url}/query", params={"query": expr}).json() for expr in drawn}
    assert [len(answer["data"]["result"]) for answer in answers.values()] == [1] * len(drawn), answers


def are_kept_and_told(server: Server) -> None:
    """The deployer's checks and counts are told on a worker; what slots took and where bytes lie is in the ledger."""
    (told,) = server.ask("slo", "churn")["models"]
    assert told["checks"] >= 3 and told["up"] > 0 and told["requests"] > 500 and told["p95_ms"] > 0, told
    used, until = server.events("slot_used"), time.monotonic() + 90
    assert used and all(each["covered_s"] > 0 for each in used) and sum(each["busy_s"] for each in used) > 0, used
    while not (stored := server.events("bytes_stored")) and time.monotonic() < until:
        time.sleep(1)
    assert stored and stored[0]["places"]["the ledger"] > 0, stored


def has_landed_beside_the_training(server: Server, retrained: Retrained) -> None:
    """A mapped task counted each day that version 2 learnt from, and the stage took all of them."""
    assert server.airflow is not None
    counted, evaluated = retrained.tasks["profile_landed"], retrained.tasks["evaluate"]
    assert counted["map_index"] == 0 and counted["rendered_map_index"].startswith("1 of 1: "), counted
    of_run = ("retrain__churn", evaluated["dag_run_id"], "evaluate", evaluated["try_number"])
    said = server.airflow.log(*of_run)
    days = len(server.events("landed_profiled")[-1]["partitions"])
    assert f"; {days} days were counted beside the training" in said, said
    checked = server.events("gates_checked")[-1]["quarantined_a_day"]
    assert days == len(checked) > 20


def version_of(server: Server) -> str | None:
    return server.live()[0]


def live_at_last(server: Server, version: str, limit_s: float = 60) -> tuple[str | None, str | None]:
    """(version, slot) that answer. One that missed a health check on a busy machine is covered by its predecessor until the router's
    next look: so it is asked again for a while, until it is that version."""
    until = time.monotonic() + limit_s
    while (live := server.live())[0] != version and time.monotonic() < until:
        time.sleep(0.2)
    return live


def wait_until_live(server: Server, version: str, limit_s: float = 600) -> None:
    until = time.monotonic() + limit_s
    while version_of(server) != version:
        assert time.monotonic() < until, server.live()
        time.sleep(0.5)
