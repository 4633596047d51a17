"""Rows as a model takes them: which columns, in which order and precision; and the same rows as a JSON request has them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.serving.schema import Column, Schema
from pipeline.serving.schema.ages import Ages
from pipeline.serving.schema.blocks import number_matrix
from pipeline.serving.schema.columns import Kind, Precision
from pipeline.serving.schema.times import canonical, zone_of
from pipeline.settings.models import Model
from pipeline.settings.training import Training

MISSING_CATEGORY = ""


def feature_frame(
    rows: pd.DataFrame,
    training: Training,
    doubles: Collection[str] = (),
    timezone: str = "UTC",
    event_time: str = "",
) -> pd.DataFrame:
    """The features of `rows`, in a snapshot's neutral form, as a model takes them: numbers as float32, of which a time is one and a text
    two, those in `doubles` as float64, and categories as strings with '' for a missing value. `timezone` is that of the parts of times, and ages are
    counted to the column `event_time`."""
    numbers = _numbers(rows, training, doubles, timezone, event_time)
    return pd.concat([numbers, categories(rows, training)], axis=1)


def numbers_of(rows: pd.DataFrame, model: Model, doubles: Collection[str] = ()) -> pd.DataFrame:
    """`features_of` without the categories."""
    return _numbers(rows, model.training, doubles, model.source.timezone, model.source.event_time)


def _numbers(
    rows: pd.DataFrame, training: Training, doubles: Collection[str], timezone: str, event_time: str
) -> pd.DataFrame:
    columns = [replace(c, precision=precision_of(c, doubles)) for c in columns_of(training)]
    precisions = {name: column.precision for column in columns for name in column.matrix}
    matrix = number_matrix(rows, columns, zone_of(timezone), event_time)
    numbers = pd.DataFrame(matrix, index=rows.index, columns=list(precisions))
    return numbers.astype(precisions) if len({matrix.dtype.name, *precisions.values()}) > 1 else numbers


def categories(rows: pd.DataFrame, training: Training) -> pd.DataFrame:
    """The categories of `rows` as a model takes them: strings, with '' for a missing value."""
    if not training.categorical:
        return rows[[]]
    taken = {column: _texts(rows[column]) for column in training.categorical}
    return pd.DataFrame(taken, index=rows.index, dtype=object)


def _texts(cells: pd.Series) -> np.ndarray:
    """object (rows,). Equal texts are one object: pandas would make a string for each of a million cells, four times the memory of the
    cells themselves, and encoders hash each string once."""
    codes, different = pd.factorize(cells)
    texts = np.append(different.to_numpy(object), MISSING_CATEGORY)
    return texts[codes]


def instants(times: pd.Series) -> np.ndarray:
    """Times in UTC, datetime64[us]. pandas would make an object of each."""
    return times.to_numpy("datetime64[us]")


def features_of(rows: pd.DataFrame, model: Model, doubles: Collection[str] = ()) -> pd.DataFrame:
    """`feature_frame` by the model's settings."""
    return feature_frame(rows, model.training, doubles, model.source.timezone, model.source.event_time)


def precision_of(column: Column, doubles: Collection[str]) -> Precision:
    """float64 where one of the column's numbers is among `doubles`, else float32, which is what ONNX computes in."""
    return "float64" if any(name in doubles for name in column.matrix) else "float32"


def columns_of(training: Training) -> tuple[Column, ...]:
    """The features as params.yaml lists them, without what a snapshot says of them."""
    lists: tuple[tuple[tuple[str, ...], Kind], ...] = (
        (training.numeric, "number"),
        (training.datetime, "datetime"),
        (training.text, "text"),
        (training.categorical, "category"),
    )
    return tuple(_column(name, kind, training) for names, kind in lists for name in names)


def _column(name: str, kind: Kind, training: Training) -> Column:
    match kind:
        case "datetime":
            return Column(name, kind, parts=training.calendar_of(name))
        case "text":
            return Column(name, kind, groups=training.words)
    return Column(name, kind)


def schema_of(model: Model, snapshot: Path | None = None) -> Schema:
    """The schema that was drawn with the snapshot. Without one, or from before schemas: numbers, and texts as they are."""
    drawn = Schema.of_snapshot(snapshot) if snapshot is not None else None
    if drawn is not None:
        return drawn
    source = model.source
    return Schema(columns_of(model.training), source.key or "", source.event_time, source.timezone, source.epoch)


def records(rows: pd.DataFrame, schema: Schema) -> list[dict[str, Any]]:
    """Rows as a JSON request has them, with their event time where an age is counted to it."""
    written = {column.name: _written(rows[column.name], column) for column in schema.columns}
    if Ages(schema.columns):
        written[schema.event_time] = [canonical(moment) for moment in rows[schema.event_time].tolist()]
    return [dict(zip(written, row, strict=True)) for row in zip(*written.values(), strict=True)]


def _written(cells: pd.Series, column: Column) -> list[Any]:
    if column.kind in ("category", "datetime", "text"):
        # A time and a text are written as they are.
        values = cells.astype(object).where(cells.notna(), None).tolist()
    else:
        values = cells.astype(column.precision).tolist()
    if column.kind in ("number", "category", "text"):
        # As `Column.written` does, without a call for each of millions of cells.
        return [None if value is None or value != value or value == "" else value for value in values]
    return [column.written(value) for value in values]


def held_out(rows: pd.DataFrame, model: Model) -> pd.Series:
    """True for the rows of the window's last `holdout_days`, which training never sees."""
    return rows[model.source.event_time] >= model.held_out_from


def before_held_out(rows: pd.DataFrame, model: Model) -> pd.DataFrame:
    """The rows that are not held out. In a snapshot they come first, and then nothing is copied."""
    out = held_out(rows, model).to_numpy()
    first = len(out) - int(out.sum())
    return rows.iloc[:first] if not out[:first].any() else rows[~out]


def taught(rows: pd.DataFrame, model: Model) -> pd.DataFrame:
    """The rows that what is served learns from."""
    return rows if model.evaluation.refit else before_held_out(rows, model)


def trained_to(held_out_rows: pd.DataFrame, model: Model) -> str:
    """The end of the event times that a served model learnt from, itself not one of them, in UTC.

    By the rows alone, so that the same rows give the same package whatever the as-of.
    """
    times = pd.to_datetime(held_out_rows[model.source.event_time], utc=True)
    end = times.max() + pd.Timedelta(microseconds=1) if model.evaluation.refit else times.min()
    return str(end.isoformat())
