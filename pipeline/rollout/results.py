"""What came of a rollout or a rollback, for the command line, Airflow and the deployer's callers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Self


@dataclass(frozen=True)
class Result:
    """Crosses processes as JSON: `as_dict` on one side, `from_dict` on the other."""

    def as_dict(self) -> dict[str, Any]:
        """Its fields; what does not apply is left out."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        known = {f.name for f in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})


@dataclass(frozen=True)
class Deployment(Result):
    """The version has all traffic. `ready_s` from start to golden requests, `switch_s` the last move of the route,
    `to_traffic_s` from the start of the rollout to that move's end. `already_live` when there was nothing to do."""

    version: str
    slot: str
    switch_s: float
    engine: str | None = None
    engine_reason: str | None = None
    strategy: str | None = None
    reason: str | None = None
    previous: str | None = None
    ready_s: float | None = None
    to_traffic_s: float | None = None
    already_live: bool | None = None

    def as_dict(self) -> dict[str, Any]:
        # A first version says that it has no predecessor.
        return super().as_dict() | ({} if self.already_live else {"previous": self.previous})


@dataclass(frozen=True)
class ShadowResult(Result):
    """A shadow ended as it began, with a verdict on the version: promote, abort or hold."""

    version: str
    slot: str
    engine: str
    engine_reason: str
    champion: str
    verdict: str
    reason: str
    looks: Sequence[Mapping[str, Any]] = ()
    strategy: str = "shadow"


@dataclass(frozen=True)
class Rollback(Result):
    """Version `version` has all traffic in place of `left`. `warm` when it had been kept ready; `called_back` when a rollout
    that was going on gave the traffic back; `already` when another had left `left` before, so that nothing moved."""

    version: str
    slot: str
    left: str
    switch_s: float
    reason: str | None = None
    warm: bool | None = None
    called_back: bool | None = None
    already: bool | None = None


def deploy_result(values: Mapping[str, Any]) -> Deployment | ShadowResult:
    """The result of a deploy from its dict."""
    return (ShadowResult if values.get("strategy") == "shadow" else Deployment).from_dict(values)
