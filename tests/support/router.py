"""A real Traefik for one home, on ports of its own."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from pipeline.rollout.engine import free_port
from pipeline.rollout.route import routes_folder
from pipeline.services.settings import Addresses, write_traefik


@contextmanager
def router(project: Path, home: Path) -> Iterator[Addresses]:
    """Runs Traefik and gives its addresses; the caller sets $PERENNIAL_ROUTER_URL and $PERENNIAL_ROUTER_API_URL to them."""
    at = Addresses("", "", f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}")
    routes_folder(home).mkdir(parents=True, exist_ok=True)
    ports = {"router": at.router, "router_api": at.router_api}
    config = home / "traefik.yaml"
    fixed = Addresses("http://127.0.0.1:1", "http://127.0.0.1:2", **ports)
    write_traefik(project, home, fixed)
    process = subprocess.Popen(
        [shutil.which("traefik") or "traefik", f"--configFile={config}"], cwd=home, stdout=subprocess.DEVNULL
    )
    try:
        until = time.monotonic() + 20
        while not _up(at.router_api):
            assert time.monotonic() < until, "Traefik did not start"
            time.sleep(0.05)
        yield at
    finally:
        process.terminate()
        process.wait(10)


def _up(api: str) -> bool:
    try:
        return httpx.get(f"{api}/ping").status_code == 200
    except httpx.HTTPError:
        return False
