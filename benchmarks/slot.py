"""A slot as Docker runs it: megabytes that its image adds to the base, seconds until ready, and memory."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import docker
import psutil

from benchmarks import flights, load, peers
from benchmarks.flights import MODEL, Flights
from benchmarks.limits import within_limit
from pipeline.rollout.engines.base import EngineSettings, EngineUnavailable, SlotSpec
from pipeline.rollout.engines.docker import DockerEngine
from pipeline.rollout.engines.docker_images import LABEL
from pipeline.settings.environment import Environment

STARTS, REQUESTS = 3, 2000


def main() -> bool:
    trained = flights.trained()
    try:
        engine = DockerEngine(EngineSettings(trained.home, Environment.read().project))
    except EngineUnavailable as reason:
        print(f"skipped: {reason}")
        return True
    ready = []
    for _ in range(STARTS):
        with _slot(engine, trained) as (port, container):
            ready.append(_ready_after(port, container))
    with _slot(engine, trained) as (port, container):
        flights.wait_for(f"http://127.0.0.1:{port}/v2/health/ready")
        fresh = _resident(container)
        requests = [load.request("/invocations", peers.records([row])) for row in trained.rows(REQUESTS)]
        answers = load.send(port, requests, REQUESTS, warm=1)
        used, added = _resident(container), _added_bytes(container)
    assert answers.failed == 0, answers.codes
    print(f"image over its base: {added / 1e6:.1f} MB ({added / 2**20:.1f} MiB)")
    print(f"ready after: median {statistics.median(ready):.2f} s of {', '.join(f'{s:.2f}' for s in ready)}")
    print(f"resident: {fresh / 1e6:.1f} MB when ready, {used / 1e6:.1f} MB after {REQUESTS:,} requests")
    within_limit("seconds from a container's start to ready", min(ready), 1.5, binding=False)
    limits = [within_limit("MB that the image adds to its base", added / 1e6, 150)]
    return all([*limits, within_limit(f"MB resident after {REQUESTS:,} requests", used / 1e6, 120)])


@contextmanager
def _slot(engine: DockerEngine, trained: Flights) -> Iterator[tuple[int, Any]]:
    """(port, container) of a slot that was just started."""
    with tempfile.TemporaryDirectory() as log:
        try:
            running = engine.start(SlotSpec(MODEL, "blue", "1", trained.package, Path(log), 1))
            ours = {"label": f"{LABEL}.address={running.address}"}
            (container,) = docker.from_env().containers.list(filters=ours)
            port = urlsplit(running.address).port
            assert port is not None
            yield port, container
        finally:
            engine.stop(MODEL, "blue", 1)


def _ready_after(port: int, container: Any) -> float:
    """Seconds from the start, as the engine reports it, to the first answer that says ready."""
    flights.wait_for(f"http://127.0.0.1:{port}/v2/health/ready", every_s=0.01)
    now = time.time()
    container.reload()
    # Docker reports nanoseconds, Python reads microseconds.
    return now - datetime.fromisoformat(container.attrs["State"]["StartedAt"][:26].rstrip("Z") + "+00:00").timestamp()


def _resident(container: Any) -> int:
    """Bytes of the server's processes, without the init that starts them; what they share counts once."""
    container.reload()
    first = psutil.Process(container.attrs["State"]["Pid"])
    return sum(process.memory_full_info().pss for process in first.children(recursive=True))


def _added_bytes(container: Any) -> int:
    """The size of all layers above the base: the packages, the server and the model."""
    client = docker.from_env()
    layers = client.images.get(container.attrs["Image"])
    base = client.images.get(layers.labels["org.opencontainers.image.base.name"])
    lowest = [image for image in client.images.list() if _layers(base)[: len(_layers(image))] == _layers(image)]
    return layers.attrs["Size"] - min(image.attrs["Size"] for image in lowest)


def _layers(image: Any) -> list[str]:
    return image.attrs["RootFS"]["Layers"]
