"""Parquet files as one of two tables that are compared, with what a CSV of them would have: dates and texts that spell times are times,
decimals are numbers, and lists are texts.

Of large files a column at a time is in memory. That opens a file anew for each column, so smaller ones are read whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd

from pipeline.data import text_sql
from pipeline.errors import DataError
from pipeline.monitoring.profiles.file_columns import Change, FileColumns, changed, names_of, part_of
from pipeline.monitoring.profiles.layout import Table

# Numbers of them take 40 MB, texts several times as much.
MOST_CELLS = 5_000_000


def table_of(files: Sequence[Path]) -> Table:
    """The rows of all files. Raises DataError for a damaged file, and for one whose columns are not those of the first."""
    cells = 0
    columns: list[str] = []
    for file in files:
        with _readable(file):
            names = names_of(file)
            columns = columns or names
            cells += len(columns) * len(FileColumns([file]))
        refuse_other_columns(file, names, files[0], columns)
    kinds: dict[str, set[str]] = {name: set() for name in columns}
    parts = []
    # A file can end anywhere: each of its columns is read once before any is judged.
    with duckdb.connect() as database:
        for file in files:
            for some in [columns] if cells <= MOST_CELLS else [[name] for name in columns]:
                with _readable(file):
                    part = part_of(file, some)
                for name in some:
                    kinds[name].add(_kind(part[name], database))
                parts += [part] if cells <= MOST_CELLS else []
    return changed(pd.concat(parts, ignore_index=True) if parts else FileColumns(files), _changes(kinds))


def refuse_other_columns(file: Path, names: Sequence[str], first: Path, expected: Sequence[str]) -> None:
    """Raises DataError where the names are not those of the first file, in any order."""
    if other := sorted(set(names) ^ set(expected)):
        raise DataError(
            str(file), f"has not the columns of {first}: they differ in {', '.join(other)}", "compare them alone"
        )


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        raise DataError(
            str(file),
            f"cannot be read as Parquet ({str(error).splitlines()[0]})",
            "check that the file exists and is complete; the name of a CSV file ends in .csv or .csv.gz",
        ) from error


def _kind(column: pd.Series, database: duckdb.DuckDBPyConnection) -> str:
    """By its first value: what one has that all of a file's column have; '' without any."""
    if pd.api.types.is_datetime64_any_dtype(column):
        return "moment"
    some = column.dropna().head(1)
    cell = some.iloc[0] if len(some) else None
    if isinstance(cell, (dict, list, np.ndarray)):
        return "nested"
    if isinstance(cell, bytes):
        return "bytes"
    if isinstance(cell, Decimal):
        return "decimal"
    if isinstance(cell, date):
        return "date"
    if isinstance(cell, str) and _times_by(database, some).notna().all():
        # As a rule the first text tells that the others are none.
        return "date" if _times_by(database, column).notna().sum() == column.notna().sum() else "other"
    return "" if cell is None else "other"


def _changes(kinds: Mapping[str, set[str]]) -> dict[str, Change]:
    """What becomes of each column whose values in all files are of these kinds."""
    changes: dict[str, Change] = {}
    for name, all_kinds in kinds.items():
        of = all_kinds - {""}
        if "nested" in of:
            changes[name] = _flat
        elif "bytes" in of:
            changes[name] = _decoded
        elif "decimal" in of:
            changes[name] = _numbers
        elif of == {"moment"}:
            changes[name] = _of_one_zone
        elif of and of <= {"moment", "date"}:
            changes[name] = _times
    return changes


def _flat(column: pd.Series) -> pd.Series:
    return column.map(str, na_action="ignore")


def _decoded(column: pd.Series) -> pd.Series:
    """Bytes that are no text are written as such."""
    return column.map(
        lambda cell: cell.decode("utf-8", "backslashreplace") if isinstance(cell, bytes) else str(cell),
        na_action="ignore",
    )


def _numbers(column: pd.Series) -> pd.Series:
    return pd.to_numeric(column, errors="coerce").astype("float64")


def _of_one_zone(column: pd.Series) -> pd.Series:
    """Times of several files may be of several zones, and of none."""
    return pd.to_datetime(column, utc=True)


def _times(column: pd.Series) -> pd.Series:
    """The times that the cells spell in the forms of a CSV source, NaT for all others."""
    with duckdb.connect() as database:
        return _times_by(database, column)


def _times_by(database: duckdb.DuckDBPyConnection, column: pd.Series) -> pd.Series:
    """`_times` of one column after another: to open a database takes ten times as long as to ask for a cell."""
    database.execute("SET TimeZone = 'UTC'")
    database.register("texts", pd.DataFrame({"cell": column.astype("string").astype(object).to_numpy()}))
    read = database.sql(f"SELECT {text_sql.time(text_sql.stripped('cell'))} AS at FROM texts").df()
    return pd.to_datetime(read["at"], utc=True).set_axis(column.index).rename(column.name)
