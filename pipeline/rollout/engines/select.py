"""Which engine runs a slot, and every engine that answers here."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pipeline.errors import RolloutError
from pipeline.rollout.engines import docker_network
from pipeline.rollout.engines.base import Engine, EngineUnavailable
from pipeline.rollout.engines.docker import DockerEngine
from pipeline.rollout.engines.process import ProcessEngine


def engine_named(wanted: Literal["auto", "docker", "process"], home: Path, project: Path) -> tuple[Engine, str]:
    """(engine, one line that says why it was chosen). Raises RolloutError when docker is demanded and absent.

    On a server only containers are reached by the router: docker is demanded there.
    """

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

    found: list[Engine] = [ProcessEngine(home, project)]
    try:
        found.append(DockerEngine(home, project, prepare=False))
    except EngineUnavailable:
        return found
    return found
