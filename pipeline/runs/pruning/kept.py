"""Which versions of a model are kept, each with its reason: all others may be pruned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from pipeline.context import Context
from pipeline.ledger.events import VersionRegistered
from pipeline.ledger.prune_events import Pruned
from pipeline.ledger.store import Entry
from pipeline.ledger.timeline import live_at, trusted_predecessor
from pipeline.registry import pruning
from pipeline.runs.window_losses import kept_versions
from pipeline.settings.keep import Keep
from pipeline.settings.models import time_of


@dataclass(frozen=True)
class Versions:
    """A model's versions by number, the oldest first: `kept` has the reason of each that stays; `gone` were pruned before. `entries` has
    each that was registered, also one whose number came again."""

    registered: Mapping[str, VersionRegistered]
    kept: Mapping[str, str]
    gone: frozenset[str]
    entries: Sequence[Entry[VersionRegistered]] = ()

    @property
    def mlflow_runs(self) -> set[str]:
        """The ids of MLflow's runs that made one."""
        return {entry.event.mlflow_run for entry in self.entries}

    @cached_property
    def removable(self) -> dict[str, VersionRegistered]:
        return {
            number: event
            for number, event in self.registered.items()
            if number not in self.kept and number not in self.gone
        }


def versions_of(context: Context, model: str, keep: Keep) -> Versions:
    """The versions of a model and which of them stay. Raises RegistryError when MLflow, which has the aliases, does not answer."""
    entries = context.ledger.events(VersionRegistered, model=model)
    newest = {entry.event.version: entry for entry in entries}
    pruned = context.ledger.events(Pruned, model=model)
    # A number may come again, in a new registry.
    gone = {v for entry in pruned for v in entry.event.versions if v in newest and newest[v].seq < entry.seq}
    kept = _kept(context, model, keep, [e for e in newest.values() if e.event.version not in gone])
    return Versions({number: entry.event for number, entry in newest.items()}, kept, frozenset(gone), entries)


def _kept(context: Context, model: str, keep: Keep, entries: list[Entry[VersionRegistered]]) -> dict[str, str]:
    if keep.versions is None:
        return {entry.event.version: "keep.versions is not set" for entry in entries}
    kept: dict[str, str] = {}
    after = context.clock() - timedelta(days=keep.versions_days)
    for entry in entries:
        if at_of(entry) > after:
            kept[entry.event.version] = f"younger than {keep.versions_days:g} days (keep.versions_days)"
    for entry in sorted(entries, key=lambda e: e.seq)[-keep.versions :]:
        kept[entry.event.version] = f"one of the newest {keep.versions} (keep.versions)"
    for number, alias in pruning.named_versions(context.registry, model).items():
        kept[number] = f"has the alias {alias} in MLflow"
    if (live := live_at(context.ledger, model)) is not None:
        for package in kept_versions(context.ledger, model, live):
            kept[package.package.version] = "was live, and may be gone back to"
        if predecessor := trusted_predecessor(context.ledger, model, live.package):
            kept[predecessor.version] = "is the predecessor"
        kept[live.version] = "is live"
    return kept


def at_of(entry: Any) -> datetime:
    """When an event was written, in UTC; of its entry or its row."""
    return time_of(entry.at.replace("Z", "+00:00"))
