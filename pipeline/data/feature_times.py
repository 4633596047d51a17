"""The features under `training.datetime` become instants: TIMESTAMPTZ, whatever type their column has.

Texts are read before (see unread). A time without a zone is one of `source.timezone`, and a date is the begin of its day there, as for
a request.
"""

from __future__ import annotations

import duckdb

from pipeline.data.sql import column_types, is_number, quoted
from pipeline.errors import DataError
from pipeline.settings.source import Source
from pipeline.settings.training import Training

WITH_ZONE = "TIMESTAMP WITH TIME ZONE"
# What pandas writes into Parquet; DuckDB has few functions for it, and it holds no year beyond 1677 and 2262.
NANOS_WITH_ZONE = "TIMESTAMPTZ_NS"
WITHOUT_ZONE = ("DATE", "TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS")


def read(connection: duckdb.DuckDBPyConnection, source: Source, training: Training, subject: str) -> None:
    """Changes the type of these columns in the table `rows`; the session's time zone is the source's.

    Raises DataError for a column that holds no times, and for a time that is infinite or in no year from 1 to 9999.
    """
    types = column_types(connection)
    for column in [column for column in training.datetime if column in types]:
        held, cell = types[column], quoted(column)
        if held in (WITH_ZONE, *WITHOUT_ZONE):
            _refuse_outside(connection, source, column, subject)
            instant = cell if held == WITH_ZONE else f"CAST({_micros(cell, held)} AS TIMESTAMPTZ)"
        elif held == NANOS_WITH_ZONE:
            instant = f"make_timestamptz({_whole_micros(cell)})"
        elif _count(connection, f"{cell} IS NOT NULL") == 0:
            # The type of an empty column says nothing.
            instant = "NULL::TIMESTAMPTZ"
        else:
            advice = _advice(source, held, subject)
            raise DataError(f"{subject} source", f"column {column} holds {held}, not a time", advice)
        connection.execute(f"ALTER TABLE rows ALTER {cell} TYPE TIMESTAMPTZ USING {instant}")


def _micros(cell: str, held: str) -> str:
    """The TIMESTAMP of a cell without a zone. A cast would round what is finer than a microsecond, and a text's is cut."""
    if held != "TIMESTAMP_NS":
        return f"CAST({cell} AS TIMESTAMP)"
    return f"make_timestamp({_whole_micros(cell)})"


def _whole_micros(cell: str) -> str:
    """The microseconds since 1970 of a cell in nanoseconds, without what is finer."""
    nanos = f"epoch_ns({cell})"
    return f"({nanos} - ({nanos} % 1000 + 1000) % 1000) // 1000"


def _refuse_outside(connection: duckdb.DuckDBPyConnection, source: Source, column: str, subject: str) -> None:
    cell = quoted(column)
    outside = _count(connection, f"NOT isfinite(CAST({cell} AS TIMESTAMP)) OR year({cell}) NOT BETWEEN 1 AND 9999")
    if outside:
        raise DataError(
            f"{subject} source",
            f"column {column} holds {outside:,} times that are infinite, or in no year from 1 to 9999",
            f"make them NULL where the data is made, or in models.{subject}.source.{_where(source)}",
        )


def _count(connection: duckdb.DuckDBPyConnection, condition: str) -> int:
    return int(connection.execute(f"SELECT count(*) FILTER ({condition}) FROM rows").fetchall()[0][0])


def _advice(source: Source, held: str, subject: str) -> str:
    if is_number(held):
        return f"list it in models.{subject}.training.numeric, or make a time of it in models.{subject}.source.{_where(source)}"
    return f"cast it in models.{subject}.source.{_where(source)}"


def _where(source: Source) -> str:
    return "query" if source.kind == "files" else source.kind
