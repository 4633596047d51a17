"""All deployments as a file: the table of the overview."""

from __future__ import annotations

from pipeline.context import Context
from pipeline.ledger.rollout_events import RolledBack, RolloutEnded, RolloutFailed, ShadowEnded, Undeployed
from pipeline.pages.downloads import Table

COLUMNS = ("at", "model", "kind", "version", "before", "what", "run", "slot", "engine", "ready_s", "switch_s")


def table(context: Context) -> Table:
    """Oldest first; seconds are those from a slot's start until it was ready, and of the move of the route."""
    entries = context.ledger.events(RolloutEnded, RolledBack, RolloutFailed, ShadowEnded, Undeployed)
    rows = [
        {
            **{name: entry.body.get(name) for name in COLUMNS},
            "at": entry.at,
            "model": entry.model,
            "kind": entry.kind,
            "before": entry.body.get("previous") or entry.body.get("left"),
            "what": entry.event.sentence(),
            "run": entry.run,
        }
        for entry in entries
    ]
    return Table(COLUMNS, rows)
