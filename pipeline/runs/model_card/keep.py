"""What moves a version's predictions, the intervals of its metrics, and its card, for MLflow.

They are for people: where one cannot be made, the run goes on, its log says why, and the card says that it is not recorded.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import replace

import pandas as pd

from pipeline.context import Context
from pipeline.errors import PerennialError
from pipeline.gates.measured_rows import Measured
from pipeline.ledger.usage_events import BytesMoved
from pipeline.registry import card_records
from pipeline.registry.card_records import CARD, CARD_PAGE, INTERVALS, SHAP, SHAP_PICTURE
from pipeline.runs.explanation_picture import picture
from pipeline.runs.model_card.card import card, html, markdown
from pipeline.serving.runtime import Runtime
from pipeline.settings.models import Model
from pipeline.training import tasks
from pipeline.training.evaluate import Evaluation
from pipeline.training.explanation import explanation
from pipeline.training.tasks import Answers
from pipeline.workspaces.dvc_graph import Artifacts

log = logging.getLogger(__name__)


def keep(context: Context, name: str, version: str, model: Model, files: Artifacts, run: str = "") -> None:
    """Of the version that the run with these files has registered. A run that is done again changes nothing of an earlier version."""
    texts: Mapping[str, str] = {}
    try:
        there = card_records.kept(context.registry, name, version)
        if CARD in there:
            return
        # A run of before the gates' report had the picture has none yet.
        texts = {} if SHAP in there else explained(name, model, files)
        texts = {**texts, **measured(model, files)}
    except Exception as error:
        # The estimator and its runtime may be anybody's: whatever fails there is no reason to lose the run.
        log.warning("version %s of %s gets no intervals: %s: %s", version, name, type(error).__name__, error)
    try:
        moved = card_records.keep(context.registry, name, version, texts) + keep_card(context, name, version)
        context.ledger.append(BytesMoved(what="model card", bytes=moved), name, run)
    except PerennialError as error:
        log.warning("the card of version %s is not in MLflow: %s", version, error)


def keep_card(context: Context, name: str, version: str) -> int:
    """Puts the card, as it is now, among the version's artifacts, and returns its bytes. Raises RegistryError."""
    made = card(context, name, version)
    return card_records.keep(context.registry, name, version, {CARD: markdown(made), CARD_PAGE: html(made)})


def explained(name: str, model: Model, files: Artifacts) -> Mapping[str, str]:
    """What moves the packaged model's predictions, as figures and as a picture: texts by their path in MLflow; none where it fails."""
    try:
        evaluation, held_out = Evaluation.read(files.metrics), pd.read_parquet(files.predictions)
        found = explanation(Runtime.load(files.package), held_out, evaluation, model.training.seed)
    except Exception as error:
        log.warning("the run of %s gets no explanation: %s: %s", name, type(error).__name__, error)
        return {}
    log.info("what moves the predictions of %s: %s", name, found.why)
    drawn = picture(found, f"{name}: what moves its predictions")
    return {SHAP: json.dumps(found.as_dict()) + "\n", SHAP_PICTURE: drawn}


def measured(model: Model, files: Artifacts) -> Mapping[str, str]:
    """The intervals of the version's metrics, in the same form."""
    evaluation, held_out = Evaluation.read(files.metrics), pd.read_parquet(files.predictions)
    return {INTERVALS: json.dumps(intervals(model, held_out, evaluation), indent=1) + "\n"}


def intervals(model: Model, held_out: pd.DataFrame, evaluation: Evaluation) -> dict[str, list[float]]:
    """The 95 % interval of each metric whose held-out days tell one; that of `evaluation.metric` is the gate metric_limit's."""
    answers, measured_by = Answers.of(held_out, evaluation.classes), Measured.of(model, held_out)
    of = {metric: value for metric, value in evaluation.metrics.items() if metric in tasks.METRICS}
    found = {metric: replace(measured_by, metric=metric).metric_figure(value, answers) for metric, value in of.items()}
    return {metric: list(figure.interval) for metric, figure in found.items() if figure.interval is not None}
