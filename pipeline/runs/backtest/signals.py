"""What a version's answers to a window say without labels, beside those of the version's own first window: for policies that look at them.

The answers' distribution is compared as a drift check does, and the quality is what their own probabilities lead to expect. A regression has
no probabilities, so its quality is not estimated here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.monitoring import answer_shift, estimated_quality
from pipeline.policy.retraining.covariates import ANSWERS, ESTIMATE
from pipeline.settings.models import Model
from pipeline.training import tasks
from pipeline.training.tasks import METRICS, Answers

# So many answers of a window, evenly spread, say how they are distributed.
ROWS = 2000


def kept_of(model: Model, answers: Answers) -> dict[str, Any]:
    """What is kept of the answers to a version's own first window."""
    some = _some(answers)
    return {"answers": answer_shift.distribution(some), "estimate": _estimate(model, some)}


def figures(model: Model, answers: Answers, kept: dict[str, Any]) -> dict[str, float]:
    """{signal: its figure} of the answers to a later window; NaN where nobody knows."""
    some = _some(answers)
    sign = -1.0 if METRICS[model.evaluation.metric].higher_is_better else 1.0
    return {
        ANSWERS: answer_shift.distance(some, kept["answers"]),
        ESTIMATE: sign * (_estimate(model, some) - kept["estimate"]),
    }


def matrix(rows: Sequence[tuple[int, Sequence[float]]], windows: int) -> np.ndarray:
    """(windows, windows) of the figures of each version from its own window on."""
    found = np.full((windows, windows), np.nan)
    for number, row in rows:
        found[number, number:] = row
    return found


def _estimate(model: Model, answers: Answers) -> float:
    return estimated_quality.by_probabilities(tasks.of(model.training), model.evaluation.metric, answers)


def _some(answers: Answers) -> Answers:
    step = max(1, len(answers.values) // ROWS)
    return Answers(answers.values[::step], answers.classes)
