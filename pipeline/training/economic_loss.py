"""The loss of each row that a retrain is to lower, by the model's `economics`."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence

import numpy as np

from pipeline.errors import StageError
from pipeline.settings.economics import ByClass, Decisions
from pipeline.settings.models import Model
from pipeline.training import tasks
from pipeline.training.tasks import Answers

log = logging.getLogger(__name__)


def of_rows(model: Model, target: np.ndarray, answers: Answers) -> np.ndarray:
    """float64 (rows,), in units of `model.loss`; with economics.decisions or economics.by_class in money. Raises StageError for targets that have no such loss."""
    if model.economics.decisions is not None:
        return of_decisions(model.economics.decisions, target, answers)
    if model.economics.by_class is not None:
        return of_classes(model.economics.by_class, target, answers)
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


def of_classes(costs: ByClass, target: np.ndarray, answers: Answers) -> np.ndarray:
    """What each row's decision for a class costs, by the class that is true. `target` is texts (rows,); it may have classes that the version
    never learnt, and so never decides on. Where two classes are alike the first one is decided."""
    true, place = np.unique(target.astype(str), return_inverse=True)
    if unknown := unknown_classes(costs, {*true.tolist(), *answers.classes}):
        log.warning("economics.by_class.costs names classes that neither the version nor these rows have: %s", unknown)
    if costs.decided == "likeliest":
        taken = answers.values.argmax(axis=1)
    else:
        taken = (answers.values @ _money(costs, answers.classes, answers.classes)).argmin(axis=1)
    return _money(costs, true.tolist(), answers.classes)[place, taken]


def unknown_classes(costs: ByClass, classes: Collection[str]) -> str:
    """Those that `costs` names and are none of the `classes`, in words; '' where there are none. A slip in a name would leave its costs unused."""
    return ", ".join(repr(label) for label in costs.named if label not in classes)


def _money(costs: ByClass, true: Sequence[str], decided: Sequence[str]) -> np.ndarray:
    """(true classes, decided classes) float64."""
    return np.array([[costs.of(one, other) for other in decided] for one in true], "float64")
