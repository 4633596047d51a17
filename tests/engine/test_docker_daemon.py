"""The Docker daemon is restarted under a live model: its slots go on, and what is live stays live."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import pytest

from harness.load import steady_load
from harness.project import BODY
from harness.router import router
from pipeline.rollout import deploy
from pipeline.rollout.engines.base import EngineSettings, EngineUnavailable
from pipeline.rollout.engines.docker import DockerEngine
from pipeline.rollout.engines.docker_images import LOCAL_BASE
from tests.support import docker_daemon
from tests.support.endpoint import LIMIT_S, Endpoint, agreed
from tests.support.required import skip_or_fail


@pytest.fixture
def restartable(trained, monkeypatch, tmp_path):
    """(a endpoint whose slots are containers of a daemon of its own, that daemon)."""
    monkeypatch.chdir(trained)
    monkeypatch.setenv("PERENNIAL_HOME", str(trained / "home"))
    monkeypatch.setenv("PERENNIAL_PROJECT", str(trained))
    monkeypatch.setenv("PERENNIAL_LEDGER_URL", f"sqlite:///{tmp_path}/ledger.db")
    try:
        serving = DockerEngine(EngineSettings(trained / "home", trained)).images.serving_base("onnx")
    except EngineUnavailable as reason:
        skip_or_fail("docker", str(reason))
    if gone := docker_daemon.missing():
        skip_or_fail("docker", gone)
    settings = (trained / "params.yaml").read_text()
    with docker_daemon.daemon() as daemon:
        daemon.take_images(LOCAL_BASE, serving)
        monkeypatch.setenv("DOCKER_HOST", daemon.url)
        with router(trained, trained / "home") as at:
            monkeypatch.setenv("PERENNIAL_ROUTER_URL", at.router)
            monkeypatch.setenv("PERENNIAL_ROUTER_API_URL", at.router_api)
            endpoint = Endpoint(trained, at)
            endpoint.set(engine="docker")
            yield endpoint, daemon
            deploy.stop_all(endpoint.engines, 1)
            (trained / "params.yaml").write_text(settings)
            for path in (endpoint.home / "routes").glob("*.yaml"):
                path.unlink()


def test_a_restarted_daemon_changes_nothing_that_is_live(restartable):
    """Slots survive a restart of the Docker daemon, and the next deployment works."""
    endpoint, daemon = restartable
    endpoint.deploy("1")
    endpoint.deploy("2")
    with steady_load(endpoint.address, BODY, pace=50) as tally:
        time.sleep(1)
        daemon.stop()
        daemon.start()
        until = time.monotonic() + LIMIT_S
        while httpx.post(f"{endpoint.address}/invocations", content=BODY).status_code != 200:
            assert time.monotonic() < until
        endpoint.reconcile()
        assert agreed(endpoint) == "2"
    assert Path("/sys/class/net/docker0").exists(), "the other engine's bridge is gone"
    print(f"{tally.sent} requests, {tally.failed} failed while the daemon was away")
    assert endpoint.deploy("3").previous == "2"
