"""The weight of each row, `training.weight`: what it counts in fitting, and in each figure that is measured on labelled rows.

A row of weight 2 counts as two rows, one of weight 0 as none. Weights are of the source: no request has one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pipeline.errors import StageError
from pipeline.settings.training import Training

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline


def of(rows: pd.DataFrame, training: Training, stage: str) -> np.ndarray | None:
    """float64 (rows,), or None where the model has no weights. Raises StageError when all of them are 0."""
    if training.weight is None:
        return None
    weights = rows[training.weight].to_numpy("float64")
    if not weights.any():
        where = "row to train on" if stage == "train" else "held-out row"
        raise StageError(stage, f"the weight {training.weight} is 0 in each {where}", "check the source")
    return weights


def fit_arguments(pipeline: Pipeline, weights: np.ndarray | None, training: Training) -> dict[str, Any]:
    """What `pipeline.fit` takes beside features and target. Raises StageError for an estimator that takes no weights."""
    from sklearn.utils.validation import has_fit_parameter

    if weights is None:
        return {}
    name, last = pipeline.steps[-1]
    if not has_fit_parameter(last, "sample_weight"):
        raise StageError(
            "train",
            f"{type(last).__name__} (training.estimator: {training.estimator}) takes no weights of rows",
            "use another estimator, or leave out training.weight",
        )
    return {f"{name}__sample_weight": weights}
