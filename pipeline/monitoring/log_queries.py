"""Queries over the files of a prediction log: a file that turns out damaged, or is merged away meanwhile, ends none of them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TypeVar

import duckdb

from pipeline.data import sql
from pipeline.errors import DataError
from pipeline.monitoring.log_reader import ATTEMPTS, LogFiles, LogReader
from pipeline.serving.log_files import GOLDEN, GOLDEN_ID

T = TypeVar("T")


def read(folder: Path, read_files: Callable[[duckdb.DuckDBPyConnection, LogFiles], T]) -> T:
    """What `read_files` makes of all files that can be read."""
    reader = LogReader(folder)
    for attempt in range(ATTEMPTS):
        files = _files_of(reader)
        try:
            with sql.connect(folder) as connection:
                return read_files(connection, files)
        except duckdb.Error:
            if attempt == ATTEMPTS - 1 or not _broken(files, reader):
                raise
    raise AssertionError


def _files_of(reader: LogReader) -> LogFiles:
    try:
        return reader.files()
    except OSError as error:
        check = "is it readable for this user?"
        raise DataError(f"prediction log {reader.folder}", f"cannot be read ({error})", check) from error


def _broken(files: LogFiles, reader: LogReader) -> bool:
    """Whether a file of these is damaged, which the reader then leaves out, or gone."""
    found = False
    for path in files.contents:
        if not path.exists():
            found = True
            continue
        try:
            with sql.connect(reader.folder) as connection:
                # So each value is read.
                connection.execute("SELECT max(hash(log)) FROM read_parquet($file) AS log", {"file": str(path)})
        except duckdb.Error as error:
            found = True
            reader.leave_out(path, error)
    return found


def golden(files: LogFiles) -> str:
    """The SQL for whether a row is a golden request's. Only a slot writes the column; older files lack it and go by the id."""
    by_id = f"starts_with(request_id, '{GOLDEN_ID}')"
    return f"coalesce({GOLDEN}, {by_id})" if files.golden else by_id


def feature(name: str, kind: str, logged: Collection[str]) -> str:
    """The SQL of a logged feature as DuckDB's type `kind`: NULL where it is none, or where the log does not have it."""
    return f"try_cast(features.{sql.quoted(name)} AS {kind})" if name in logged else f"CAST(NULL AS {kind})"
