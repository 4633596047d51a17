"""The runs of the last weeks and what they cost as a file: the table of the overview, further back."""

from __future__ import annotations

from datetime import UTC, timedelta
from typing import Any

from pipeline.context import Context
from pipeline.ledger import costs
from pipeline.pages.downloads import Table

COLUMNS = ("run", "model", "started_at", "wall_s", "cpu_s", "peak_mb", "cost", "currency")
# Of years of runs a file takes seconds; `perennial costs --json` has all.
DAYS = 31


def table(context: Context) -> Table:
    """Oldest first, at the prices of params.yaml. Raises SettingsError where those are broken."""
    since = (context.clock().astimezone(UTC) - timedelta(days=DAYS)).strftime("%Y-%m-%dT%H:%M:%S")
    prices = context.params.prices
    return Table(COLUMNS, (_row(run) for run in costs.run_costs_in_parts(context.ledger, prices, since)))


def _row(run: costs.RunCosts) -> dict[str, Any]:
    row = run.as_dict()
    return {name: row[name] for name in COLUMNS}
