"""All deployments as a file: the table of the overview."""

from __future__ import annotations

from typing import Any

from pipeline.context import Context
from pipeline.ledger.in_parts import in_parts
from pipeline.ledger.rollout_events import RolledBack, RolloutEnded, RolloutFailed, ShadowEnded, Undeployed
from pipeline.ledger.store import EVENTS, Entry
from pipeline.pages.downloads import Table

COLUMNS = ("at", "model", "kind", "version", "before", "what", "run", "slot", "engine", "ready_s", "switch_s")


def table(context: Context) -> Table:
    """Oldest first; seconds are those from a slot's start until it was ready, and of the move of the route."""
    kinds = (RolloutEnded, RolledBack, RolloutFailed, ShadowEnded, Undeployed)
    entries = in_parts(context.ledger, EVENTS.c.kind.in_([kind.KIND for kind in kinds]))
    return Table(COLUMNS, (_row(entry) for entry in entries))


def _row(entry: Entry[Any]) -> dict[str, Any]:
    return {
        **{name: entry.body.get(name) for name in COLUMNS},
        "at": entry.at,
        "model": entry.model,
        "kind": entry.kind,
        "before": entry.body.get("previous") or entry.body.get("left"),
        "what": entry.event.sentence(),
        "run": entry.run,
    }
