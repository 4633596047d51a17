"""Fits a model on the rows before the held-out days; the same data and settings give the same file, bit for bit.

Numbers have the same precision in training as in serving: float32, but for columns of which the snapshot's schema says float64.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import pandas as pd

from pipeline.errors import StageError
from pipeline.serving.schema import Column
from pipeline.serving.schema.columns import LARGEST
from pipeline.settings.models import Model
from pipeline.settings.training import Training
from pipeline.training import tasks, weights
from pipeline.training.encodings import made_exact
from pipeline.training.frames import feature_frame, held_out, precision_of
from pipeline.training.pipelines import pipeline_for, with_float32_splits
from pipeline.training.tasks.base import CLASSES

if TYPE_CHECKING:
    import numpy as np
    from sklearn.base import BaseEstimator


def fit(
    rows: pd.DataFrame, model: Model, doubles: Collection[str] = (), how: Mapping[str, str] | None = None
) -> BaseEstimator:
    """Fits the model's estimator on the rows that are not held out. `doubles` are the numbers that float32 cannot hold, `how` the
    encodings of the categories, as for `pipeline_for`.

    Raises StageError when it cannot.
    """
    _refuse_trees_of_float32(model.training, doubles)
    _refuse_too_large(rows, model.training, doubles)
    training_rows = rows[~held_out(rows, model)]
    if training_rows.empty:
        first, days = f"{rows[model.source.event_time].min():%Y-%m-%d}", model.evaluation.holdout_days
        raise StageError(
            "train",
            f"the data begins on {first}, so all {len(rows):,} rows are in the {days:g} days held out before {model.as_of:%Y-%m-%d}",
            "no row is left to train on: choose a later as_of, or lower evaluation.holdout_days",
        )
    for kind in ("numeric", "datetime", "text"):
        if empty := [column for column in getattr(model.training, kind) if training_rows[column].isna().all()]:
            raise StageError(
                "train",
                f"column {empty[0]} is empty in all {len(training_rows):,} rows",
                f"check the source, or remove the column from training.{kind}",
            )
    return on(training_rows, model, doubles, how)


def on(
    rows: pd.DataFrame, model: Model, doubles: Collection[str] = (), how: Mapping[str, str] | None = None
) -> BaseEstimator:
    """The same on all of `rows`."""
    target, classes = tasks.of(model.training).learnt(rows[model.training.target])
    weight = weights.of(rows, model.training, "train")
    features = feature_frame(rows, model.training, doubles, model.source.timezone)
    pipeline = pipeline_for(model.training, features, how)
    try:
        weighed = weights.fit_arguments(pipeline, weight, model.training)
        fitted = made_exact(pipeline.fit(features, target, **weighed))
    except ValueError as error:
        first_line = str(error).strip().splitlines()[0]
        raise StageError(
            "train",
            f"{model.training.estimator}: {first_line}",
            "check the rows that were not quarantined, and training.options",
        ) from error
    if classes:
        setattr(fitted, CLASSES, list(classes))
    return fitted if doubles else with_float32_splits(fitted)


def _refuse_trees_of_float32(training: Training, doubles: Collection[str]) -> None:
    if training.estimator == "random_forest" and doubles:
        raise StageError(
            "train",
            f"random_forest rounds its numbers to float32, which cannot hold {', '.join(sorted(doubles))}",
            "subtract an offset in the query, so that the numbers begin near 0, or use training.estimator: hist_gradient_boosting",
        )


def _refuse_too_large(rows: pd.DataFrame, training: Training, doubles: Collection[str]) -> None:
    """In the held-out rows too: the stages behind this one take the same rows."""
    for column in training.numeric:
        precision = precision_of(Column(column), doubles)
        if too_large := int((rows[column].abs() > LARGEST[precision]).sum()):
            raise StageError(
                "train",
                f"column {column} is too large for {precision}, e.g. {rows[column].abs().max():g}, "
                f"in {too_large:,} of {len(rows):,} rows",
                f"correct the source, or quarantine such rows by gates.contract.columns.{column}.max",
            )


def predict(estimator: BaseEstimator, features: pd.DataFrame, training: Training) -> np.ndarray:
    """A fitted pipeline's predictions, float64, as the model's task has them."""
    return tasks.of(training).predict(estimator, features)
