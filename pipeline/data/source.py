"""Asks a model's source for the rows of an interval.

The source is DuckDB SQL with `$start` and `$end` (relative paths start at the project's folder), or a
Python hook `module:function` called with (start, end) that returns a pandas frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import duckdb
import pandas as pd
import pyarrow as pa

from pipeline.data.sql import is_number, quoted
from pipeline.data.user_code import hooked
from pipeline.errors import DataError
from pipeline.settings.models import Source


def load(connection: duckdb.DuckDBPyConnection, source: Source, start: datetime, end: datetime, subject: str) -> None:
    """Puts what the source answers for [start, end) into the table `rows`, its times as TIMESTAMPTZ.

    Raises DataError when the source cannot be read, or its key or times are missing or no times.
    """
    if "," in str(connection.execute("SELECT current_setting('file_search_path')").fetchall()[0][0]):
        raise DataError(f"{subject} source", "DuckDB takes no search path with a comma", "move the project's folder")
    with readable(f"{subject} source", source.event_time):
        if source.query is not None:
            query = source.query.strip().rstrip(";")
            bound = {"start": start, "end": end}
            connection.execute(f"CREATE OR REPLACE TEMP TABLE rows AS SELECT * FROM ({query}\n)", bound)
        else:
            connection.register("hooked", _frame(source.hook or "", start, end))
            connection.execute("CREATE OR REPLACE TEMP TABLE rows AS SELECT * FROM hooked")
            connection.unregister("hooked")
        types = column_types(connection)
        times = [source.event_time, *([source.label_time] if source.label_time else [])]
        require(types, [source.key, *times], subject)
        # Times come as dates, text, with and without a zone, in any precision: compared as one type, in UTC.
        for column in dict.fromkeys(times):
            if is_number(types[column]):
                raise DataError(
                    f"{subject} source", f"column {column} holds {types[column]}, not a time", "cast it in the query"
                )
            connection.execute(f"ALTER TABLE rows ALTER {quoted(column)} TYPE TIMESTAMPTZ")


def keep_window(connection: duckdb.DuckDBPyConnection, source: Source, start: datetime, end: datetime) -> int:
    """Leaves the rows with event time in [start, end); returns how many had none."""
    event = quoted(source.event_time)
    counted = connection.execute(f"SELECT count(*) FROM rows WHERE {event} IS NULL").fetchall()
    outside = f"{event} IS NULL OR {event} < $start OR {event} >= $end"
    connection.execute(f"DELETE FROM rows WHERE {outside}", {"start": start, "end": end})
    return int(counted[0][0])


@contextmanager
def readable(subject: str, event_time: str = "") -> Iterator[None]:
    """Tells what DuckDB says of the source in one line. Raises DataError."""
    try:
        yield
    except duckdb.Error as error:
        first = " ".join(str(error).split())[:300]
        check = "run its query in DuckDB from the project's folder"
        if event_time and "_NS and type" in first:
            check = f"nanoseconds: write {event_time}::TIMESTAMPTZ in the query"
        raise DataError(subject, first, check) from error


def _frame(hook: str, start: datetime, end: datetime) -> pd.DataFrame:
    function = hooked(hook)
    try:
        frame = function(start, end)
    except Exception as error:  # it is the user's code: whatever it raises is theirs to see
        raise DataError(f"hook {hook}", f"raised {type(error).__name__}: {error}", "call it by hand") from error
    if not isinstance(frame, pd.DataFrame):
        raise DataError(f"hook {hook}", f"returned {type(frame).__name__}, not a pandas frame", "see docs/params.md")
    return frame


def column_types(connection: duckdb.DuckDBPyConnection, table: str = "rows") -> dict[str, str]:
    """Column name to DuckDB type of a table."""
    return {row[0]: str(row[1]) for row in connection.execute(f"DESCRIBE {table}").fetchall()}


def require(types: dict[str, str], columns: list[str], subject: str) -> None:
    """Raises DataError when `columns` are not all there."""
    missing = [column for column in columns if column not in types]
    if missing:
        raise DataError(f"{subject} source", f"has no column {', '.join(missing)}", f"it has: {', '.join(types)}")


def to_arrow(connection: duckdb.DuckDBPyConnection, sql: str, bound: dict | None = None) -> pa.Table:
    """The answer to `sql` as one Arrow table."""
    return connection.sql(sql, params=bound or {}).to_arrow_table()
