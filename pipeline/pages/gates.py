"""The page of a run's gates, as its report in MLflow has them."""

from __future__ import annotations

import logging
from urllib.parse import quote

from pipeline.context import Context
from pipeline.errors import DataError, RegistryError
from pipeline.gates import report
from pipeline.gates.base import Verdict
from pipeline.ledger.events import GatesChecked
from pipeline.pages.downloads import Table
from pipeline.registry import card_records
from pipeline.runs.explanation_picture import picture
from pipeline.training.explanation import Explanation

log = logging.getLogger(__name__)
COLUMNS = ("gate", "verdict", "observed", "low", "high", "limit", "mode", "reason")


def gates_page(context: Context, run: str) -> str:
    """The page as HTML, from the ledger, with the picture that MLflow has. Raises DataError for a run whose gates were not checked."""
    found = _checked(context, run)
    file, root = quote(run.rpartition("/")[2]), "../" * (run.count("/") + 1)
    return report.html(*found, moves=_moves(context, found[0], run), file=file, root=root)


def ask_mlflow(context: Context) -> None:
    """Asks MLflow something, so that its client, which takes a second to import, is there when a page asks. Raises RegistryError."""
    if not context.registry.is_new:
        card_records.shap_of_run(context.registry, "", "")


def table(context: Context, run: str) -> Table:
    """What each gate said, as a file; `low` to `high` is the interval of what was observed. Raises DataError for a run without gates."""
    found = _checked(context, run)
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


def _checked(context: Context, run: str) -> tuple[str, str, list[Verdict]]:
    """(model, run, verdicts). Raises DataError."""
    entries = context.ledger.events(GatesChecked, run=run)
    if not entries:
        raise DataError(f"run {run}", "has no gates in the ledger", "`perennial costs` lists the runs")
    return entries[-1].model, run, [Verdict.from_dict(values) for values in entries[-1].event.verdicts]


def _moves(context: Context, model: str, run: str) -> str:
    """The picture of what moves the predictions; '' where MLflow is away or has none: the verdicts need neither."""
    if context.registry.is_new:
        return ""
    try:
        found = Explanation.read(card_records.shap_of_run(context.registry, model, run))
    except RegistryError as error:
        log.warning("%s", error)
        return ""
    except (KeyError, TypeError):
        return ""
    return picture(found, f"{model}: what moves its predictions")
