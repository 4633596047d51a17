"""The scikit-learn pipeline that params.yaml describes: encoders by column, then the estimator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pipeline.errors import SettingsError
from pipeline.serving.schema import Schema
from pipeline.serving.schema.texts import PARTS
from pipeline.settings.training import Training
from pipeline.training import encoding_choice, encodings, tasks
from pipeline.training.estimators import named
from pipeline.training.frames import columns_of

if TYPE_CHECKING:
    import pandas as pd
    from sklearn.base import BaseEstimator
    from sklearn.pipeline import Pipeline


def pipeline_for(training: Training, features: pd.DataFrame, how: Mapping[str, str] | None = None) -> BaseEstimator:
    """The unfitted scikit-learn pipeline for `features`, the rows to learn from: encoders by column, then the estimator.

    `how` has each category's encoding; without it, the one that needs no measuring. A hook may return a whole pipeline.
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline, make_pipeline
    from sklearn.preprocessing import StandardScaler

    estimator, taken_as = named.estimator_for(training)
    if taken_as == "frame":
        _refuse_weights(training)
        return estimator
    how = encoding_choice.candidates(features, training, taken_as)[0].by_column if how is None else how
    numeric: Any = "passthrough"
    if taken_as == "imputed":
        numeric = SimpleImputer(strategy="median")
    elif taken_as == "scaled":
        numeric = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    weighed = _weighed_groups(training)
    apart = {name for groups in weighed.values() for name in groups}
    numbers = [name for column in columns_of(training) for name in column.matrix if name not in apart]
    steps = [("numeric", numeric, numbers)] if numbers else []
    steps += [(f"words of {column}", _tf_idf(), groups) for column, groups in weighed.items()]
    encoders = encodings.encoders(
        features, how, encodings.TARGET_TYPES[tasks.of(training).output], taken_as, training.seed
    )
    if native := [column for name, _, columns in encoders if name == "native" for column in columns]:
        # These columns follow the numbers.
        places = list(range(len(numbers), len(numbers) + len(native)))
        estimator.set_params(categorical_features=places)
    columns = ColumnTransformer([*steps, *encoders])
    if weighed:
        # Dense, as in a slot: not every estimator takes sparse ones, and they come in a matrix of that size.
        columns.sparse_threshold = 0
    return Pipeline([("columns", columns), ("estimator", estimator)])


def _weighed_groups(training: Training) -> dict[str, list[str]]:
    """The groups of words of each text that are weighed; {} where they count as they are."""
    if training.word_weights == "counts":
        return {}
    return {column.name: list(column.matrix[len(PARTS) :]) for column in columns_of(training) if column.kind == "text"}


def _tf_idf() -> Pipeline:
    """Counts of words become weights: a group that few texts have counts for more, and a long text for no more than a short one (Salton &
    Buckley 1988, Term-weighting approaches in automatic text retrieval). A missing text has no words."""
    from sklearn.feature_extraction.text import TfidfTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline

    return make_pipeline(SimpleImputer(strategy="constant", fill_value=0.0), TfidfTransformer())


def _refuse_weights(training: Training) -> None:
    if training.word_weights != "counts":
        raise SettingsError(
            "training.word_weights",
            f"{training.estimator} returns a pipeline with columns of its own",
            "weigh the words there, or leave it at counts",
        )


def columns_as(training: Training) -> str:
    """How the estimator takes numbers: see `named`."""
    return named.estimator_for(training)[1]


def with_learnt(schema: Schema, fitted: Pipeline) -> Schema:
    """The schema with the categories that the fitted encoders know; a missing value is none of them."""
    known = encodings.categories_of(fitted)
    return replace(
        schema,
        columns=tuple(
            replace(column, learnt=known[column.name]) if column.is_category and column.name in known else column
            for column in schema.columns
        ),
    )
