"""Who answers a request."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Identity:
    """Who answers."""

    model: str
    version: str
    slot: str

    def headers(self) -> dict[str, str]:
        return {"x-model": self.model, "x-model-version": self.version, "x-slot": self.slot}
