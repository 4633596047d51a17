"""A table of a DuckDB file, and beside it TABLE_refused: one transaction for an interval.

DuckDB lets one process at a time write a file, so another one is waited for.
"""

from __future__ import annotations

import time
from pathlib import Path

import duckdb

from pipeline.data.sql import column_types, quoted
from pipeline.runs.destinations.base import REFUSED, REFUSED_TABLE, SCORES, DestinationError
from pipeline.runs.scoring_interval import Interval

WAIT_S = 120.0
REFUSED_TYPES = {
    "interval_start": "TIMESTAMPTZ",
    "interval_end": "TIMESTAMPTZ",
    "row": "BIGINT",
    "reason": "VARCHAR",
    "version": "VARCHAR",
    "cells": "VARCHAR",
}


class DuckdbFile:
    """Another process that writes the file is waited for, WAIT_S seconds at the most; then DestinationError is
    raised."""

    def __init__(self, file: Path, table: str, model: str, parts: Path, key: str) -> None:
        self._file, self._table, self._model, self._parts, self._key = file, table, model, parts, key

    def folder(self, interval: Interval) -> Path:
        return self._parts / interval.name

    def replace(self, interval: Interval, files: Path) -> None:
        scores = {"file": str(files / SCORES)}, "read_parquet($file)"
        types = ", ".join(f"{name}: '{kind}'" for name, kind in REFUSED_TYPES.items())
        refused = (
            {"file": str(files / REFUSED)},
            f"read_json($file, format = 'newline_delimited', columns = {{{types}}})",
        )
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            connection = self._opened()
            try:
                connection.execute("SET TimeZone = 'UTC'")
                connection.execute("BEGIN")
                for table, (bound, relation) in ((self._table, scores), (self._table + REFUSED_TABLE, refused)):
                    self._replace(connection, table, interval, bound, relation)
                connection.execute("COMMIT")
            finally:
                connection.close()
        except (duckdb.Error, OSError) as error:
            raise self._failed(" ".join(str(error).split())[:300]) from error

    def _replace(
        self, connection: duckdb.DuckDBPyConnection, table: str, interval: Interval, bound: dict, relation: str
    ) -> None:
        name = ".".join(map(quoted, table.split(".")))
        if "." in table:
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(table.split('.')[0])}")
        rows = f"SELECT $model::VARCHAR AS model, * FROM {relation}"
        bound = {**bound, "model": self._model}
        connection.execute(f"CREATE TABLE IF NOT EXISTS {name} AS SELECT * FROM ({rows}) LIMIT 0", bound)
        there = column_types(connection, name)
        if not {"model", "interval_start", "interval_end"} <= set(there):
            raise self._failed(
                f"table {table} is another program's: it has no columns model, interval_start and interval_end"
            )
        for column, kind, *_ in connection.execute(f"DESCRIBE {rows}", bound).fetchall():
            if column not in there:
                connection.execute(f"ALTER TABLE {name} ADD COLUMN {quoted(column)} {kind}")
        key = {"model": self._model, "start": interval.start, "end": interval.end}
        connection.execute(
            f"DELETE FROM {name} WHERE model = $model AND interval_start = $start AND interval_end = $end", key
        )
        connection.execute(f"INSERT INTO {name} BY NAME {rows}", bound)

    def _opened(self) -> duckdb.DuckDBPyConnection:
        until = time.monotonic() + WAIT_S
        while True:
            try:
                return duckdb.connect(str(self._file))
            except duckdb.IOException as error:
                # Not "lock" alone: the message has the file's path.
                if "Could not set lock" not in str(error) or time.monotonic() > until:
                    raise
                time.sleep(0.2)

    def _failed(self, observed: str) -> DestinationError:
        return DestinationError(
            self._key, f"{self._file}: {observed}", "close it elsewhere, or name another file or table"
        )
