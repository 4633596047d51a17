"""The page of a run's gates, as its report in MLflow has them."""

from __future__ import annotations

import logging

from pipeline.context import Context
from pipeline.errors import RegistryError
from pipeline.gates import report
from pipeline.gates.base import Verdict
from pipeline.ledger.events import GatesChecked
from pipeline.registry import card_records
from pipeline.runs.explanation_picture import picture
from pipeline.training.explanation import Explanation

log = logging.getLogger(__name__)


def gates_page(context: Context, run: str) -> str | None:
    """The page as HTML, from the ledger, with the picture that MLflow has; None for a run whose gates were not checked."""
    entries = context.ledger.events(GatesChecked, run=run)
    if not entries:
        return None
    model = entries[-1].model
    verdicts = [Verdict.from_dict(values) for values in entries[-1].event.verdicts]
    return report.html(model, run, verdicts, _moves(context, model, run))


def _moves(context: Context, model: str, run: str) -> str:
    """The picture of what moves the predictions; '' where MLflow is away or has none: the verdicts need neither."""
    try:
        found = Explanation.read(card_records.shap_of_run(context.registry, model, run))
    except RegistryError as error:
        log.warning("%s", error)
        return ""
    except (KeyError, TypeError):
        return ""
    return picture(found, f"{model}: what moves its predictions")
