"""Which engine runs a slot, and every engine that answers here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from pipeline.errors import RolloutError, SettingsError
from pipeline.rollout.engines.base import Engine, EngineSettings, EngineUnavailable
from pipeline.rollout.engines.docker import DockerEngine
from pipeline.rollout.engines.process import ProcessEngine

Name = Literal["auto", "docker", "process"]


class Engines(Protocol):
    """The engines of a machine."""

    def choose(self, name: Name) -> tuple[Engine, str]:
        """(the engine for `rollout.engine`, one line that says why). Raises RolloutError when it is not to be had."""

    def all(self) -> list[Engine]:
        """Every engine that answers; what runs in any of them is ours to find and stop."""


@dataclass(frozen=True)
class LocalEngines:
    """Docker and local processes."""

    settings: EngineSettings

    def choose(self, name: Name) -> tuple[Engine, str]:
        """On a server the router reaches containers only, so docker is demanded there. Raises SettingsError, RolloutError."""
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
                advice = "look at the deployer's log; `make env` again?"
                raise RolloutError("docker engine", str(reason), advice) from reason
            if name == "docker":
                raise RolloutError("docker engine", str(reason), "start it, or set rollout.engine: process") from reason
            return ProcessEngine(self.settings), f"process engine, because {reason}"

    def all(self) -> list[Engine]:
        found: list[Engine] = [ProcessEngine(self.settings)]
        try:
            found.append(DockerEngine(self.settings, prepare=False))
        except EngineUnavailable:
            return found
        return found
