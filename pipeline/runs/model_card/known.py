"""All that ledger and MLflow say of a version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

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
from pipeline.ledger.store import EVENTS, Entry, Ledger
from pipeline.ledger.timeline import LivePeriod, live_periods, live_version
from pipeline.registry import card_records
from pipeline.registry.card_records import CardRecords

# The kinds of the events of a version that a person was asked about, or that was no longer what was approved.
APPROVALS = ("approval_asked", "approved", "rejected", "deploy_refused")
ROLLOUTS = (RolloutStarted, RolloutEnded, RolloutFailed, RolledBack, ShadowEnded, Undeployed, Watched)
OF_RUNS = (RunOpened, DataLanded, GatesChecked, VersionRegistered, DriftChecked)


@dataclass(frozen=True)
class Known:
    """`block` is the model's block of params.yaml as the version's run had it; `events` are the model's that name the version, in their
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
    with context.ledger.reading():
        events = _naming(context.ledger, model, version)
    registered = _last(events, VersionRegistered, lambda e: e.event.version == version)
    of_run = context.ledger.events(*OF_RUNS, model=model, run=registered.run) if registered and registered.run else []
    before = [e for e in of_run if e.seq <= registered.seq]
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


def _naming(ledger: Ledger, model: str, version: str) -> list[Entry[Event]]:
    """The model's events that have the version's number as a text, in their order: of years most are of other versions, and the database
    leaves them out. By the index of kinds, one after the other."""
    named = EVENTS.c.body.contains(f'"{version}"', autoescape=True)
    kinds = [VersionRegistered.KIND, DriftChecked.KIND, *(kind.KIND for kind in ROLLOUTS), *APPROVALS]
    of_kind = (EVENTS.c.kind == kind for kind in dict.fromkeys(kinds) if kind in KINDS)
    rows = [r for of in of_kind for r in ledger.rows(sa.select(EVENTS).where(of, EVENTS.c.model == model, named))]
    found = [Entry[Event](r.seq, r.at, r.model, r.run, r.step, r.kind, r.body, r.hash) for r in rows]
    return sorted(found, key=lambda entry: entry.seq)


def _last(events: Sequence[Any], kind: type[Event], fits: Any = lambda entry: True) -> Any:
    return next((e for e in reversed(events) if isinstance(e.event, kind) and fits(e)), None)
