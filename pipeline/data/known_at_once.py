"""What many windows of a source's rows would be known by, each at its end, by one reading for all of them.

It is right for a source whose answer for a window is the part of its answer for a longer time that lies in the window. Most are; one that
counts something since `$start` is not. So who goes by it reads some window by itself too, and compares (see `snapshot.known`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import duckdb

from pipeline.data import snapshot, sql, unread
from pipeline.data import source as source_rows
from pipeline.settings.models import Model

# As `keep_window` and `delete_unlabelled` leave it.
KNOWN = "NOT coalesce(labelled > $end, FALSE) AND NOT coalesce(arrived > $end, FALSE)"


def fingerprints(name: str, model: Model, root: Path, windows: Sequence[tuple[datetime, datetime]]) -> list[str]:
    """The `fingerprint` of what `snapshot.known` gives for each window [start, end) as of its end. Raises DataError as that does."""
    start, end = min(start for start, _ in windows), max(end for _, end in windows)
    with sql.connect(root) as connection:
        merged = source_rows.load(connection, model.source, model.training, start, end, name)
        source_rows.keep_window(connection, model.source, start, end)
        types = snapshot.required_types(connection, name, model, merged)
        snapshot.delete_unlabelled(connection, name, model, start, end)
        _hash_rows(connection, model, types)
        query = f"SELECT day, row FROM hashed WHERE moment >= $start AND moment < $end AND {KNOWN}"
        return [
            snapshot.fingerprint(snapshot.days_of(connection, query, {"start": start, "end": end}), types)
            for start, end in windows
        ]


def _hash_rows(connection: duckdb.DuckDBPyConnection, model: Model, types: dict[str, str]) -> None:
    """Makes the table `hashed` of `rows`: of each its day, its times and the hash of what a snapshot has of it."""
    columns = snapshot.columns_sql(model.source, model.training, types)
    arrived, arrival = _other_than(types), model.source.arrival_time
    known = f"CAST({sql.quoted(arrival)} AS TIMESTAMPTZ)" if arrival else "NULL::TIMESTAMPTZ"
    with source_rows.readable("source"):
        laid_out = f"SELECT {columns}, {unread.COLUMN}, {known} AS {arrived} FROM rows"
        of_landing = source_rows.column_types(connection, f"({laid_out})")
        row = snapshot.row_hash(column for column in of_landing if column != arrived)
        labelled = sql.quoted(model.source.label_time) if model.source.label_time else "NULL::TIMESTAMPTZ"
        times = f"{sql.quoted(model.source.event_time)} AS moment, {labelled} AS labelled, {arrived} AS arrived"
        connection.execute(
            f"CREATE TEMP TABLE hashed AS SELECT {snapshot.day_of(model.source)} AS day, {times}, {row} AS row FROM ({laid_out})"
        )


def _other_than(types: dict[str, str]) -> str:
    """A name for one more column."""
    name, taken = "arrived", {column.lower() for column in types}
    while name in taken:
        name += "_"
    return name
