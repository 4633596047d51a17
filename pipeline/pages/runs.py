"""The runs of the last weeks and what they cost as a file: the table of the overview, further back."""

from __future__ import annotations

from datetime import UTC, timedelta

from pipeline.context import Context
from pipeline.ledger import costs
from pipeline.pages.downloads import Table

COLUMNS = ("run", "model", "started_at", "wall_s", "cpu_s", "peak_mb", "cost", "currency")
# Of years of runs a file takes seconds; `perennial costs --json` has all.
DAYS = 31


def table(context: Context) -> Table:
    """Oldest first, at the prices of params.yaml. Raises SettingsError where those are broken."""
    since = (context.clock().astimezone(UTC) - timedelta(days=DAYS)).strftime("%Y-%m-%dT%H:%M:%S")
    rows = [run.as_dict() for run in costs.run_costs(context.ledger, context.params.prices, since=since)]
    return Table(COLUMNS, [{name: row[name] for name in COLUMNS} for row in rows])
