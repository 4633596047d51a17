"""Fits a model on the rows before the held-out days; the same data and settings give the same file, bit for bit.

The fitted pipeline is stored as skops, not pickle, in a canonical form (see `canonical`). Numbers have the same precision in training
as in serving: float32, but for columns of which the snapshot's schema says float64.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pipeline.errors import SettingsError, StageError
from pipeline.serving.schema import Column, Schema
from pipeline.serving.schema.blocks import number_matrix
from pipeline.serving.schema.columns import LARGEST, Kind, Precision
from pipeline.serving.trusted import TRUSTED_TYPES
from pipeline.settings.models import Model, Training

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator
    from sklearn.pipeline import Pipeline

MISSING_CATEGORY = ""


def feature_frame(rows: pd.DataFrame, training: Training, doubles: Collection[str] = ()) -> pd.DataFrame:
    """The features of `rows`, in a snapshot's neutral form, as a model takes them: numbers as float32, of which a time is one and a text
    two, those in `doubles` as float64, and categories as strings with '' for a missing value."""
    columns = [replace(c, precision=_precision(c, doubles)) for c in columns_of(training)]
    precisions = {name: column.precision for column in columns for name in column.matrix}
    numbers = pd.DataFrame(number_matrix(rows, columns), index=rows.index, columns=list(precisions)).astype(precisions)
    categories = (
        rows[list(training.categorical)]
        .astype(object)
        .where(rows[list(training.categorical)].notna(), MISSING_CATEGORY)
    )
    return pd.concat([numbers, categories], axis=1)


def _precision(column: Column, doubles: Collection[str]) -> Precision:
    return "float64" if any(name in doubles for name in column.matrix) else "float32"


def columns_of(training: Training) -> tuple[Column, ...]:
    """The features as params.yaml lists them, without what a snapshot says of them."""
    lists: tuple[tuple[tuple[str, ...], Kind], ...] = (
        (training.numeric, "number"),
        (training.datetime, "datetime"),
        (training.text, "text"),
        (training.categorical, "category"),
    )
    return tuple(Column(name, kind) for names, kind in lists for name in names)


def schema_of(model: Model, snapshot: Path | None = None) -> Schema:
    """The schema that was drawn with the snapshot. Without one, or from before schemas: numbers, and texts as they are."""
    drawn = Schema.of_snapshot(snapshot) if snapshot is not None else None
    if drawn is not None:
        return drawn
    source = model.source
    return Schema(columns_of(model.training), source.key or "", source.event_time, source.timezone, source.epoch)


def with_learnt(schema: Schema, fitted: Pipeline) -> Schema:
    """The schema with the categories that the fitted encoder knows; a missing value is none of them."""
    if not schema.texts:
        return schema
    encoder = fitted[0].named_transformers_["categorical"]
    known = dict(zip(schema.texts, encoder.categories_, strict=True))
    return replace(
        schema,
        columns=tuple(
            replace(column, learnt=frozenset(map(str, known[column.name])) - {""}) if column.is_category else column
            for column in schema.columns
        ),
    )


def records(rows: pd.DataFrame, schema: Schema) -> list[dict[str, Any]]:
    """Rows as a JSON request has them."""
    columns = {
        # A time and a text are written as they are.
        column.name: rows[column.name].astype(
            object if column.kind in ("category", "datetime", "text") else column.precision
        )
        for column in schema.columns
    }
    written = {
        name: [schema[name].written(None if pd.isna(value) else value) for value in values.tolist()]
        for name, values in columns.items()
    }
    return [dict(zip(written, row, strict=True)) for row in zip(*written.values(), strict=True)]


def held_out(rows: pd.DataFrame, model: Model) -> pd.Series:
    """True for the rows of the window's last `holdout_days`, which training never sees."""
    return rows[model.source.event_time] >= model.held_out_from


