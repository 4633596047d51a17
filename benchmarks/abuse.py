"""Honest requests beside a gigabyte of body, lies about chunks and a thousand slow connections: their p99, with and without.

Both are measured in turn and known by their best round, for what else the machine does makes either slower. Each round is
longer than it takes the bad clients to do all that they do.
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
from benchmarks.limits import kept
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
            calm.append(load.ask(ours.port, requests, REQUESTS))
            with _attack(ours.port, ours.process.pid) as connections:
                attacked.append(load.ask(ours.port, requests, REQUESTS))
        grown = ours.memory_mb - before
        page = httpx.get(f"{ours.url}/metrics").text
    p99 = [min(one.percentile_ms(0.99) for one in rounds) for rounds in (calm, attacked)]
    faults = sum(float(line.split()[-1]) for line in page.splitlines() if 'code="5' in line)
    failed = sum(one.failed for one in (*calm, *attacked))
    print(f"{connections} connections of bad clients; {failed} honest requests failed; memory grew by {grown:.0f} MB")
    print(f"p99 of honest requests: {p99[0]:.2f} ms without them, {p99[1]:.2f} ms with them")
    sound = [kept("honest requests that failed", failed, 0), kept("answers of 500 and above to anybody", faults, 0)]
    return all([*sound, kept("p99 with bad clients, times that without", p99[1] / p99[0], 2)])


@contextmanager
def _attack(port: int, server_pid: int) -> Iterator[int]:
    """Bad clients, once all their connections are there; says how many."""
    bad = subprocess.Popen([sys.executable, "-m", "benchmarks.attack", str(port)], cwd=Environment.read().project)
    try:
        until = time.monotonic() + 30
        while (open_ones := len(psutil.Process(server_pid).net_connections())) < 1000:
            assert time.monotonic() < until, f"only {open_ones} connections are open"
            time.sleep(0.2)
        yield open_ones
    finally:
        bad.terminate()
        bad.wait()
        time.sleep(1)
