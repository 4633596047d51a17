"""One row a request on 8 connections: a slot's server against `mlflow models serve`, the same model and rows.

Both are trained and registered here as a user would, then asked the same requests.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from demo.replay import Replay, Tally
from pipeline import registry, runs
from pipeline.params import load, project_root
from pipeline.rollout.engine import free_port

MODEL, CONNECTIONS = "flight-delay", 8
OURS, THEIRS = 8000, 800


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        os.environ |= {"PERENNIAL_HOME": folder, "PERENNIAL_PROJECT": str(project_root())}
        as_of = load(project_root()).model(MODEL).as_of
        runs.retrain(runs.Setup.here(), "bench", MODEL, as_of, "a benchmark", False, lambda _step: None)
        package = registry.package_folder(home, MODEL, "1")
        rows = json.loads((package / "golden.json").read_text())["request"]["dataframe_records"]
        ours, theirs = free_port(), free_port()
        slot = [sys.executable, "-m", "pipeline.serving", "--package", str(package), "--version", "1", "--slot", "blue"]
        peer = [sys.executable, "-m", "mlflow", "models", "serve", "-m", f"models:/{MODEL}/1", "--env-manager", "local"]
        with _served([*slot, "--port", str(ours)], ours, "/v2/health/ready"):
            fast = _asked(ours, rows, OURS)
        env = {"MLFLOW_TRACKING_URI": registry.tracking_uri(home), "MLFLOW_DISABLE_TELEMETRY": "true"}
        with _served([*peer, "--port", str(theirs), "--host", "127.0.0.1"], theirs, "/ping", env):
            slow = _asked(theirs, rows, THEIRS)
    for name, tally in (("perennial", fast), ("mlflow models serve", slow)):
        print(
            f"{name:20} {_rate(tally):8.0f} requests/s   p99 {tally.percentile_ms(0.99):7.1f} ms   {tally.failed} failed"
        )
    p99 = slow.percentile_ms(0.99) / fast.percentile_ms(0.99)
    print(f"ratio: {_rate(fast) / _rate(slow):.0f} times the requests a second, p99 {p99:.0f} times shorter")


def _asked(port: int, rows: list[dict], count: int) -> Tally:
    bodies = [json.dumps({"dataframe_records": [row]}).encode() for row in rows]
    warm = Replay(f"http://127.0.0.1:{port}", CONNECTIONS)
    warm.play(itertools.islice(itertools.cycle(bodies), 50))
    replay = Replay(f"http://127.0.0.1:{port}", CONNECTIONS)
    return replay.play(itertools.islice(itertools.cycle(bodies), count))


def _rate(tally: Tally) -> float:
    """Requests a second over all connections, by the time that answers took."""
    return CONNECTIONS * len(tally.seconds) / sum(tally.seconds)


@contextmanager
def _served(command: list[str], port: int, ready: str, env: dict[str, str] | None = None) -> Iterator[None]:
    process = subprocess.Popen(
        command, env=os.environ | (env or {}), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        until = time.monotonic() + 120
        while not _answers(f"http://127.0.0.1:{port}{ready}"):
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"benchmark: {' '.join(command[1:5])} did not start")
            time.sleep(0.2)
        yield
    finally:
        process.terminate()
        process.wait(20)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.HTTPError:
        return False