def fit(rows: pd.DataFrame, model: Model, doubles: Collection[str] = ()) -> BaseEstimator:
    """Fits the model's estimator on the rows that are not held out. `doubles` are the numbers that float32 cannot hold.

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
    target = _checked_target(training_rows[model.training.target], model)
    features = feature_frame(training_rows, model.training, doubles)
    for kind in ("numeric", "datetime", "text"):
        if empty := [column for column in getattr(model.training, kind) if training_rows[column].isna().all()]:
            raise StageError(
                "train",
                f"column {empty[0]} is empty in all {len(training_rows):,} rows",
                f"check the source, or remove the column from training.{kind}",
            )
    try:
        fitted = pipeline_for(model.training).fit(features, target.to_numpy())
        return fitted if doubles else _with_float32_splits(fitted)
    except ValueError as error:
        first_line = str(error).strip().splitlines()[0]
        raise StageError(
            "train",
            f"{model.training.estimator}: {first_line}",
            "check the rows that were not quarantined, and training.options",
        ) from error


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
        precision = _precision(Column(column), doubles)
        if too_large := int((rows[column].abs() > LARGEST[precision]).sum()):
            raise StageError(
                "train",
                f"column {column} is too large for {precision}, e.g. {rows[column].abs().max():g}, "
                f"in {too_large:,} of {len(rows):,} rows",
                f"correct the source, or quarantine such rows by gates.contract.columns.{column}.max",
            )


def _checked_target(target: pd.Series, model: Model) -> pd.Series:
    """The target as the estimator takes it: integers for a binary task. Raises StageError when nothing can be learnt from it."""
    if model.training.task == "regression" and target.nunique() == 1:
        raise StageError(
            "train", f"the target {model.training.target} is {target.iloc[0]:g} in every row", "check the source"
        )
    if model.training.task == "binary":
        if set(target.unique()) != {0.0, 1.0}:
            seen = ", ".join(f"{v:g}" for v in sorted(target.unique())[:5])
            raise StageError(
                "train",
                f"the target {model.training.target} is {seen}, not both 0 and 1",
                "check the target, or set training.task: regression",
            )
        target = target.astype("int64")
    return target


def _with_float32_splits(fitted: Pipeline) -> Pipeline:
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


def pipeline_for(training: Training) -> BaseEstimator:
    """The unfitted scikit-learn pipeline: encoders by column, then the estimator."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline, make_pipeline
    from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

    estimator, columns_as = _estimator(training)
    numeric: Any = "passthrough"
    categorical: Any = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    if columns_as == "raw":
        categorical = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, dtype=np.float32)
    elif columns_as == "imputed":
        numeric = SimpleImputer(strategy="median")
    else:
        numeric = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    numbers = [name for column in columns_of(training) for name in column.matrix]
    columns = [
        (n, t, list(c))
        for n, t, c in (("numeric", numeric, numbers), ("categorical", categorical, training.categorical))
        if c
    ]
    return Pipeline([("columns", ColumnTransformer(columns)), ("estimator", estimator)])


def _estimator(training: Training) -> tuple[BaseEstimator, str]:
    """The estimator that params.yaml names, and how it takes numeric columns: raw, imputed, or scaled (imputed too)."""
    if ":" in training.estimator:
        from pipeline.data.user_code import hook_function

        return hook_function(training.estimator)(**training.options), "scaled"
    from sklearn import ensemble, linear_model

    binary = training.task == "binary"
    known = {
        "hist_gradient_boosting": (
            ensemble.HistGradientBoostingClassifier if binary else ensemble.HistGradientBoostingRegressor,
            "raw",
        ),
        # Not scaled: in float32 a scaled value may fall on the other side of a split and take another branch.
        "random_forest": (ensemble.RandomForestClassifier if binary else ensemble.RandomForestRegressor, "imputed"),
        "linear": (linear_model.LogisticRegression if binary else linear_model.Ridge, "scaled"),
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


def predict(estimator: BaseEstimator, features: pd.DataFrame, training: Training) -> np.ndarray:
    """Predictions, float64 of shape (rows,): the probability of 1, or the regressed value."""
    if training.task == "binary":
        return estimator.predict_proba(features)[:, 1].astype("float64")
    return np.asarray(estimator.predict(features), dtype="float64").reshape(-1)


def save(estimator: BaseEstimator, path: Path) -> None:
    """Writes the fitted pipeline as canonical skops. Raises StageError for one that `load` would refuse."""
    import skops.io

    dumped = skops.io.dumps(estimator)
    untrusted = sorted(set(skops.io.get_untrusted_types(data=dumped)) - set(TRUSTED_TYPES))
    if untrusted:
        raise StageError(
            "train",
            f"the model holds {', '.join(untrusted)}, which skops does not load without unpickling",
            "choose another estimator",
        )
    path.write_bytes(canonical(dumped))


def load(path: Path) -> BaseEstimator:
    """Reads a fitted pipeline; only the types in TRUSTED_TYPES are built."""
    import skops.io

    return skops.io.load(path, trusted=TRUSTED_TYPES)


def canonical(dumped: bytes) -> bytes:
    """The same skops file without the parts that differ between two dumps of equal models.

    skops numbers objects by their address in memory and stamps the files with the time. The canonical file numbers them in
    order of appearance and stamps all files with 1980.
    """
    with zipfile.ZipFile(io.BytesIO(dumped)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    schema = files.pop("schema.json").decode()
    order: dict[str, str] = {}
    for number in re.findall(r'"__id__": (\d+)|"(\d+)\.npy"|"(\d+)\.npz"', schema):
        order.setdefault(next(filter(None, number)), str(len(order) + 1))
    schema = re.sub(r'("__id__": )(\d+)', lambda m: m[1] + order[m[2]], schema)
    schema = re.sub(r'"(\d+)(\.np[yz])"', lambda m: f'"{order[m[1]]}{m[2]}"', schema)
    renamed = {re.sub(r"^(\d+)(?=\.np[yz]$)", lambda m: order.get(m[1], m[1]), n): c for n, c in files.items()}
    renamed["schema.json"] = json.dumps(json.loads(schema), sort_keys=True).encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(renamed):
            archive.writestr(zipfile.ZipInfo(name), renamed[name], zipfile.ZIP_DEFLATED)
    return out.getvalue()
