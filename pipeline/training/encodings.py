"""How a category becomes numbers. Each encoding serves a missing and an unseen category too, and ONNX computes it as scikit-learn does.

ordinal  Its place among the categories in the order of their texts: one number, for trees.
one_hot  A number for each category. They are dense in ONNX and in most estimators, so only for few.
target   The mean of the target among its rows, drawn towards the mean of all rows where these are few: one number, for a multi-class
         target one for each class. What is learnt from a row's own mean does not hold that row's target: scikit-learn's TargetEncoder
         (cross fitting; Micci-Barreca 2001).
hashed   Which of BUCKETS groups it is in, by its hash: a number for each group.
native   Splits of hist_gradient_boosting by sets of categories. ONNX has none of these, so skops serves them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pipeline.errors import StageError

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator
    from sklearn.pipeline import Pipeline

# In the order of the columns that an estimator gets.
NAMES = ("native", "ordinal", "one_hot", "target", "hashed")
# A category of more values gets no number for each of them, unless params.yaml says one_hot.
MANY = 100
# The most categories of native splits: scikit-learn has as many bins.
NATIVE_MOST = 255
BUCKETS = 64
FOLDS = 5
# What scikit-learn's TargetEncoder calls a target, by a task's output: by itself it takes whole numbers for classes.
TARGET_TYPES = {"number": "continuous", "probability": "binary", "probabilities": "multiclass"}
SAID = "encoding_choice_"
# More than so many bytes of one-hot numbers are refused.
ONE_HOT_BYTES = 2**30


def encoders(
    features: pd.DataFrame, how: Mapping[str, str], target_type: str, columns_as: str, seed: int
) -> list[tuple[str, BaseEstimator, list[str]]]:
    """The steps of a ColumnTransformer for categories: `how` has each one's encoding. `target_type` is TargetEncoder's.

    Raises StageError where an encoding does not fit a column of `features`, the rows to learn from.
    """
    steps = []
    for name in NAMES:
        # In the order of the features, whatever that of `how`: the package gives them in it.
        if columns := [column for column in features.columns if how.get(column) == name]:
            _refuse_too_many(features, name, columns)
            steps.append((name, _encoder(name, features[columns], target_type, columns_as, seed), columns))
    return steps


def _encoder(name: str, cells: pd.DataFrame, target_type: str, columns_as: str, seed: int) -> BaseEstimator:
    from sklearn.model_selection import KFold, StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler, TargetEncoder

    match name:
        case "one_hot":
            # Trees take float32; a linear model learns from this matrix in its precision.
            dtype = np.float64 if columns_as == "scaled" else np.float32
            return OneHotEncoder(handle_unknown="ignore", sparse_output=False, dtype=dtype)
        case "target":
            folds = KFold if target_type == "continuous" else StratifiedKFold
            means = TargetEncoder(target_type=target_type, cv=folds(FOLDS, shuffle=True, random_state=seed))
            return make_pipeline(means, StandardScaler()) if columns_as == "scaled" else means
        case "hashed":
            return _hashed(cells)
    ordinal = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, dtype=np.float32)
    return make_pipeline(ordinal, StandardScaler()) if columns_as == "scaled" else ordinal


def _hashed(cells: pd.DataFrame) -> BaseEstimator:
    """The categories in the order of their hashes, cut into groups of one size: the same groups whatever the rows' order."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import KBinsDiscretizer, OrdinalEncoder

    ordered = [np.array(sorted(cells[column].unique(), key=_digest), object) for column in cells.columns]
    places = OrdinalEncoder(categories=ordered, handle_unknown="use_encoded_value", unknown_value=-1, dtype=np.float32)
    bins = np.array([max(2, min(BUCKETS, len(values))) for values in ordered])
    groups = KBinsDiscretizer(bins, encode="onehot-dense", strategy="uniform", dtype=np.float32, subsample=None)
    return make_pipeline(places, groups)


def _digest(category: str) -> bytes:
    return hashlib.blake2b(category.encode(), digest_size=8).digest()


