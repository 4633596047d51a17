"""What runs slots. Two engines keep this interface: docker, and process for machines without one."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from pipeline.errors import RolloutError

SLOTS = ("blue", "green")


@dataclass(frozen=True)
class Running:
    """A slot that was started: what it serves, and where it answers."""

    model: str
    slot: str
    version: str
    address: str
    engine: str


@dataclass(frozen=True)
class Wanted:
    """A slot to start: the package of a version, where it logs its predictions, how long it may drain, and what its
    server is told (`serving`), given (`cpus`, `memory_mb`) and made of (`runtime`: onnx or skops)."""

    model: str
    slot: str
    version: str
    package: Path
    log: Path
    drain_s: float
    code_revision: str = ""
    serving: str = "{}"
    cpus: float = 1.0
    memory_mb: int = 512
    runtime: str = "onnx"


class EngineUnavailable(Exception):
    """This engine cannot run slots here; str() is the reason in one line."""


class Engine(Protocol):
    """Starts and stops slots. A slot outlives the process that started it."""

    name: str

    def start(self, wanted: Wanted) -> Running:
        """Starts a package in an empty slot; does not wait for it. Raises RolloutError."""

    def find(self, model: str, slot: str) -> Running | None:
        """What runs in the slot now, or None."""

    def stop(self, model: str, slot: str, drain_s: float) -> int | None:
        """Ends the slot once it has finished what it has, at most `drain_s` later; an empty slot is left alone.

        Returns how many requests were cut off, None when the slot could not say.
        """

    def output(self, model: str, slot: str) -> str:
        """The last lines the slot printed, for a person who asks why it did not start."""

    def all(self) -> list[Running]:
        """Every slot that runs for this home."""

    def prune(self, model: str, keep: set[str]) -> None:
        """Removes what was kept to start versions other than `keep` faster."""

    def leave(self) -> None:
        """Removes what is there for slots of this home, once all of them have ended."""


def engine_named(wanted: Literal["auto", "docker", "process"], home: Path, project: Path) -> tuple[Engine, str]:
    """(engine, one line that says why it was chosen). Raises RolloutError when docker is demanded and absent.

    On a server only containers are reached by the router: docker is demanded there.
    """
    from pipeline.rollout.engines import docker_network
    from pipeline.rollout.engines.docker import DockerEngine
    from pipeline.rollout.engines.process import ProcessEngine

    if wanted == "process" and not docker_network.shared_network():
        return ProcessEngine(home, project), "process engine, as params.yaml says"
    try:
        engine = DockerEngine(home, project)
        return engine, f"docker engine {engine.server_version}"
    except EngineUnavailable as reason:
        if docker_network.shared_network():
            raise RolloutError(
                "docker engine", str(reason), "look at the deployer's log; `make env` again?"
            ) from reason
        if wanted == "docker":
            raise RolloutError("docker engine", str(reason), "start it, or set rollout.engine: process") from reason
        return ProcessEngine(home, project), f"process engine, because {reason}"


def engines(home: Path, project: Path) -> list[Engine]:
    """Every engine that answers here; what runs in any of them is ours to find and stop."""
    from pipeline.rollout.engines.docker import DockerEngine
    from pipeline.rollout.engines.process import ProcessEngine

    found: list[Engine] = [ProcessEngine(home, project)]
    try:
        found.append(DockerEngine(home, project, prepare=False))
    except EngineUnavailable:
        return found
    return found


# What a server prints last, and what it says there.
DRAINED = re.compile(r"drained: (\d+) requests cut off")


def cut_off(output: str) -> int | None:
    """How many requests a server's last words say were cut off; None when they do not say."""
    found = DRAINED.findall(output)
    return int(found[-1]) if found else None


def free_port() -> int:
    """A port of the loopback address that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
