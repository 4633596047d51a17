"""Measures a model on days that it has not seen, beside a guess that needs no model.

Writes the held-out rows with scikit-learn's predictions (the gates compare with them), the metrics,
and a sample of the training data (drift is measured against it later).
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.errors import StageError
from pipeline.settings.models import Model
from pipeline.training import fit, frames, skops_file

HIGHER_IS_BETTER = {
    "roc_auc": True,
    "average_precision": True,
    "accuracy": True,
    "r2": True,
    "log_loss": False,
    "brier": False,
    "mae": False,
    "rmse": False,
}
# Errors in the target's own unit: a limit on their difference is a share of the naive guess's error.
IN_TARGETS_UNIT = ("mae", "rmse")
PREDICTION = "prediction"


@dataclass(frozen=True)
class Evaluation:
    """The result on `rows` held-out rows of a model that learnt from `trained_rows`.

    `metric` names the one that params.yaml chooses; `metrics` are the model's and `baseline` the naive guess's, by name.
    """

    rows: int
    trained_rows: int
    metric: str
    metrics: Mapping[str, float]
    baseline: Mapping[str, float]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def read(cls, report: Path) -> Evaluation:
        """Reads the file that `evaluate` wrote."""
        values = json.loads(report.read_text(encoding="utf-8"))
        return cls(**{field.name: values[field.name] for field in fields(cls)})


def metrics(task: str, target: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    """All metrics of a task by name. `target` and `prediction`: shape (rows,)."""
    from sklearn import metrics as sk

    if task == "regression":
        return {
            "mae": float(sk.mean_absolute_error(target, prediction)),
            "rmse": float(sk.root_mean_squared_error(target, prediction)),
            "r2": float(sk.r2_score(target, prediction)) if len(target) > 1 else float("nan"),
        }
    # A ranking needs both classes.
    both = len(np.unique(target)) == 2
    return {
        "roc_auc": float(sk.roc_auc_score(target, prediction)) if both else float("nan"),
        "average_precision": float(sk.average_precision_score(target, prediction)) if both else float("nan"),
        "log_loss": float(sk.log_loss(target, np.clip(prediction, 1e-7, 1 - 1e-7), labels=[0, 1])),
        "brier": float(sk.brier_score_loss(target, prediction, labels=[0, 1])),
        "accuracy": float(sk.accuracy_score(target, prediction >= 0.5)),
    }


def bounded_loss(task: str, target: np.ndarray, prediction: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The loss of each `prediction`, in [0, 1]; all arrays have the shape (rows,).

    For a probability it is the squared error. For a number it is the absolute error as a share of the larger error of the
    two versions, so that one outlier does not outweigh the other rows.
    """
    if task == "binary":
        return (prediction - target) ** 2
    error, other_error = np.abs(prediction - target), np.abs(other - target)
    larger = np.maximum(error, other_error)
    return np.divide(error, larger, out=np.zeros_like(larger), where=larger > 0)


def better_by(metric: str, score: float, other: float) -> float:
    """By how much `score` is better than `other`: positive when it is better, for metrics of either direction."""
    return score - other if HIGHER_IS_BETTER[metric] else other - score


def gain(metric: str, score: float, other: float, naive: float) -> float:
    """By how much `score` is better than `other`, for `gates` and `monitor.quality_drop`: of an error in the target's own unit as a
    share of the naive guess's."""
    better = better_by(metric, score, other)
    return better / naive if metric in IN_TARGETS_UNIT and naive > 0 else better


def shown(metric: str, value: float) -> str:
    """A metric's value for people: four digits that count, whatever the target's unit."""
    if metric not in IN_TARGETS_UNIT:
        return f"{value:.4f}"
    if 1e-4 <= abs(value) < 1e9:
        digits = max(0, 3 - math.floor(math.log10(abs(value))))
        return f"{value:,.{digits}f}"
    return f"{value:.4g}"


def shown_gain(metric: str, by: float) -> str:
    """A result of `gain`, or its limit, for people."""
    return f"{by:.4g} of the naive guess's {metric}" if metric in IN_TARGETS_UNIT else f"{by:.4g}"


def evaluate(
    model: Model,
    rows: pd.DataFrame,
    model_file: Path,
    predictions: Path,
    reference: Path,
    report: Path,
    doubles: Collection[str] = (),
) -> Evaluation:
    """Scores the held-out rows, returns the evaluation and writes it to `report` as JSON. `doubles` is as for `fit.fit`.

    `predictions` gets the held-out rows with a column `prediction`; `reference` gets a fixed-seed sample of the rows that
    were trained on, with the same column. Raises StageError when no row is held out.
    """
    out = frames.held_out(rows, model)
    if not out.any():
        raise StageError(
            "evaluate",
            f"no rows in the last {model.evaluation.holdout_days:g} days of the window",
            "raise evaluation.holdout_days",
        )
    estimator = skops_file.load(model_file)
    test = _scored(estimator, rows[out], model, doubles)
    test.to_parquet(predictions, index=False)
    trained = rows[~out]
    sample = trained.sample(min(model.evaluation.reference_rows, len(trained)), random_state=model.training.seed)
    _scored(estimator, sample.sort_index(), model, doubles).to_parquet(reference, index=False)

    target = test[model.training.target].to_numpy()
    naive = np.full(len(target), trained[model.training.target].mean())
    evaluation = Evaluation(
        rows=len(test),
        trained_rows=len(trained),
        metric=model.evaluation.metric,
        metrics=metrics(model.training.task, target, test[PREDICTION].to_numpy()),
        baseline=metrics(model.training.task, target, naive),
    )
    report.write_text(json.dumps(evaluation.as_dict(), indent=2) + "\n", encoding="utf-8")
    return evaluation


def _scored(estimator, rows: pd.DataFrame, model: Model, doubles: Collection[str]) -> pd.DataFrame:
    features = frames.feature_frame(rows, model.training, doubles)
    return rows.assign(**{PREDICTION: fit.predict(estimator, features, model.training)})
