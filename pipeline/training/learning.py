"""Fits the pipeline of params.yaml on rows that are ready: its encoders, its estimator, and what calibrates that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from pipeline.errors import PerennialError, StageError
from pipeline.settings.training import Training
from pipeline.training import calibration, skops_file, weights
from pipeline.training.encodings import made_exact
from pipeline.training.estimators import splits
from pipeline.training.estimators.named import first_line
from pipeline.training.pipelines import pipeline_for

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline


@dataclass(frozen=True)
class Rows:
    """What is learnt from: features, the target as an estimator takes it, event times, weights, and what the target's places stand for."""

    features: pd.DataFrame
    target: np.ndarray
    times: np.ndarray
    weights: np.ndarray | None = None
    classes: Sequence[str] = ()

    def those(self, chosen: np.ndarray) -> Rows:
        weighed = None if self.weights is None else self.weights[chosen]
        return Rows(self.features[chosen], self.target[chosen], self.times[chosen], weighed, self.classes)


def learn(rows: Rows, training: Training, doubles: bool, how: Mapping[str, str] | None = None) -> Pipeline:
    """The fitted pipeline, as it is saved and served. `doubles` says that some numbers are float64, `how` has the encodings of categories.
    Raises StageError for what the estimator refuses."""
    from threadpoolctl import threadpool_limits

    try:
        fitted = _fitted(rows, training, doubles, how)
        if training.calibration != "none":
            is_later = calibration.later_rows(rows.times)
            calibration.refuse_few(rows.target, is_later, training, rows.classes)
            first, later = _fitted(rows.those(~is_later), training, doubles, how), rows.those(is_later)
            newest = first[:-1].transform(later.features)
            with threadpool_limits(1, "blas"):
                curves = calibration.calibrated(
                    first[-1], newest, later.target, training.calibration, fitted[-1], later.weights
                )
            fitted.steps[-1] = (fitted.steps[-1][0], curves)
        return fitted
    except PerennialError:
        raise
    except Exception as error:
        # Each library has its own exceptions, and so has a hook.
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise StageError(
            "train",
            f"{training.estimator}: {kind}{first_line(error)}",
            "check the rows that were not quarantined, and training.options",
        ) from error


def _fitted(rows: Rows, training: Training, doubles: bool, how: Mapping[str, str] | None) -> Pipeline:
    from threadpoolctl import threadpool_limits

    pipeline = pipeline_for(training, rows.features, how)
    if ":" in training.estimator:
        skops_file.refuse_unreadable(pipeline, training.estimator)
    weighed = weights.fit_arguments(pipeline, rows.weights, training)
    # Sums of a linear model have other last digits by each number of threads. Those of trees, which are OpenMP's, are the same.
    with threadpool_limits(1, "blas"):
        fitted = made_exact(pipeline.fit(rows.features, rows.target, **weighed))
    fitted.steps[-1] = (fitted.steps[-1][0], splits.ready_to_serve(fitted[-1], doubles))
    return fitted
