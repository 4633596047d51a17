"""What the server's story starts from: versions that went live through Airflow, and workers that take steps of some queues only."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from demo.replay import Tally
from harness.compose import Server
from harness.load import steady_load
from harness.project import bodies


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
    return Retrained(tasks, (one, two), server.live())


@pytest.fixture(scope="module")
def second_release(server: Server, first_release: Retrained) -> Retrained:
    """Version 2, live after a retrain under load, with requests like the customers that it learnt from."""
    with steady_load(server.address, bodies(), pace=100) as tally:
        tasks = server.finish(server.retrain("2024-02-25T00:00:00Z"))
    return Retrained(tasks, tuple(server.workers), server.live(), tally)


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
