"""The scikit-learn pipeline that params.yaml describes: encoders by column, then the estimator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import SettingsError
from pipeline.serving.schema import Schema
from pipeline.settings.training import Training
from pipeline.training import encoding_choice, encodings, tasks
from pipeline.training.frames import columns_of

if TYPE_CHECKING:
    import pandas as pd
    from sklearn.base import BaseEstimator
    from sklearn.pipeline import Pipeline


def pipeline_for(training: Training, features: pd.DataFrame, how: Mapping[str, str] | None = None) -> BaseEstimator:
    """The unfitted scikit-learn pipeline for `features`, the rows to learn from: encoders by column, then the estimator.

    `how` has each category's encoding; without it, the one that needs no measuring.
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline, make_pipeline
    from sklearn.preprocessing import StandardScaler

    estimator, taken_as = _estimator(training)
    how = encoding_choice.candidates(features, training, taken_as)[0].by_column if how is None else how
    numeric: Any = "passthrough"
    if taken_as == "imputed":
        numeric = SimpleImputer(strategy="median")
    elif taken_as == "scaled":
        numeric = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    numbers = [name for column in columns_of(training) for name in column.matrix]
    steps = [("numeric", numeric, numbers)] if numbers else []
    encoders = encodings.encoders(
        features, how, encodings.TARGET_TYPES[tasks.of(training).output], taken_as, training.seed
    )
    if native := [column for name, _, columns in encoders if name == "native" for column in columns]:
        # These columns follow the numbers.
        places = list(range(len(numbers), len(numbers) + len(native)))
        estimator.set_params(categorical_features=places)
    return Pipeline([("columns", ColumnTransformer([*steps, *encoders])), ("estimator", estimator)])


def columns_as(training: Training) -> str:
    """How the estimator takes numbers: raw, imputed, or scaled (imputed too)."""
    return _estimator(training)[1]


def _estimator(training: Training) -> tuple[BaseEstimator, str]:
    """The estimator that params.yaml names, and how it takes numeric columns: raw, imputed, or scaled (imputed too)."""
    if ":" in training.estimator:
        from pipeline.data.user_code import hook_function

        return hook_function(training.estimator)(**training.options), "scaled"
    from sklearn import ensemble, linear_model

    classifier = tasks.of(training).estimator == "classifier"
    known = {
        "hist_gradient_boosting": (
            ensemble.HistGradientBoostingClassifier if classifier else ensemble.HistGradientBoostingRegressor,
            "raw",
        ),
        # Not scaled: in float32 a scaled value may fall on the other side of a split and take another branch.
        "random_forest": (ensemble.RandomForestClassifier if classifier else ensemble.RandomForestRegressor, "imputed"),
        "linear": (linear_model.LogisticRegression if classifier else linear_model.Ridge, "scaled"),
    }
    if training.estimator not in known:
        raise SettingsError(
            f"estimator {training.estimator}", "is unknown", f"use {', '.join(known)} or module:function"
        )
    kind, columns_as = known[training.estimator]
    try:
        return kind(random_state=training.seed, **training.options), columns_as
    except TypeError as error:
        raise SettingsError("training.options", str(error), f"see scikit-learn's {kind.__name__}") from error


def with_learnt(schema: Schema, fitted: Pipeline) -> Schema:
    """The schema with the categories that the fitted encoders know; a missing value is none of them."""
    known = encodings.categories_of(fitted)
    return replace(
        schema,
        columns=tuple(
            replace(column, learnt=known[column.name]) if column.is_category else column for column in schema.columns
        ),
    )


def with_float32_splits(fitted: Pipeline) -> Pipeline:
    """The same model, with each split of a boosted tree at the next float32 below it: no float32 value lies between.

    scikit-learn splits at a float64 between two values. ONNX rounds that split to float32. Where the two values are
    neighbours, it can become the upper value, which then takes the other branch.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    if isinstance(fitted[-1], HistGradientBoostingClassifier | HistGradientBoostingRegressor):
        for tree in (tree for trees in fitted[-1]._predictors for tree in trees):
            exact = tree.nodes["num_threshold"]
            near = exact.astype("float32")
            tree.nodes["num_threshold"] = np.where(near > exact, np.nextafter(near, np.float32(-np.inf)), near)
    return fitted
