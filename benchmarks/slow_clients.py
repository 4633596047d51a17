"""The p99 of honest requests with and without bad clients: bodies of a gigabyte, false chunks, a thousand slow connections.

Both are measured in turn, and the best round of each counts, because other work on the machine makes either slower. Each round
takes longer than the bad clients need for everything that they do.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

from benchmarks import flights, load, peers
from benchmarks.limits import within_limit
from harness.slot_server import server
from pipeline.settings.environment import Environment

ROUNDS, REQUESTS = 5, 12_000


def main() -> bool:
    trained = flights.trained()
    requests = [load.request("/invocations", peers.records([row])) for row in trained.rows(1024)]
    calm, attacked = [], []
    with tempfile.TemporaryDirectory() as folder, server(trained.package, Path(folder), version="1") as ours:
        before = ours.memory_mb
        for _ in range(ROUNDS):
            calm.append(load.send(ours.port, requests, REQUESTS))
            with _attack(ours.port, ours.process.pid) as connections:
                attacked.append(load.send(ours.port, requests, REQUESTS))
        grown = ours.memory_mb - before
        page = httpx.get(f"{ours.url}/metrics").text
    p99 = [min(round_.percentile_ms(0.99) for round_ in rounds) for rounds in (calm, attacked)]
    faults = sum(float(line.split()[-1]) for line in page.splitlines() if 'code="5' in line)
    failed = sum(round_.failed for round_ in (*calm, *attacked))
    print(f"{connections} connections of bad clients; {failed} honest requests failed; memory grew by {grown:.0f} MB")
    print(f"p99 of honest requests: {p99[0]:.2f} ms without them, {p99[1]:.2f} ms with them")
    sound = [
        within_limit("honest requests that failed", failed, 0),
        within_limit("answers of 500 and above to anybody", faults, 0),
    ]
    return all([*sound, within_limit("p99 with bad clients, times that without", p99[1] / p99[0], 2)])


@contextmanager
def _attack(port: int, server_pid: int) -> Iterator[int]:
    """Runs the bad clients; yields the number of their connections once all are open."""
    bad = subprocess.Popen([sys.executable, "-m", "benchmarks.attack", str(port)], cwd=Environment.read().project)
    try:
        until = time.monotonic() + 30
        while (connections := len(psutil.Process(server_pid).net_connections())) < 1000:
            assert time.monotonic() < until, f"only {connections} connections are open"
            time.sleep(0.2)
        yield connections
    finally:
        bad.terminate()
        bad.wait()
        time.sleep(1)
