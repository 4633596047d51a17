"""Asks a model's source for the rows of an interval.

The source is DuckDB SQL with `$start` and `$end` (relative paths start at the project's folder), or a
Python hook `module:function` called with (start, end) that returns a pandas frame.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow as pa

from pipeline.errors import DataError, SettingsError
from pipeline.params import Source

NUMBER = (
    "TINYINT",
    "SMALLINT",
    "INTEGER",
    "BIGINT",
    "HUGEINT",
    "UTINYINT",
    "USMALLINT",
    "UINTEGER",
    "UBIGINT",
    "UHUGEINT",
    "FLOAT",
    "DOUBLE",
    "DECIMAL",
    "BOOLEAN",
)


def connect(root: Path) -> duckdb.DuckDBPyConnection:
    """A private connection whose relative paths start at `root` and whose times are UTC."""
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(f"SET file_search_path = '{str(root).replace(chr(39), chr(39) * 2)}'")
    return connection


def load(connection: duckdb.DuckDBPyConnection, source: Source, start: datetime, end: datetime, subject: str) -> None:
    """Puts the source's rows with event time in [start, end) into the table `rows`.

    Raises DataError when the source cannot be read or lacks its key or times.
    """
    try:
        if source.query is not None:
            query = source.query.strip().rstrip(";")
            bound = {"start": start, "end": end}
            connection.execute(f"CREATE OR REPLACE TEMP TABLE rows AS SELECT * FROM ({query}\n)", bound)
        else:
            frame = hooked(source.hook or "")(start, end)
            connection.register("hooked", frame)
            connection.execute("CREATE OR REPLACE TEMP TABLE rows AS SELECT * FROM hooked")
            connection.unregister("hooked")
    except duckdb.Error as error:
        first = " ".join(str(error).split())[:300]
        raise DataError(f"{subject} source", first, "run its query in DuckDB from the project's folder") from error
    types = column_types(connection)
    require(types, [source.key, source.event_time, *([source.label_time] if source.label_time else [])], subject)
    event = quoted(source.event_time)
    connection.execute(
        f"DELETE FROM rows WHERE {event} IS NULL OR {event} < $start OR {event} >= $end", {"start": start, "end": end}
    )


def hooked(hook: str) -> Callable:
    """The function that `module:function` names. Raises SettingsError when there is none."""
    module, _, function = hook.partition(":")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingsError(f"hook {hook}", str(error), "write it as module:function, importable here") from error


def column_types(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """Column name to DuckDB type of the table `rows`."""
    return {row[0]: str(row[1]) for row in connection.execute("DESCRIBE rows").fetchall()}


def require(types: dict[str, str], columns: list[str], subject: str) -> None:
    """Raises DataError when `columns` are not all there."""
    missing = [column for column in columns if column not in types]
    if missing:
        raise DataError(f"{subject} source", f"has no column {', '.join(missing)}", f"it has: {', '.join(types)}")


def is_number(duckdb_type: str) -> bool:
    return duckdb_type.upper().split("(")[0] in NUMBER


def quoted(column: str) -> str:
    """`column` as an SQL identifier."""
    return '"' + column.replace('"', '""') + '"'


def to_arrow(connection: duckdb.DuckDBPyConnection, sql: str, bound: dict | None = None) -> pa.Table:
    """The answer to `sql` as one Arrow table."""
    return connection.sql(sql, params=bound or {}).to_arrow_table()
