"""The gain of serving/http_connection.py: the server with it, without one part of it, and with uvicorn's own connection.

Processor seconds of the server for the same small requests over 8 connections; requests a second are printed beside them. The
variants take turns, round after round, and the best round of each counts: other work on the machine can only make one slower.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

from benchmarks import flights, load, peers
from benchmarks.limits import within_limit
from pipeline.settings.net import free_port

ROUNDS, REQUESTS = 4, 6000
OURS, ONE_WRITE, UVICORN = "as it is", "every request through ASGI, answer in one write", "uvicorn's own"
# Code that replaces the connection of `python -m pipeline.serving` before the server starts.
VARIANTS = {
    OURS: "",
    ONE_WRITE: "http_connection.Connection._direct_possible = lambda connection: False",
    UVICORN: "from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol; http_connection.Connection = HttpToolsProtocol",
}
START = "import runpy; from pipeline.serving import http_connection; {}; runpy.run_module('pipeline.serving', run_name='__main__')"


def main() -> bool:
    trained = flights.trained()
    requests = [load.request("/invocations", peers.records([row])) for row in trained.rows(1024)]
    cpu_us: dict[str, float] = dict.fromkeys(VARIANTS, float("inf"))
    rate: dict[str, float] = dict.fromkeys(VARIANTS, 0.0)
    with ExitStack() as stack:
        servers = {name: stack.enter_context(_server(trained.package, code)) for name, code in VARIANTS.items()}
        for _ in range(ROUNDS):
            for name, (port, process) in servers.items():
                before = _processor_s(process)
                answers = load.send(port, requests, REQUESTS, warm=200)
                assert answers.failed == 0, answers.codes
                cpu_us[name] = min(cpu_us[name], (_processor_s(process) - before) / (REQUESTS + 200) * 1e6)
                rate[name] = max(rate[name], answers.rate)
    for name in VARIANTS:
        print(f"{name:48} {cpu_us[name]:6.1f} µs of processor time a request, {rate[name]:6,.0f} requests/s")
    return within_limit(
        "processor time of uvicorn's own connection, times ours", cpu_us[UVICORN] / cpu_us[OURS], 1.2, at_least=True
    )


@contextmanager
def _server(package: Path, code: str) -> Iterator[tuple[int, psutil.Process]]:
    """(port, process) of a server with `code` run before it starts."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", START.format(code or "pass"), "--package", str(package), "--version", "1"]
        command += ["--slot", "blue", "--port", str(port), "--log", str(Path(folder) / "log"), "--drain", "5"]
        process = subprocess.Popen(command)
        try:
            flights.wait_for(f"http://127.0.0.1:{port}/v2/health/ready", lambda: process.poll() is None)
            yield port, psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(20)


def _processor_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system
