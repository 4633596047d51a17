"""Which model, version and slot answer a request."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Identity:
    """What a slot serves; each answer carries it in its headers."""

    model: str
    version: str
    slot: str

    def labels(self) -> dict[str, str]:
        """For metrics and log lines."""
        return {"model": self.model, "version": self.version, "slot": self.slot}

    def headers(self) -> dict[str, str]:
        """For the answers."""
        return {"x-model": self.model, "x-model-version": self.version, "x-slot": self.slot}
