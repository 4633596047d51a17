"""Drift between two files, without a model: every column that both have.

The first file says what a column is. In a CSV it is of numbers or times when all of its cells are, by the rule of a CSV source; a
column with leading zeros is one of codes, which are text.
"""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import duckdb
import numpy as np
import pandas as pd

from pipeline.data import text_sql, unread
from pipeline.data.csv_files import CsvReader
from pipeline.data.sql import quoted
from pipeline.errors import DataError
from pipeline.monitoring import drift_exchanged, drift_picture
from pipeline.monitoring.drift import DriftVerdict, Window, compare
from pipeline.monitoring.profiles.file_columns import Change, FileColumns, names_of
from pipeline.monitoring.profiles.in_memory import profile_of
from pipeline.monitoring.profiles.layout import Table
from pipeline.monitoring.profiles.profile import Profile
from pipeline.monitoring.profiles.reference import Reference, reference_of
from pipeline.settings.columns import named_twice
from pipeline.settings.models import DriftLimits
from pipeline.settings.source import CSV_SUFFIXES, Csv

Kind = Literal["number", "time", "category"]


@dataclass(frozen=True)
class Comparison:
    """The verdict, and the counts that it was made of."""

    drift: DriftVerdict
    reference: Reference
    now: Profile


def compare_files(reference: Path, current: Path, report: Path | None = None) -> Comparison:
    """Judges `current` against `reference`: each a file (Parquet or CSV), a folder of them or a glob. A column that `current` lacks has no
    verdict, and without it there is no calm. Raises DataError when they cannot be compared."""
    before = _read(reference, None)
    kinds = {column: _kind(before[column]) for column in before.columns}
    now = _read(current, kinds)
    numeric, missing = _there(now, [c for c, kind in kinds.items() if kind == "number"])
    not_numeric = [c for c in numeric if _kind(now[c]) != "number"]
    if not_numeric:
        raise DataError(
            str(current),
            f"column {not_numeric[0]} is not a number as in {reference}",
            "correct the program that writes it",
        )
    # A column that differs in nearly every row is an identifier, not a feature.
    texts = [c for c, kind in kinds.items() if kind == "category"]
    categorical, no_texts = _there(now, [c for c in texts if before[c].nunique() <= 0.9 * len(before)])
    before, now = (_with_texts(table, categorical) for table in (before, now))
    times = next((before[c] for c in before.columns if kinds[c] == "time" and before[c].notna().all()), None)
    profiled = reference_of(before, numeric, categorical, times)
    counted = profile_of(now, profiled.layout)
    names = [c for c in texts if c not in categorical and c not in no_texts]
    judged = _named(before, now, numeric, times, compare(profiled, Window(counted), DriftLimits()))
    judged = _not_compared(names, [c for c, kind in kinds.items() if kind == "time"], judged)
    verdict = _without([*missing, *no_texts], current, judged)
    if report is not None and verdict.features:
        columns, rows = [*numeric, *categorical], DriftLimits().sample_rows
        then, today = (_drawn(table, columns, rows) for table in (before, now))
        drift_picture.draw(then, today, numeric, categorical, rows, report)
    return Comparison(verdict, profiled, counted)


def _there(now: Table, columns: Sequence[str]) -> tuple[list[str], list[str]]:
    """(those of the columns that the table has, the others)."""
    there = [column for column in columns if column in now.columns]
    return there, [column for column in columns if column not in there]


def _named(
    before: Table, now: Table, numeric: Sequence[str], times: pd.Series | None, found: DriftVerdict
) -> DriftVerdict:
    """With the faults that can be named."""
    columns = drift_exchanged.columns_of(numeric, {})
    if not columns or not found.features:
        return found
    looked = drift_exchanged.of_table(before, times, columns).judged(now)
    return drift_exchanged.with_named(found, looked, DriftLimits(), {})


def _without(missing: Sequence[str], current: Path, found: DriftVerdict) -> DriftVerdict:
    if not missing:
        return found
    said = f"no verdict on {', '.join(map(str, missing))}: {current} has no such column"
    verdict: Literal["drift", "no verdict"] = "drift" if found.verdict == "drift" else "no verdict"
    return replace(found, verdict=verdict, reason=f"{found.reason}; {said}")


def _not_compared(names: Sequence[str], times: Sequence[str], found: DriftVerdict) -> DriftVerdict:
    """Says which columns nobody looked at: amounts such as $12.50 are texts that differ in nearly every row."""
    said = [
        f"{', '.join(columns)} ({why})"
        for columns, why in ((names, "another text in nearly every row"), (times, "times"))
        if columns
    ]
    return replace(found, reason=f"{found.reason}; not compared: {', '.join(said)}") if said else found


def _kind(column: pd.Series) -> Kind:
    if pd.api.types.is_datetime64_any_dtype(column):
        return "time"
    number = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    return "number" if number else "category"


def _as_text(column: pd.Series) -> pd.Series:
    """The categories as text. Truth values are "true" and "false", however a file spells them."""
    text = column.astype("string")
    lower = text.str.lower()
    truth = pd.api.types.is_bool_dtype(column) or lower.dropna().isin(["true", "false"]).all()
    return (lower if truth else text).astype(object)


def _files(path: Path) -> list[Path]:
    """The file itself, those in a folder and below it, or those that a glob matches. Raises DataError when there is none, or of two forms."""
    if path.is_dir():
        files = sorted(f for f in path.rglob("*") if f.name.endswith((".parquet", *CSV_SUFFIXES)) and f.is_file())
    elif path.exists() or not glob.has_magic(str(path)):
        return [path]
    else:
        files = sorted(Path(found) for found in glob.glob(str(path), recursive=True) if Path(found).is_file())
    if not files:
        raise DataError(str(path), "has no Parquet or CSV file", "check the folder or the pattern")
    if len({file.name.endswith(CSV_SUFFIXES) for file in files}) > 1:
        raise DataError(str(path), "has CSV and other files", "name those of one form, like folder/*.parquet")
    return files


