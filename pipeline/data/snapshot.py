"""The snapshot: the labelled rows of one training window as they were known at its as-of.

One Parquet file a day, written the same way byte for byte each time, so that DVC stores a day once
however many windows it is in. Nothing learned after the as-of gets in: rows end before it, and a label
counts only when its label_time is at or before it.
"""

from __future__ import annotations

import json
import shutil
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.data import source as source_rows
from pipeline.errors import DataError
from pipeline.params import Model, Source, Training


def window(source: Source, as_of: datetime) -> tuple[datetime, datetime]:
    """The training window [start, end) that ends at `as_of`."""
    return as_of - timedelta(days=source.window_days), as_of


def take(name: str, model: Model, root: Path, folder: Path, counts: Path) -> dict[str, int]:
    """Writes the snapshot of `model` into `folder` and its row counts into the JSON file `counts`.

    Returns {"in", "without_label", "label_later", "rows", "partitions"}; in = without_label + label_later + rows.
    Raises DataError for a source without rows, without a wanted column, or with a wrong type.
    """
    start, end = window(model.source, model.as_of)
    with source_rows.connect(root) as connection:
        source_rows.load(connection, model.source, start, end, name)
        told = _split_by_label(connection, name, model, start, end)
        told["partitions"] = _write_days(connection, model, folder)
    counts.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    return told


def _split_by_label(
    connection: duckdb.DuckDBPyConnection, name: str, model: Model, start: datetime, end: datetime
) -> dict[str, int]:
    types = source_rows.column_types(connection)
    source_rows.require(types, [*model.training.features, model.training.target], name)
    for column in [*model.training.numeric, model.training.target]:
        if not source_rows.is_number(types[column]):
            raise DataError(
                f"{name} source",
                f"column {column} holds {types[column]}, not a number",
                "cast it in the query, or list it under categorical",
            )
    target = source_rows.quoted(model.training.target)
    later = "FALSE"
    if model.source.label_time:
        label_time = source_rows.quoted(model.source.label_time)
        later = f"({label_time} IS NULL OR {label_time} > $end)"
    sql = f"""SELECT count(*), count(*) FILTER ({target} IS NULL),
                     count(*) FILTER ({target} IS NOT NULL AND {later}) FROM rows"""
    counted = connection.execute(sql, {"end": end} if "$end" in sql else {}).fetchone()
    total, without_label, label_later = counted or (0, 0, 0)
    if total == 0:
        raise DataError(
            f"{name} source",
            f"no rows from {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M}",
            "check as_of, window_days and that the data is there",
        )
    kept = total - without_label - label_later
    if kept == 0:
        raise DataError(
            f"{name} source",
            f"none of its {total} rows has a label known by {end:%Y-%m-%d %H:%M}",
            f"check {model.training.target} and {model.source.label_time}",
        )
    delete = f"DELETE FROM rows WHERE {target} IS NULL OR {later}"
    connection.execute(delete, {"end": end} if "$end" in delete else {})
    return {"in": total, "without_label": without_label, "label_later": label_later, "rows": kept}


def columns_sql(source: Source, training: Training) -> str:
    """The select list of a snapshot: fixed order and types, whatever the source's own are."""
    quoted = source_rows.quoted
    parts = [f"CAST({quoted(source.key)} AS VARCHAR) AS {quoted(source.key)}"]
    times = [source.event_time, *([source.label_time] if source.label_time else [])]
    parts += [f"CAST({quoted(c)} AS TIMESTAMPTZ) AS {quoted(c)}" for c in dict.fromkeys(times)]
    parts += [f"CAST({quoted(c)} AS DOUBLE) AS {quoted(c)}" for c in training.numeric]
    parts += [f"CAST({quoted(c)} AS VARCHAR) AS {quoted(c)}" for c in training.categorical]
    parts.append(f"CAST({quoted(training.target)} AS DOUBLE) AS {quoted(training.target)}")
    return ", ".join(dict.fromkeys(parts))


def _write_days(connection: duckdb.DuckDBPyConnection, model: Model, folder: Path) -> int:
    event, key = source_rows.quoted(model.source.event_time), source_rows.quoted(model.source.key)
    columns = columns_sql(model.source, model.training)
    table = source_rows.to_arrow(connection, f"SELECT * FROM (SELECT {columns} FROM rows) ORDER BY {event}, {key}")
    day = pc.strftime(table[model.source.event_time], format="%Y-%m-%d")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    days = pc.unique(day)
    for value in days:
        pq.write_table(table.filter(pc.equal(day, value)), folder / f"{value.as_py()}.parquet", compression="zstd")
    return len(days)
