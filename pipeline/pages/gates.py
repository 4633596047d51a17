"""The page of a run's gates, as its report in MLflow has them."""

from __future__ import annotations

from urllib.parse import quote

from pipeline.context import Context
from pipeline.errors import DataError
from pipeline.gates import report
from pipeline.gates.base import Verdict
from pipeline.ledger.events import GatesChecked
from pipeline.pages.downloads import Table

COLUMNS = ("gate", "verdict", "observed", "low", "high", "limit", "mode", "reason")


def gates_page(context: Context, run: str) -> str | None:
    """The page as HTML, from the ledger; None for a run whose gates were not checked."""
    found = _checked(context, run)
    return report.html(*found, file=quote(run.rpartition("/")[2])) if found is not None else None


def table(context: Context, run: str) -> Table:
    """What each gate said, as a file; `low` to `high` is the interval of what was observed. Raises DataError for a run without gates."""
    found = _checked(context, run)
    if found is None:
        raise DataError(f"run {run}", "has no gates in the ledger", "`perennial costs` lists the runs")
    rows = [
        {
            "gate": verdict.gate,
            "verdict": verdict.word,
            "observed": verdict.observed if verdict.has_figure else None,
            "low": verdict.interval[0] if verdict.interval else None,
            "high": verdict.interval[1] if verdict.interval else None,
            "limit": verdict.limit,
            "mode": verdict.mode,
            "reason": verdict.reason,
        }
        for verdict in report.ordered(found[2])
    ]
    return Table(COLUMNS, rows)


def _checked(context: Context, run: str) -> tuple[str, str, list[Verdict]] | None:
    """(model, run, verdicts)"""
    entries = context.ledger.events(GatesChecked, run=run)
    if not entries:
        return None
    return entries[-1].model, run, [Verdict.from_dict(values) for values in entries[-1].event.verdicts]
