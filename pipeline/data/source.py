"""Reads the rows of an interval from a model's source.

The source is DuckDB SQL with `$start` and `$end`, in which relative paths start at the project's folder; or a list of files (see
file_source); or a Python hook `module:function` that is called with (start, end) and returns a pandas frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import chdir, contextmanager
from datetime import datetime
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa

from pipeline.data import feature_times, file_source, labels, reserved_words, s3, source_times, statements, unread
from pipeline.data.hook_frame import write_rows
from pipeline.data.sampled_types import refuse_sampled_types
from pipeline.data.sql import column_types, quoted
from pipeline.data.text_sql import literal
from pipeline.data.user_code import hook_function
from pipeline.errors import DataError
from pipeline.settings.source import Source
from pipeline.settings.training import Training


def load(
    connection: duckdb.DuckDBPyConnection,
    source: Source,
    training: Training,
    start: datetime,
    end: datetime,
    subject: str,
    beside: Sequence[str] = (),
) -> list[str]:
    """Writes the source's answer for [start, end) into the table `rows`, with its times as TIMESTAMPTZ, features too, and its texts read.
    Of files it has the columns that the model names, and those `beside`. Returns what `unread.read` does.

    What of it could not be read is in the column `unread`. Raises DataError when the source cannot be read, when its key or a
    time is missing, or when a time column holds numbers.
    """
    folder = str(connection.execute("SELECT current_setting('file_search_path')").fetchall()[0][0])
    if "," in folder:
        raise DataError(
            f"{subject} source", "DuckDB accepts no search path with a comma", "move the project to another folder"
        )
    with readable(f"{subject} source", source.event_time), in_zone(connection, source.timezone):
        if source.query is not None:
            s3.let_read(connection, source.query)
            query = statements.prepared(connection, source.query, f"models.{subject}.source.query", Path(folder))
            refuse_sampled_types(connection, query, subject)
            bound = {"start": start, "end": end}
            connection.execute(f"CREATE OR REPLACE TEMP TABLE rows AS SELECT * FROM ({query}\n)", bound)
        elif source.files is not None:
            file_source.load(connection, source, training, Path(folder), start, end, subject, beside)
        else:
            write_rows(
                connection,
                _frame(source.hook or "", f"models.{subject}.source.hook", Path(folder), start, end),
                source.hook or "",
            )
        types = column_types(connection)
        require(types, source.own_columns, subject)
        source_times.refuse_other_types(source, types, subject)
        labels.read(connection, training, source.csv.decimal if source.kind == "files" else ".", subject)
        merged = unread.read(connection, source, training, subject)
        types = column_types(connection)
        # A time may be a date, with or without a zone, in any precision. One type makes them comparable.
        for column in source.times:
            instant = f"CAST({quoted(column)} AS TIMESTAMPTZ)"
            if unread.ends_with_its_day(source, column) and types[column] == "DATE":
                instant = f"{instant} + INTERVAL 1 DAY"
            connection.execute(f"ALTER TABLE rows ALTER {quoted(column)} TYPE TIMESTAMPTZ USING {instant}")
        feature_times.read(connection, source, training, subject)
    return merged


@contextmanager
def in_zone(connection: duckdb.DuckDBPyConnection, zone: str) -> Iterator[None]:
    """In the block DuckDB reads times without a zone as times of `zone`: an hour that a clock goes through twice is its second time,
    so that nothing is known too early, and one that it leaves out is the hour after."""
    connection.execute(f"SET TimeZone = {literal(zone)}")
    try:
        yield
    finally:
        connection.execute("SET TimeZone = 'UTC'")


def keep_window(
    connection: duckdb.DuckDBPyConnection,
    source: Source,
    start: datetime,
    end: datetime,
    as_of: datetime | None = None,
) -> int:
    """Deletes the rows whose event time is not in [start, end), and those that arrived after `as_of`, or `end`; returns how many had no
    event time.

    Nobody knew of a row before its `arrival_time`, so it is not even counted: at `end` there was none to count.
    """
    event = quoted(source.event_time)
    if source.arrival_time is not None:
        connection.execute(f"DELETE FROM rows WHERE {quoted(source.arrival_time)} > $as_of", {"as_of": as_of or end})
    without_time = connection.execute(f"SELECT count(*) FROM rows WHERE {event} IS NULL").fetchall()
    outside = f"{event} IS NULL OR {event} < $start OR {event} >= $end"
    connection.execute(f"DELETE FROM rows WHERE {outside}", {"start": start, "end": end})
    return int(without_time[0][0])


@contextmanager
def readable(subject: str, event_time: str = "") -> Iterator[None]:
    """Raises DataError, in one line, for an error of DuckDB in the block."""
    try:
        yield
    except duckdb.Error as error:
        text = str(error)
        check = reserved_words.advice(text) or "run its query in DuckDB from the project's folder"
        if s3.is_fault(text):
            text, check = s3.what_failed(text), s3.CHECK
        first = " ".join(text.split())[:300]
        if event_time and "_NS and type" in first:
            check = f"its times are in nanoseconds: write {event_time}::TIMESTAMPTZ in the query"
        raise DataError(subject, first, check) from error


def _frame(hook: str, key: str, folder: Path, start: datetime, end: datetime) -> pd.DataFrame:
    """What the hook returns. Its code is that of the run; its relative paths start at the project, `folder`, as a query's do."""
    function = hook_function(hook, key)
    try:
        with chdir(folder):
            frame = function(start, end)
    except Exception as error:  # a user's code may raise anything
        raise DataError(
            f"{key} {hook}", f"raised {type(error).__name__}: {error}", "call it in a Python shell to see where"
        ) from error
    if not isinstance(frame, pd.DataFrame):
        raise DataError(
            f"{key} {hook}",
            f"returned {type(frame).__name__}, not a pandas frame",
            "return one, as docs/params.md shows",
        )
    return frame


def require(types: dict[str, str], columns: list[str], subject: str) -> None:
    """Raises DataError when one of `columns` is missing in `types`, a table's columns."""
    missing = [column for column in columns if column not in types]
    if missing:
        raise DataError(
            f"{subject} source",
            f"has no column {', '.join(missing)}",
            f"add it; the columns are {', '.join(name for name in types if name != unread.COLUMN)}",
        )


def to_arrow(connection: duckdb.DuckDBPyConnection, sql: str, bound: dict | None = None) -> pa.Table:
    """The result of `sql`, with the values of `bound`, as one Arrow table."""
    return connection.sql(sql, params=bound or {}).to_arrow_table()
