"""How good a model is on days it has not seen, beside a guess that needs no model.

Writes the held-out rows with scikit-learn's predictions (the gates compare with them), the metrics,
and a sample of the training data that drift will later be measured against.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.errors import StageError
from pipeline.settings.models import Model
from pipeline.training import fit

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
PREDICTION = "prediction"


def metrics(task: str, target: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    """All metrics of a task by name. `target` and `prediction`: shape (rows,)."""
    from sklearn import metrics as sk

    if task == "regression":
        return {
            "mae": float(sk.mean_absolute_error(target, prediction)),
            "rmse": float(sk.root_mean_squared_error(target, prediction)),
            "r2": float(sk.r2_score(target, prediction)) if len(target) > 1 else float("nan"),
        }
    both = len(np.unique(target)) == 2
    return {
        "roc_auc": float(sk.roc_auc_score(target, prediction)) if both else float("nan"),
        "average_precision": float(sk.average_precision_score(target, prediction)) if both else float("nan"),
        "log_loss": float(sk.log_loss(target, np.clip(prediction, 1e-7, 1 - 1e-7), labels=[0, 1])),
        "brier": float(sk.brier_score_loss(target, prediction, labels=[0, 1])),
        "accuracy": float(sk.accuracy_score(target, prediction >= 0.5)),
    }


def bounded_loss(task: str, target: np.ndarray, ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """The loss of `ours` a row, in [0, 1]: the squared error of a probability; of a number the absolute error as a share
    of the larger one of both versions, so that no outlier outweighs the rest. All of shape (rows,)."""
    if task == "binary":
        return (ours - target) ** 2
    errors = np.abs(ours - target), np.abs(theirs - target)
    larger = np.maximum(*errors)
    return np.divide(errors[0], larger, out=np.zeros_like(larger), where=larger > 0)


def better_by(metric: str, ours: float, theirs: float) -> float:
    """How much better `ours` is, positive when it is, whichever way the metric points."""
    return ours - theirs if HIGHER_IS_BETTER[metric] else theirs - ours


def evaluate(
    model: Model, rows: pd.DataFrame, model_file: Path, predictions: Path, reference: Path, report: Path
) -> dict:
    """Scores the held-out rows. Returns and writes {"rows", "metrics", "baseline", "metric"}.

    `predictions` gets the held-out rows with a column `prediction`, `reference` a fixed-seed sample of
    the rows trained on, scored too. Raises StageError when there is nothing to score.
    """
    out = fit.held_out(rows, model)
    if not out.any():
        raise StageError(
            "evaluate",
            f"no rows in the last {model.evaluation.holdout_days:g} days of the window",
            "raise evaluation.holdout_days",
        )
    estimator = fit.load(model_file)
    test = _scored(estimator, rows[out], model)
    test.to_parquet(predictions, index=False)
    learnt = rows[~out]
    sample = learnt.sample(min(model.evaluation.reference_rows, len(learnt)), random_state=model.training.seed)
    _scored(estimator, sample.sort_index(), model).to_parquet(reference, index=False)

    target = test[model.training.target].to_numpy()
    naive = np.full(len(target), learnt[model.training.target].mean())
    told = {
        "rows": len(test),
        "trained_rows": len(learnt),
        "metric": model.evaluation.metric,
        "metrics": metrics(model.training.task, target, test[PREDICTION].to_numpy()),
        "baseline": metrics(model.training.task, target, naive),
    }
    report.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    return told


def _scored(estimator, rows: pd.DataFrame, model: Model) -> pd.DataFrame:
    features = fit.feature_frame(rows, model.training)
    return rows.assign(**{PREDICTION: fit.predict(estimator, features, model.training)})
