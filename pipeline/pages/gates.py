"""The page of a run's gates, as its report in MLflow has them."""

from __future__ import annotations

from pipeline.context import Context
from pipeline.gates import report
from pipeline.gates.base import Verdict
from pipeline.ledger.events import GatesChecked


def gates_page(context: Context, run: str) -> str | None:
    """The page as HTML, from the ledger; None for a run whose gates were not checked."""
    entries = context.ledger.events(GatesChecked, run=run)
    if not entries:
        return None
    verdicts = [Verdict.from_dict(values) for values in entries[-1].event.verdicts]
    return report.html(entries[-1].model, run, verdicts)
