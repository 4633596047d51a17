"""Results of a rollout and of a rollback, for the command line, Airflow and the deployer's callers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Self


@dataclass(frozen=True)
class Result:
    """A result crosses processes as JSON: `as_dict` on one side, `from_dict` on the other."""

    def as_dict(self) -> dict[str, Any]:
        """The fields that are not None."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The result that `as_dict` wrote; fields of a newer version are ignored."""
        known = {f.name for f in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})


@dataclass(frozen=True)
class Deployment(Result):
    """The version has all traffic.

    Seconds: `ready_s` from the slot's start until it was ready, `switch_s` for the last move of the route, `to_traffic_s` from the
    start of the rollout to the end of that move. `already_live`: there was nothing to move. `changed`: which slots were started
    again with changed settings, one line each.
    """

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
    changed: Sequence[str] | None = None

    def as_dict(self) -> dict[str, Any]:
        # null says that a first version has no predecessor.
        return super().as_dict() | ({} if self.already_live else {"previous": self.previous})


@dataclass(frozen=True)
class ShadowResult(Result):
    """The route is as it was before the shadow; the verdict on the version is promote, abort or hold."""

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
    """Version `version` has all traffic in place of `left`.

    `warm`: its slot was still ready. `called_back`: a rollout that was going on gave the traffic back. `already`: another
    rollback had left `left` before, so that nothing moved.
    """

    version: str
    slot: str
    left: str
    switch_s: float
    reason: str | None = None
    warm: bool | None = None
    called_back: bool | None = None
    already: bool | None = None


@dataclass(frozen=True)
class Undeployment(Result):
    """Nothing of the model gets traffic any more. `version` was live, '' for none; `ended` are its slots, as SLOT: VERSION."""

    version: str
    ended: Sequence[str] = ()
    reason: str | None = None


def deploy_result(values: Mapping[str, Any]) -> Deployment | ShadowResult:
    """The result of a deploy from what `as_dict` gave."""
    return (ShadowResult if values.get("strategy") == "shadow" else Deployment).from_dict(values)
