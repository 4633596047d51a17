"""What runs slots. Two engines keep this interface: docker, and process for machines without one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pipeline.settings.environment import Environment

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
class EngineSettings:
    """What engines are told of this machine: the project, where state is kept, and on a server the `network` that slots
    share with the router, the `namespace` of this installation's slots, the serving images that are pinned."""

    home: Path
    project: Path
    server_mode: bool = False
    network: str = ""
    namespace: str = ""
    serving_images: str = ""
    base_image: str = ""

    @classmethod
    def of(cls, environment: Environment) -> EngineSettings:
        return cls(
            environment.home,
            environment.project,
            environment.server_mode,
            environment.slot_network if environment.server_mode else "",
            environment.slot_namespace,
            environment.serving_images,
            environment.base_image,
        )


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


# What a server prints last, and what it says there.
DRAINED = re.compile(r"drained: (\d+) requests cut off")


def cut_off(output: str) -> int | None:
    """How many requests a server's last words say were cut off; None when they do not say."""
    found = DRAINED.findall(output)
    return int(found[-1]) if found else None
