"""The interface of an engine, which runs slots: docker, or process for machines without Docker."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pipeline.gates.image_system import ImageSystem
from pipeline.settings.environment import Environment

SLOTS = ("blue", "green")


@dataclass(frozen=True)
class Running:
    """A slot that was started: the version that it serves, and its URL."""

    model: str
    slot: str
    version: str
    address: str
    engine: str


@dataclass(frozen=True)
class EngineSettings:
    """The settings of the engines: the project, the folder of its state, and on a server the `network` that slots share with
    the router, the `namespace` of this installation's slots, and the pinned serving images."""

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
class SlotSpec:
    """A slot to start: the package of a version, the folder of its prediction log, the seconds that it may drain, the settings
    of its server as JSON (`serving`), its limits (`cpus`, `memory_mb`), and the package's `runtime` (onnx or skops).

    `image` is the digest of the serving image to start from, which the engine has; '' for the one of this installation."""

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
    image: str = ""


class EngineUnavailable(Exception):
    """The engine cannot run slots on this machine; str() is the reason in one line."""


class Engine(Protocol):
    """Starts and stops slots. A slot outlives the process that started it."""

    name: str

    def start(self, spec: SlotSpec) -> Running:
        """Starts a package in an empty slot; does not wait for it. Raises RolloutError."""

    def find(self, model: str, slot: str) -> Running | None:
        """The version that runs in the slot; None when the slot is empty."""

    def stop(self, model: str, slot: str, drain_s: float) -> int | None:
        """Ends the slot when its requests are answered, at most `drain_s` seconds later. Does nothing for an empty slot.

        Returns how many requests were cut off; None when that is not known.
        """

    def output(self, model: str, slot: str) -> str:
        """The last lines that the slot printed, which say why it did not start."""

    def all(self) -> list[Running]:
        """All slots that run for this home."""

    def has_image(self, runtime: str, digest: str) -> bool:
        """Whether a slot can be started from the serving image with that digest, as `serving_recipe.image_digest` gives it."""

    def contents(self, model: str, slot: str) -> ImageSystem | None:
        """What the slot's image has of its distribution; None for a slot without an image, and where an image does not tell."""

    def system(self, runtime: str) -> ImageSystem | None:
        """The same of the image that a slot of this runtime would be started from now; nothing is started. Raises RolloutError."""

    def prune(self, model: str, keep: set[str]) -> None:
        """Removes what makes versions start faster, for all versions but `keep`."""

    def clean_up(self) -> None:
        """Removes what the slots of this home shared, once all of them have ended."""


# A server prints this line last.
DRAINED = re.compile(r"drained: (\d+) requests cut off")


def cut_off(output: str) -> int | None:
    """How many requests were cut off, by the last line that a server printed; None when it does not say."""
    counts = DRAINED.findall(output)
    return int(counts[-1]) if counts else None
