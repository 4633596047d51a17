"""How far answers go from a guess to a perfect score, from 0 to 1, in a form that a leak brings to 1 whatever the estimator's options.

A model that learns slowly gives a leaked target a middling probability, and yet ranks without a fault. So binary answers are judged by
their order (2 AUC - 1), classes by the likeliest one, and numbers by their absolute error, beside that of the median: an honest feature may
explain 97 % of a variance, and still leave a sixth of the error.
"""

from __future__ import annotations

import numpy as np

from pipeline.training.tasks import Answers


def skill(target: np.ndarray, answers: Answers, weight: np.ndarray | None = None) -> float:
    """`target` as in pipeline.training.tasks; NaN where these rows cannot tell."""
    weight = np.ones(len(target)) if weight is None else weight
    if not weight.any():
        return float("nan")
    if answers.classes:
        return of_decisions(target, np.array(answers.classes, object)[answers.values.argmax(axis=1)], weight)
    values = answers.values
    return of_order(target, values, weight) if is_binary(target) else of_numbers(target, values, weight)


def is_binary(target: np.ndarray) -> bool:
    """Whether the labels are numbers, each 0 or 1."""
    return target.dtype != object and bool(np.isin(target, (0, 1)).all())


def of_order(target: np.ndarray, values: np.ndarray, weight: np.ndarray) -> float:
    """2 AUC - 1; NaN where one class is absent or an answer is not finite. All three arrays are (rows,)."""
    from sklearn.metrics import roc_auc_score

    if len(np.unique(target[weight > 0])) < 2 or not np.isfinite(values).all():
        return float("nan")
    return float(2 * roc_auc_score(target, values, sample_weight=weight) - 1)


def of_decisions(target: np.ndarray, decided: np.ndarray, weight: np.ndarray) -> float:
    """Of the rows that the commonest class is wrong for, the share that is right now."""
    _, place = np.unique(target.astype(str), return_inverse=True)
    rows = np.bincount(place, weight)
    wrong = rows.sum() - rows.max()
    return float(1 - (weight * (target != decided)).sum() / wrong) if wrong > 0 else float("nan")


def of_numbers(target: np.ndarray, values: np.ndarray, weight: np.ndarray) -> float:
    """1 - the mean absolute error by that of the median; NaN where all targets are the median."""
    middle = np.median(target)
    wrong = float(np.average(np.abs(target - middle), weights=weight))
    return float(1 - np.average(np.abs(target - values), weights=weight) / wrong) if wrong > 0 else float("nan")
