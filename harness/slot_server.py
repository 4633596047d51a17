"""The prediction server as a process of its own."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from pipeline.rollout.engines import slot_settings
from pipeline.serving.settings import VARIABLE, Settings
from pipeline.settings.net import free_port


@dataclass
class Server:
    """A server that answers at `url`; `log` is the folder of its prediction log."""

    process: subprocess.Popen
    port: int
    log: Path
    output_file: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def memory_mb(self) -> float:
        """Resident memory of all its processes."""
        whole = psutil.Process(self.process.pid)
        return sum(p.memory_info().rss for p in (whole, *whole.children())) / 2**20

    def output(self) -> str:
        return self.output_file.read_text()

    def ask(self, rows: list[dict], **more) -> httpx.Response:
        return httpx.post(f"{self.url}/invocations", json={"dataframe_records": rows}, **more)


@contextmanager
def server(
    package: Path, folder: Path, settings: Settings | None = None, *, version: str = "3", file_bytes: int | None = None
) -> Iterator[Server]:
    """Yields the server of a package once it is ready. It can write no file larger than `file_bytes`."""
    port, log, output_file = free_port(), folder / "log", folder / "output"
    settings_file = folder / "settings"
    slot_settings.write(settings_file, (settings or Settings()).as_json())
    command = [sys.executable, "-m", "pipeline.serving", "--package", str(package), "--version", version]
    command += ["--slot", "blue", "--port", str(port), "--log", str(log), "--drain", "5"]

    def limit() -> None:
        if file_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))

    with output_file.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            env=os.environ | {VARIABLE: str(settings_file)},
            preexec_fn=limit,
        )
    started = Server(process, port, log, output_file)
    try:
        _wait_ready(started)
        yield started
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(60)


def _wait_ready(started: Server) -> None:
    until = time.monotonic() + 120
    while True:
        try:
            if httpx.get(f"{started.url}/v2/health/ready").status_code == 200:
                return
        except httpx.HTTPError:
            assert started.process.poll() is None, started.output()
            assert time.monotonic() < until, started.output()
        time.sleep(0.05)
