"""A real Traefik for one home, on ports of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

from pipeline.rollout.routing.route_file import routes_folder
from pipeline.services import router_config
from pipeline.settings.net import free_port


class Router:
    """A real Traefik that can be killed and started again."""

    def __init__(self, project: Path, home: Path) -> None:
        port, api_port = free_port(), free_port()
        self.router, self.router_api = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{api_port}"
        self._home = home
        routes_folder(home).mkdir(parents=True, exist_ok=True)
        router_config.write(project, home, port, api_port)
        self.start()

    def kept(self) -> psutil.Process:
        """From now on it runs under the supervisor, as `make up` runs it; returns Traefik's own process."""
        self.process.terminate()
        self.process.wait(60)
        procfile = self._home / "Procfile"
        procfile.write_text(f"router: cd '{self._home}' && exec {' '.join(self._traefik)}\n")
        self.start([sys.executable, "-m", "pipeline.services.supervisor", str(self._home), str(procfile)])
        (traefik,) = psutil.Process(self.process.pid).children()
        return traefik

    @property
    def _traefik(self) -> list[str]:
        return [shutil.which("traefik") or "traefik", f"--configFile={self._home / 'traefik.yaml'}"]

    def start(self, supervisor: list[str] | None = None) -> None:
        command = supervisor or self._traefik
        env = os.environ | router_config.ENVIRONMENT
        self.process = subprocess.Popen(command, cwd=self._home, stdout=subprocess.DEVNULL, env=env)
        until = time.monotonic() + 120
        while not _up(self.router_api):
            assert time.monotonic() < until, "Traefik did not start"
            time.sleep(0.05)


@contextmanager
def router(project: Path, home: Path) -> Iterator[Router]:
    """Runs Traefik; the caller sets $PERENNIAL_ROUTER_URL and $PERENNIAL_ROUTER_API_URL to its addresses."""
    running = Router(project, home)
    try:
        yield running
    finally:
        running.process.terminate()
        running.process.wait(60)


def _up(api: str) -> bool:
    try:
        return httpx.get(f"{api}/ping").status_code == 200
    except httpx.HTTPError:
        return False