def _refuse_too_many(features: pd.DataFrame, encoding: str, columns: Sequence[str]) -> None:
    """Before the memory is taken: raises StageError."""
    different = {column: int(features[column].nunique()) for column in columns}
    largest = max(different, key=lambda column: different[column])
    if encoding == "native" and different[largest] > NATIVE_MOST:
        raise StageError(
            "train",
            f"column {largest} has {different[largest]:,} categories, and native splits take {NATIVE_MOST} at most",
            f"set training.encodings.{largest} to target, or leave it to auto",
        )
    size = sum(different.values()) * len(features) * 8
    if encoding == "one_hot" and size > ONE_HOT_BYTES:
        raise StageError(
            "train",
            f"column {largest} has {different[largest]:,} categories: one_hot takes {size / 2**30:,.1f} GiB for {len(features):,} rows",
            f"set training.encodings.{largest} to target or hashed, or leave it to auto",
        )


def made_exact(fitted: Pipeline) -> Pipeline:
    """The same pipeline with numbers of categories that float32 holds, and limits of groups between two places: so that ONNX, which
    computes in float32, finds the same side of each split."""
    from sklearn.preprocessing import KBinsDiscretizer, TargetEncoder

    for _, step, _ in fitted[0].transformers_:
        for part in getattr(step, "steps", [("", step)]):
            match part[1]:
                case TargetEncoder():
                    part[1].encodings_ = [_single(means) for means in part[1].encodings_]
                    part[1].target_mean_ = _single(part[1].target_mean_)
                case KBinsDiscretizer():
                    for edges in part[1].bin_edges_:
                        edges[1:-1] = np.floor(edges[1:-1]) + 0.5
    _without_folds(fitted)
    _without_functions(fitted[-1])
    return fitted


def _without_folds(fitted: Pipeline) -> None:
    """How rows were folded is of no use any more, and of a class that skops does not load by itself."""
    from sklearn.preprocessing import TargetEncoder

    for _, step, _ in (*fitted[0].transformers, *fitted[0].transformers_):
        for _, part in getattr(step, "steps", [("", step)]):
            if isinstance(part, TargetEncoder):
                part.cv = FOLDS


def _without_functions(estimator: BaseEstimator) -> None:
    """Native splits hold a check of numbers as a function, which no skops file may have; the numbers come checked."""
    from sklearn.preprocessing import FunctionTransformer

    preprocessor = getattr(estimator, "_preprocessor", None)
    if preprocessor is not None:
        for _, step, _ in (*preprocessor.transformers, *preprocessor.transformers_):
            if isinstance(step, FunctionTransformer):
                step.func = None


def _single(values: Any) -> Any:
    """Rounded to float32, as float64."""
    rounded = np.asarray(values, "float32").astype("float64")
    return rounded if rounded.ndim else rounded[()]


def categories_of(fitted: Pipeline) -> dict[str, frozenset[str]]:
    """The categories that the fitted pipeline knows, by column; a missing value is none of them. A project's own encoder may not say them."""
    known: dict[str, frozenset[str]] = {}
    for _, step, columns in fitted[0].transformers_:
        parts = [part for _, part in getattr(step, "steps", [("", step)])]
        encoder = next((part for part in parts if isinstance(getattr(part, "categories_", None), list)), None)
        if encoder is not None and len(encoder.categories_) == len(columns):
            for column, categories in zip(columns, encoder.categories_, strict=True):
                known[column] = frozenset(map(str, categories)) - {""}
    return known


def used(fitted: Pipeline) -> dict[str, str]:
    """The encoding of each category of a fitted pipeline, by column."""
    return {column: name for name, _, columns in fitted[0].transformers_ if name in NAMES for column in columns}


def said(fitted: Pipeline) -> dict[str, Any]:
    """How the encodings of a fitted pipeline were chosen: `measured.Choice` as a dict. The model's file has it as an attribute."""
    return getattr(fitted, SAID, {"by_column": used(fitted)})
