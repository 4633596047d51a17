"""The loss of each row that a retrain is to lower, by the model's `economics`."""

from __future__ import annotations

import numpy as np

from pipeline.errors import StageError
from pipeline.settings.economics import Decisions
from pipeline.settings.models import Model
from pipeline.training import tasks
from pipeline.training.tasks import Answers


def of_rows(model: Model, target: np.ndarray, answers: Answers) -> np.ndarray:
    """float64 (rows,), in units of `model.loss`; with economics.decisions in money. Raises StageError for targets that have no such loss."""
    if model.economics.decisions is not None:
        return of_decisions(model.economics.decisions, target, answers)
    losses = tasks.of(model.training).row_losses(model.loss, target, answers)
    if losses is None:
        raise StageError(
            "backtest",
            f"{model.loss} is not defined for some rows of {model.training.target}",
            "set another economics.loss",
        )
    return losses


def of_decisions(decisions: Decisions, target: np.ndarray, answers: Answers) -> np.ndarray:
    """What each row's outcome costs when the answer is taken for a yes from the threshold on."""
    yes, true = answers.values >= decisions.threshold, target == 1
    of_yes = np.where(true, decisions.true_positive, decisions.false_positive)
    of_no = np.where(true, decisions.false_negative, decisions.true_negative)
    return np.where(yes, of_yes, of_no)
