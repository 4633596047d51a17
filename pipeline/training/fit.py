"""Fits a model on the rows before the held-out days, or on all rows; the same data and settings give the same file, bit for bit.

Numbers have the same precision in training as in serving: float32, but for columns of which the snapshot's schema says float64.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from pipeline.errors import StageError
from pipeline.serving.schema import Column
from pipeline.serving.schema.columns import LARGEST
from pipeline.settings import estimators
from pipeline.settings.models import Model
from pipeline.settings.training import Training
from pipeline.training import learning, tasks, weights
from pipeline.training.frames import before_held_out, features_of, held_out, instants, precision_of
from pipeline.training.search import run as search
from pipeline.training.search.clocks import Recorded
from pipeline.training.tasks.base import CLASSES

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator

# More than so many bytes of groups of words, as float64, are refused.
GROUPS_BYTES = 2**32
# Classes that cast their numbers to float32, by the begin of their names.
ROUND_TO_FLOAT32 = ("RandomForest", "ExtraTree", "DecisionTree", "GradientBoosting", "AdaBoost", "Bagging", "XGB")


def fit(
    rows: pd.DataFrame,
    model: Model,
    doubles: Collection[str] = (),
    how: Mapping[str, str] | None = None,
    recorded: Recorded | None = None,
    everything: bool = False,
) -> BaseEstimator:
    """Fits the model's estimator on the rows that are not held out. `doubles` are the numbers that float32 cannot hold, `how` the
    encodings of the categories, as for `pipeline_for`, `recorded` the counts of an earlier search that is repeated. With `everything` it
    learns from the held-out rows too (`all_to_learn_from`), by options that were searched without them.

    Raises StageError when it cannot.
    """
    _refuse_trees_of_float32(model.training, doubles)
    _refuse_too_large(rows, model.training, doubles)
    _refuse_too_many_groups(len(rows), model.training)
    training_rows = before_held_out(rows, model)
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
    learnt = all_to_learn_from(rows, model) if everything else training_rows
    if model.training.search is None:
        return on(learnt, model, doubles, how)

    def learn(places: np.ndarray, training: Training) -> BaseEstimator:
        return on(training_rows.iloc[places], model.model_copy(update={"training": training}), doubles, how)

    features = features_of(training_rows, model, doubles)
    training, found = search.search(training_rows, features, model, learn, recorded)
    fitted = on(learnt, model.model_copy(update={"training": training}), doubles, how)
    setattr(fitted, search.ATTRIBUTE, found.as_dict())
    return fitted


def all_to_learn_from(rows: pd.DataFrame, model: Model) -> pd.DataFrame:
    """All rows, the held-out ones too, but for those of a class that only the held-out days have: no answer with it was measured."""
    out = held_out(rows, model)
    if tasks.of(model.training).output != "probabilities":
        return rows
    target = rows[model.training.target]
    return rows[~out | target.isin(target[~out].unique())]


def on(
    rows: pd.DataFrame, model: Model, doubles: Collection[str] = (), how: Mapping[str, str] | None = None
) -> BaseEstimator:
    """One fit on all of `rows`, by the options of params.yaml."""
    target, classes = tasks.of(model.training).learnt(rows[model.training.target])
    taught = learning.Rows(
        features_of(rows, model, doubles),
        target,
        instants(rows[model.source.event_time]),
        weights.of(rows, model.training, "train"),
        classes,
    )
    fitted = learning.learn(taught, model.training, bool(doubles), how)
    if classes:
        setattr(fitted, CLASSES, list(classes))
    return fitted


def _refuse_trees_of_float32(training: Training, doubles: Collection[str]) -> None:
    name = estimators.class_named(training.estimator, estimators.kind_of(training.task))
    if doubles and name.rpartition(".")[2].startswith(ROUND_TO_FLOAT32):
        raise StageError(
            "train",
            f"{training.estimator} rounds its numbers to float32, which cannot hold {', '.join(sorted(doubles))}",
            "subtract an offset in the query, so that the numbers begin near 0, or use training.estimator: hist_gradient_boosting",
        )


def _refuse_too_many_groups(rows: int, training: Training) -> None:
    """Before the memory is taken: each row is as many numbers as there are groups, and estimators take copies of them."""
    if (size := rows * len(training.text) * training.words * 8) > GROUPS_BYTES:
        raise StageError(
            "train",
            f"{training.words:,} groups of words of {', '.join(training.text)} take {size / 2**30:,.1f} GiB for {rows:,} rows",
            "lower training.words, or shorten source.window_days",
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
