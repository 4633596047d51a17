"""What a version's answers to a window say without labels, beside those of the version's own first window: for policies that look at them.

The answers' distribution is compared as a drift check does. The quality of a classifier is what its own probabilities lead to expect, that of
a regression what a tree of losses does, as in a drift check. In life the tree grows on the held-out days; here on the version's own first
window, which it has not learnt from either, so that nothing has to be fitted twice. The labels of later windows are never looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pipeline.monitoring import answer_shift, estimated_quality
from pipeline.policy.retraining.covariates import ANSWERS, ESTIMATE
from pipeline.settings.models import Model
from pipeline.training import tasks
from pipeline.training.tasks import METRICS, Answers

# So many answers of a window, evenly spread, say how they are distributed.
ROWS = 2000


@dataclass(frozen=True)
class Answered:
    """The answers to a window, with the rows' features as the model takes them and their labels."""

    answers: Answers
    features: pd.DataFrame
    target: np.ndarray

    @property
    def some(self) -> Answered:
        step = max(1, len(self.target) // ROWS)
        some = Answers(self.answers.values[::step], self.answers.classes)
        return Answered(some, self.features.iloc[::step], self.target[::step])


def kept_of(model: Model, own: Answered) -> dict[str, Any]:
    """What is kept of the answers to a version's own first window."""
    some = own.some
    known = estimated_quality.of_window(model, some.features, some.target, some.answers)
    kept = {"answers": answer_shift.distribution(some.answers), "quality": known.as_dict() if known else None}
    return {**kept, "estimate": _estimate(model, some, kept)}


def figures(model: Model, later: Answered, kept: Mapping[str, Any]) -> dict[str, float]:
    """{signal: its figure} of the answers to a later window; NaN where nobody knows."""
    some = later.some
    sign = -1.0 if METRICS[model.evaluation.metric].higher_is_better else 1.0
    return {
        ANSWERS: answer_shift.distance(some.answers, kept["answers"]),
        ESTIMATE: sign * (_estimate(model, some, kept) - kept["estimate"]),
    }


def matrix(rows: Sequence[tuple[int, Sequence[float]]], windows: int) -> np.ndarray:
    """(windows, windows) of the figures of each version from its own window on."""
    found = np.full((windows, windows), np.nan)
    for number, row in rows:
        found[number, number:] = row
    return found


def _estimate(model: Model, some: Answered, kept: Mapping[str, Any]) -> float:
    if kept["quality"] is not None:
        known = estimated_quality.QualityModel.read(kept["quality"])
        return estimated_quality.by_losses(model, known, some.features, some.answers)
    return estimated_quality.by_probabilities(tasks.of(model.training), model.evaluation.metric, some.answers)
