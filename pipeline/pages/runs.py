"""All runs and what they cost as a file: the table of the overview."""

from __future__ import annotations

from pipeline.context import Context
from pipeline.ledger import costs
from pipeline.pages.downloads import Table

COLUMNS = ("run", "model", "started_at", "wall_s", "cpu_s", "peak_mb", "cost", "currency")


def table(context: Context) -> Table:
    """Oldest first, at the prices of params.yaml. Raises SettingsError where those are broken."""
    rows = [run.as_dict() for run in costs.run_costs(context.ledger, context.params.prices)]
    return Table(COLUMNS, [{name: row[name] for name in COLUMNS} for row in rows])
