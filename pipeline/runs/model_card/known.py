"""All that ledger and MLflow say of a version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.context import Context
from pipeline.errors import RegistryError
from pipeline.gates.base import Verdict
from pipeline.ledger.events import (
    KINDS,
    DataLanded,
    DriftChecked,
    Event,
    GatesChecked,
    RunOpened,
    VersionRegistered,
    Watched,
)
from pipeline.ledger.rollout_events import (
    RolledBack,
    RolloutEnded,
    RolloutFailed,
    RolloutStarted,
    ShadowEnded,
    Undeployed,
)
from pipeline.ledger.store import Entry
from pipeline.ledger.timeline import LivePeriod, live_periods, live_version
from pipeline.registry import card_records
from pipeline.registry.card_records import CardRecords

# The kinds of the events of a version that a person was asked about, or that was no longer what was approved.
APPROVALS = ("approval_asked", "approved", "rejected", "deploy_refused")
ROLLOUTS = (RolloutStarted, RolloutEnded, RolloutFailed, RolledBack, ShadowEnded, Undeployed, Watched)
OF_RUNS = (RunOpened, DataLanded, GatesChecked, VersionRegistered, DriftChecked)


@dataclass(frozen=True)
class Known:
    """`block` is the model's block of params.yaml as the version's run had it; `events` are the model's that a card tells of, in their
    order."""

    model: str
    records: CardRecords
    block: Mapping[str, Any]
    events: Sequence[Entry[Event]]
    registered: Entry[VersionRegistered] | None
    opened: Entry[RunOpened] | None
    landed: Entry[DataLanded] | None
    verdicts: Sequence[Verdict]
    live: Sequence[LivePeriod]

    @property
    def version(self) -> str:
        return self.records.version

    def section(self, name: str) -> dict[str, Any]:
        """A section of the block; {} where it has none."""
        value = self.block.get(name)
        return value if isinstance(value, dict) else {}

    @property
    def looks(self) -> list[Entry[DriftChecked]]:
        """The looks for drift while the version was the champion."""
        looks: list[Any] = [e for e in self.events if isinstance(e.event, DriftChecked)]
        return [look for look in looks if look.event.champion == self.version]


def chosen_version(context: Context, model: str, version: str = "") -> str:
    """The version asked for, else the live one, else the newest. Raises RegistryError where there is none."""
    found = version or live_version(context.ledger, model) or card_records.newest(context.registry, model)
    if not found:
        raise RegistryError(f"model {model}", "has no version yet", f"train one: `perennial retrain {model}`")
    return found


def known(context: Context, model: str, version: str) -> Known:
    """Raises RegistryError when there is no such version."""
    records = card_records.read(context.registry, model, version)
    kinds = [*OF_RUNS, *ROLLOUTS, *(KINDS[kind] for kind in APPROVALS if kind in KINDS)]
    events: list[Entry[Event]] = context.ledger.events(*kinds, model=model)
    registered = _last(events, VersionRegistered, lambda e: e.event.version == version)
    run = registered.run if registered else ""
    before = [e for e in events if run and e.run == run and (registered is None or e.seq <= registered.seq)]
    gates = _last(before, GatesChecked)
    verdicts = gates.event.verdicts if gates else records.file("gates.json").get("verdicts", ())
    return Known(
        model,
        records,
        (records.file("params.yaml").get("models") or {}).get(model) or {},
        events,
        registered,
        _last(before, RunOpened),
        _last(before, DataLanded),
        [Verdict.from_dict(verdict) for verdict in verdicts],
        live_periods(context.ledger, model, version),
    )


def _last(events: Sequence[Any], kind: type[Event], fits: Any = lambda entry: True) -> Any:
    return next((e for e in reversed(events) if isinstance(e.event, kind) and fits(e)), None)
