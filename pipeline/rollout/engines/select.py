"""Selects the engine of a new slot, and lists every engine that answers on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from pipeline.errors import RolloutError, SettingsError
from pipeline.rollout.engines.base import Engine, EngineSettings, EngineUnavailable
from pipeline.rollout.engines.docker import DockerEngine
from pipeline.rollout.engines.process import ProcessEngine
from pipeline.settings.rollout import EngineName


class Engines(Protocol):
    """The engines of a machine."""

    def choose(self, name: EngineName) -> tuple[Engine, str]:
        """(the engine for `rollout.engine`, the reason in one line). Raises RolloutError when it is not available."""

    def all(self) -> list[Engine]:
        """Every engine that answers; slots may run in any of them."""


@dataclass(frozen=True)
class LocalEngines:
    """Docker and local processes."""

    settings: EngineSettings

    def choose(self, name: EngineName) -> tuple[Engine, str]:
        """As `Engines.choose`; on a server always docker, because the router reaches only containers. Raises SettingsError too."""
        server = self.settings.server_mode
        if server and not self.settings.network:
            advice = "name the network that slots share with the router, as docker-compose.yaml does"
            raise SettingsError("PERENNIAL_SLOT_NETWORK", "is empty on a server", advice)
        if name == "process" and not server:
            return ProcessEngine(self.settings), "process engine, as params.yaml says"
        try:
            engine = DockerEngine(self.settings)
            return engine, f"docker engine {engine.server_version}"
        except EngineUnavailable as reason:
            if server:
                advice = "look at the deployer's log, and run `make env` again when an image is missing"
                raise RolloutError("docker engine", str(reason), advice) from reason
            if name == "docker":
                raise RolloutError("docker engine", str(reason), "start it, or set rollout.engine: process") from reason
            return ProcessEngine(self.settings), f"process engine, because {reason}"

    def all(self) -> list[Engine]:
        engines: list[Engine] = [ProcessEngine(self.settings)]
        try:
            engines.append(DockerEngine(self.settings, prepare=False))
        except EngineUnavailable:
            return engines
        return engines