def _read(path: Path, kinds: Mapping[str, Kind] | None) -> Table:
    files = _files(path)
    if files[0].name.endswith(CSV_SUFFIXES):
        return _read_csv(path, files, kinds)
    return _parquet(files)


def _parquet(files: Sequence[Path]) -> FileColumns:
    """Of large files a column at a time is in memory. Raises DataError for a damaged file, and for files that differ in their columns."""
    names: dict[Path, list[str]] = {}
    nested: set[str] = set()
    for file in files:
        try:
            names[file] = names_of(file)
            # A file can end anywhere: each of its columns is read once before any is judged.
            nested |= {n for n in names[file] if _is_nested(pd.read_parquet(file, columns=[n]).iloc[:, 0])}
        except (OSError, ValueError) as error:
            raise DataError(
                str(file),
                f"cannot be read as Parquet ({str(error).splitlines()[0]})",
                "check that the file exists and is complete",
            ) from error
        _refuse_other_columns(file, names[file], files[0], names[files[0]])
    return FileColumns(files).changed(dict.fromkeys(nested, _flat))


def _is_nested(column: pd.Series) -> bool:
    some = column.dropna().head(1) if column.dtype == object else column.head(0)
    return any(isinstance(cell, (dict, list, np.ndarray)) for cell in some)


def _flat(column: pd.Series) -> pd.Series:
    """Lists and structs are compared as text."""
    return column.map(str, na_action="ignore")


def _with_texts(table: Table, categorical: Sequence[str]) -> Table:
    if isinstance(table, FileColumns):
        return table.changed({c: _text_after(table.changes.get(c)) for c in categorical})
    return table.assign(**{c: _as_text(table[c]) for c in categorical})


def _text_after(change: Change | None) -> Change:
    return lambda column: _as_text(change(column) if change else column)


def _drawn(table: Table, columns: Sequence[str], rows: int) -> pd.DataFrame:
    return table.some(columns, rows) if isinstance(table, FileColumns) else table


def _refuse_other_columns(file: Path, names: Sequence[str], first: Path, expected: Sequence[str]) -> None:
    if other := sorted(set(names) ^ set(expected)):
        raise DataError(
            str(file), f"has not the columns of {first}: they differ in {', '.join(other)}", "compare them alone"
        )


def _read_csv(path: Path, files: Sequence[Path], kinds: Mapping[str, Kind] | None) -> pd.DataFrame:
    """The files' columns, typed by `kinds`, or without them by all of their cells. A column without a name is left out."""
    reader = CsvReader(Csv())
    headers = {file: reader.header(file) for file in files}
    for file, header in headers.items():
        if not header:
            raise DataError(str(file), "is empty", "check what writes it")
        reader.refuse_one_column(file, header)
        _refuse_other_columns(file, header, files[0], headers[files[0]])
        reader.refuse(file, header, [name for name in header if name])
    columns = [name for name in headers[files[0]] if name]
    if twice := named_twice(columns):
        raise DataError(str(path), f"has the column {twice[0]} twice, but for its case", "rename one of them")
    # Their columns may be in another order.
    parts = [reader.relation([file], headers[file], columns) for file in files]
    with duckdb.connect() as connection, reader.readable(str(path)):
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"CREATE TABLE texts AS {' UNION ALL '.join(parts)}")
        kinds = kinds or _kinds_of_texts(connection, columns)
        numbers = [column for column in columns if kinds.get(column) == "number"]
        times = {c: text_sql.time(text_sql.stripped(quoted(c))) for c in columns if kinds.get(c) == "time"}
        values = unread.numbers(numbers, ".")
        frame = connection.sql(unread.with_values("texts", columns, values)).df()
        for column, value in times.items():
            frame[column] = connection.sql(f"SELECT {value} AS t FROM texts").df()["t"]
    _refuse_unread(path, frame.pop(unread.COLUMN), len(frame))
    return frame


def _kinds_of_texts(connection: duckdb.DuckDBPyConnection, columns: Sequence[str]) -> dict[str, Kind]:
    kinds: dict[str, Kind] = {}
    for column in columns:
        cell, number, time = "cell", text_sql.number("cell"), text_sql.time("cell")
        ((no_numbers, no_times, codes),) = connection.execute(
            f"SELECT count(*) FILTER ({text_sql.unreadable(cell, number)}),"
            f" count(*) FILTER ({text_sql.unreadable(cell, time)}),"
            f" count(*) FILTER (regexp_matches(cell, '^[+-]?0\\d'))"
            f" FROM (SELECT {text_sql.stripped(quoted(column))} AS cell FROM texts)"
        ).fetchall()
        kinds[column] = "number" if not no_numbers and not codes else "category" if no_times else "time"
    return kinds


def _refuse_unread(path: Path, unread_cells: pd.Series, rows: int) -> None:
    """Raises DataError for a text in a column that the other file has as numbers."""
    cells = [unread.cells(text) for text in unread_cells.dropna()]
    for column in dict.fromkeys(column for row in cells for column in row):
        texts = [row[column] for row in cells if column in row]
        raise DataError(
            str(path),
            f"column {column} is no number in {len(texts):,} of {rows:,} rows, e.g. {texts[0]!r:.60}",
            "correct the program that writes it",
        )
