"""What `status` says of a model, as the command line, the pages and the deployer's callers have it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from pipeline.data.label_delay import LabelDelay


@dataclass(frozen=True)
class SlotStatus:
    """A slot of the model's route."""

    version: str
    slot: str

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The slot from its part of `ModelStatus.as_dict`."""
        return cls(**{f.name: values[f.name] for f in fields(cls) if f.name in values})


@dataclass(frozen=True)
class LiveStatus(SlotStatus):
    """The live slot: since when (ISO 8601) its version is live by the ledger, whether it answers at the model's address, through
    the router, and else why not and what helps, and whether the ledger confirms the route."""

    since: str | None
    answers: bool
    ledger_agrees: bool
    why_not: str | None = None
    what_helps: str | None = None


@dataclass(frozen=True)
class PredecessorStatus(SlotStatus):
    """The predecessor's slot; `warm` when it still answers."""

    warm: bool


@dataclass(frozen=True)
class CandidateStatus(SlotStatus):
    """The candidate's slot, with `percent` of the traffic, or of copies with `mirror`; `follow` as in the route."""

    percent: int
    mirror: bool
    since: str | None
    answers: bool
    follow: str | None


@dataclass(frozen=True)
class TrafficShare:
    """A version answers `percent` of the traffic since that time."""

    version: str
    percent: int
    since: str | None


@dataclass(frozen=True)
class ModelStatus:
    """What is live of a model. `shares` says who answers how much of the traffic; `problem` why the route cannot be read.

    `baking` is the version in its bake, `holds` the reason for which its step is held, `undo` the command that rolls back. `note`
    says that slots run with other settings than params.yaml has, or that it has no block, and which command helps. `fault` is why
    its block cannot be used: then no run begins, and what is live stays live. `registry` has one line for each thing in MLflow that
    does not agree with the live version. `limits_off` are the `rollout.limits` that are null,
    `evidence` is what the step that is going on needs. `log` says that files of the prediction log are damaged,
    `label_delay_s` how long labels took in the newest snapshot, as pipeline.data.label_delay.LabelDelay has it.
    `scored` tells the newest interval that was scored, `no_verdict` that nobody knows whether the live requests have drifted, and why.
    `frozen` says that it changes at a person's word alone, and why, `burning` which error budgets burn too fast.
    """

    model: str
    description: str
    address: str
    live: LiveStatus | None = None
    previous: PredecessorStatus | None = None
    candidate: CandidateStatus | None = None
    shares: tuple[TrafficShare, ...] = ()
    problem: str | None = None
    undo: str | None = None
    baking: str | None = None
    holds: str | None = None
    note: str | None = None
    fault: str | None = None
    registry: tuple[str, ...] = ()
    limits_off: tuple[str, ...] = ()
    evidence: str | None = None
    log: str | None = None
    label_delay_s: Mapping[str, int | None] | None = None
    scored: str | None = None
    no_verdict: str | None = None
    frozen: str | None = None
    burning: str | None = None

    @property
    def labels(self) -> str | None:
        """How long labels take, for people; None where nothing is known of it."""
        delay = LabelDelay.read(self.label_delay_s)
        return str(delay) if delay is not None else None

    def as_dict(self) -> dict[str, Any]:
        """As JSON takes it: for `status --json`, the pages and the deployer's callers."""
        shares = [asdict(share) for share in self.shares]
        lists = {"shares": shares, "registry": list(self.registry), "limits_off": list(self.limits_off)}
        return {**asdict(self), **lists}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The status that `as_dict` wrote."""
        kinds: dict[str, type[SlotStatus]] = {
            "live": LiveStatus,
            "previous": PredecessorStatus,
            "candidate": CandidateStatus,
        }
        nested = {name: kind.from_dict(values[name]) if values[name] else None for name, kind in kinds.items()}
        shares = tuple(TrafficShare(**share) for share in values["shares"])
        lists = {"shares": shares} | {name: tuple(values[name]) for name in ("registry", "limits_off")}
        return cls(**{f.name: values[f.name] for f in fields(cls)} | nested | lists)
