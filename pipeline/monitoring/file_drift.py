"""Drift between two files, without a model: every column that both have.

The first file says what a column is. In a CSV it is of numbers or times when all of its cells are, by the rule of a CSV source; a
column with leading zeros is one of codes, which are text.
"""

from __future__ import annotations

import glob
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
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
from pipeline.monitoring.measures.missing_share import MissingShare
from pipeline.monitoring.parquet_tables import refuse_other_columns, table_of
from pipeline.monitoring.profiles.file_columns import Change, FileColumns, changed
from pipeline.monitoring.profiles.in_memory import profile_of
from pipeline.monitoring.profiles.layout import Table, as_float
from pipeline.monitoring.profiles.profile import Profile
from pipeline.monitoring.profiles.reference import Reference, reference_of
from pipeline.settings.columns import named_twice
from pipeline.settings.models import DriftLimits
from pipeline.settings.source import CSV_SUFFIXES, Csv

Kind = Literal["number", "time", "category"]
ONE_DAY = timedelta(days=1)
# A window that is shorter is one of hours.
MOST_OF_A_DAY = 0.75
# A column with another value in so many of its rows is an identifier, not a feature; numbers are, if they are in order too.
IDENTIFIER, FEWEST_COUNTED = 0.9, 20
# A name that no column of theirs has: mails are read or unread.
UNREAD = "perennial unread"


@dataclass(frozen=True)
class Comparison:
    """The verdict, and the counts that it was made of."""

    drift: DriftVerdict
    reference: Reference
    now: Profile


def compare_files(reference: Path, current: Path, report: Path | None = None) -> Comparison:
    """Judges `current` against `reference`: each a file (Parquet or CSV), a folder of them or a glob. A column that `current` lacks, or that
    holds no numbers there, has no verdict, and without it there is no calm. Raises DataError when they cannot be compared."""
    before = _read(reference, {})
    own_kinds = {column: _kind(before[column]) for column in before.columns}
    now = _read(current, own_kinds)
    # What a column without any value is, the other side says.
    kinds = {c: kind or (c in now.columns and _kind(now[c])) or "category" for c, kind in own_kinds.items()}
    numbers = [c for c, kind in kinds.items() if kind == "number"]
    counters = [c for c in numbers if _is_counter(before[c])]
    numeric, missing = _there(now, [c for c in numbers if c not in counters])
    now, unread = _with_numbers(now, [c for c in numeric if _kind(now[c]) not in ("number", None)], current)
    numeric = [c for c in numeric if c not in unread]
    texts = [c for c, kind in kinds.items() if kind == "category"]
    categorical, no_texts = _there(now, [c for c in texts if before[c].nunique() <= IDENTIFIER * len(before)])
    truths = {c for c in categorical if _is_truth(before[c])}
    before, now = (_with_texts(table, categorical, truths) for table in (before, now))
    times = next((before[c] for c in before.columns if kinds[c] == "time" and before[c].notna().all()), None)
    profiled = reference_of(before, numeric, categorical, times)
    window, hours = _window(now, profile_of(now, profiled.layout), None if times is None else str(times.name))
    if times is not None and hours is not None:
        profiled = profiled.at_hours(before, times, *hours)
    judged = _named(before, now, (numeric, categorical), times, compare(profiled, window, DriftLimits()))
    judged = replace(judged, limits=judged.limits.replace("training data", "the reference"))
    left_out = {
        "another text in nearly every row": [c for c in texts if c not in categorical and c not in no_texts],
        "a number that goes on from row to row": counters,
        "times": [c for c, kind in kinds.items() if kind == "time"],
        f"not in {reference}": [c for c in now.columns if c not in kinds],
        "in the names of folders alone": [c for c in _of_folders(reference, current) if c not in kinds],
    }
    why = {**dict.fromkeys((*missing, *no_texts), f"{current} has no such column"), **unread}
    others = _there(now, [c for columns in left_out.values() for c in columns if c in kinds])[0]
    why |= _emptied(before, now, kinds, others, current)
    verdict = _without(why, _not_compared(left_out, judged))
    if report is not None and verdict.features:
        columns, rows = [*numeric, *categorical], DriftLimits().sample_rows
        then, today = (_drawn(table, columns, rows) for table in (before, now))
        drift_picture.draw(then, today, numeric, categorical, rows, report)
    return Comparison(verdict, profiled, window.profile)


def _window(now: Table, counted: Profile, time: str | None) -> tuple[Window, tuple[datetime, datetime] | None]:
    """With the days that it spans, where it has the reference's times: a day differs from others by more than so many rows of a week do. And from when
    to when it is, where it is of some hours."""
    if time is None or time not in now.columns or _kind(now[time]) != "time":
        return Window(counted), None
    at = pd.to_datetime(now[time].dropna(), utc=True)
    first, last = at.min(), at.max()
    # Of dates alone the last one is a whole day too.
    dates = bool((at == at.dt.floor("D")).all())
    days = (last - first) / pd.Timedelta(days=1) + dates
    # The requests of a day end before it does.
    of_hours = days < MOST_OF_A_DAY
    window = Window(counted, days if of_hours else math.ceil(days), first.date(), last.date() + ONE_DAY)
    return window, (first, last) if of_hours else None


def _there(now: Table, columns: Sequence[str]) -> tuple[list[str], list[str]]:
    """(those of the columns that the table has, the others)."""
    there = [column for column in columns if column in now.columns]
    return there, [column for column in columns if column not in there]


def _emptied(
    before: Table, now: Table, kinds: Mapping[str, Kind], columns: Sequence[str], current: Path
) -> dict[str, str]:
    """Why columns whose values are not compared have no verdict: many more rows than in the reference have none there, or no time that can be
    read."""
    found = {}
    for column in columns:
        cells, then = now[column], before[column].isna().mean()
        unread = kinds[column] == "time" and _kind(cells) != "time"
        none = len(cells) if unread else int(cells.isna().sum())
        if none and none / len(cells) - then >= MissingShare.least_limit:
            what = "time" if kinds[column] == "time" else "value"
            found[column] = f"{current} has no {what} in {none:,} of {len(cells):,} rows, the reference in {then:.0%}"
    return found


def _with_numbers(now: Table, columns: Sequence[str], current: Path) -> tuple[Table, Mapping[str, str]]:
    """(the table with the numbers that these columns spell, the columns that spell others too, and why they have no verdict)."""
    whys = {column: _numbers_of(now[column])[1] for column in columns}
    changes: dict[str, Change] = {c: lambda column: _numbers_of(column)[0] for c, why in whys.items() if not why}
    return changed(now, changes), {c: f"{current} has {why}" for c, why in whys.items() if why}


def _numbers_of(column: pd.Series) -> tuple[pd.Series, str]:
    """(the numbers that texts and truth values spell, why some are none); the reason is empty where all are."""
    text = column.astype("string")
    if _is_truth(column):
        values = text.str.lower().eq("true").astype("Float64")
        return values.astype("float64").set_axis(column.index), ""
    with duckdb.connect() as connection:
        connection.register("texts", pd.DataFrame({"cell": text.astype(object).to_numpy()}))
        read = unread.with_values("texts", ["cell"], unread.numbers_and_infinities(["cell"]))
        frame = connection.sql(read).df()
    others = [unread.cells(cells)["cell"] for cells in frame[unread.COLUMN].dropna()]
    why = f"no number in {len(others):,} of {len(frame):,} rows, e.g. {others[0]!r:.60}" if others else ""
    return frame["cell"].astype("float64").set_axis(column.index), why


def _named(
    before: Table,
    now: Table,
    compared: tuple[Sequence[str], Sequence[str]],
    times: pd.Series | None,
    found: DriftVerdict,
) -> DriftVerdict:
    """With the faults that can be named; `compared` are the numbers and the categories."""
    columns, categories = (drift_exchanged.columns_of(names, {}) for names in compared)
    if not columns or not found.features:
        return found
    looked = drift_exchanged.of_table(before, times, columns, categories).judged(now)
    return drift_exchanged.with_named(found, looked, DriftLimits(), {})


def _without(why: Mapping[str, str], found: DriftVerdict) -> DriftVerdict:
    """With the columns that have no verdict, by the reason why."""
    for reason in dict.fromkeys(why.values()):
        columns = ", ".join(str(column) for column in why if why[column] == reason)
        verdict: Literal["drift", "no verdict"] = "drift" if found.verdict == "drift" else "no verdict"
        found = replace(found, verdict=verdict, reason=f"{found.reason}; no verdict on {columns}: {reason}")
    return found


def _not_compared(left_out: Mapping[str, Sequence[str]], found: DriftVerdict) -> DriftVerdict:
    """Says which columns nobody looked at: amounts such as $12.50 are texts that differ in nearly every row."""
    said = [f"{', '.join(columns)} ({why})" for why, columns in left_out.items() if columns]
    return replace(found, reason=f"{found.reason}; not compared: {', '.join(said)}") if said else found


def _kind(column: pd.Series) -> Kind | None:
    """None of a column without any value."""
    if not column.notna().any():
        return None
    if pd.api.types.is_datetime64_any_dtype(column):
        return "time"
    number = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    return "number" if number else "category"


def _is_counter(column: pd.Series) -> bool:
    """Whether whole numbers only rise, or only fall, in nearly every row: they number the rows, or are their times, and are no feature."""
    values = as_float(column)
    if len(values) <= FEWEST_COUNTED or not np.isfinite(values).all() or (values % 1).any():
        return False
    steps = np.sign(np.diff(values))
    return bool(abs(steps.sum()) > IDENTIFIER * len(steps) and (steps.min() >= 0 or steps.max() <= 0))


def _is_truth(column: pd.Series) -> bool:
    if pd.api.types.is_bool_dtype(column):
        return True
    different = column.dropna().astype("string").str.lower().unique()
    return bool(len(different)) and set(different) <= {"true", "false"}


def _as_text(column: pd.Series) -> pd.Series:
    """The categories as text. Truth values are "true" and "false", however a file spells them, and whole numbers have no point."""
    if pd.api.types.is_float_dtype(column) and (column.dropna() % 1 == 0).all():
        column = column.astype("Int64")
    text = column.astype("string")
    return (text.str.lower() if _is_truth(column) else text).astype(object)


def _as_truth(column: pd.Series) -> pd.Series:
    """The categories as those of truth values, for which some write 0 and 1."""
    return _as_text(column).replace({"0": "false", "1": "true"})


def _files(path: Path) -> list[Path]:
    """The file itself, those in a folder and below it, or those that a glob matches. Raises DataError when there is none, or of two forms."""
    if path.is_dir():
        files = sorted(
            f
            for f in path.rglob("*")
            if (f.name.lower().endswith(".parquet") or _is_csv(f))
            and f.is_file()
            and not _is_aside(f.relative_to(path))
        )
    elif path.exists() or not glob.has_magic(str(path)):
        return [path]
    else:
        files = sorted(Path(found) for found in glob.glob(str(path), recursive=True) if Path(found).is_file())
    if not files:
        raise DataError(str(path), "has no Parquet or CSV file", "check the folder or the pattern")
    if len({_is_csv(file) for file in files}) > 1:
        raise DataError(str(path), "has CSV and other files", "name those of one form, like folder/*.parquet")
    return files


def _of_folders(*paths: Path) -> list[str]:
    """The columns that engines write as folders (`country=FR/`), which no file has."""
    below = [file.relative_to(path) for path in paths if path.is_dir() for file in _files(path)]
    folders = {folder for file in below for folder in file.parts[:-1]}
    return sorted({folder.partition("=")[0] for folder in folders if "=" in folder})


def _is_aside(file: Path) -> bool:
    """Whether systems or table formats write it beside the data of a folder: hidden files, and folders like _delta_log."""
    return any(part.startswith(".") for part in file.parts) or any(part.startswith("_") for part in file.parent.parts)


def _is_csv(file: Path) -> bool:
    return file.name.lower().endswith(CSV_SUFFIXES)


def _read(path: Path, kinds: Mapping[str, Kind | None]) -> Table:
    files = _files(path)
    if _is_csv(files[0]):
        return _read_csv(path, files, kinds)
    return table_of(files)


def _with_texts(table: Table, categorical: Sequence[str], truths: Collection[str]) -> Table:
    return changed(table, {c: _as_truth if c in truths else _as_text for c in categorical})


def _drawn(table: Table, columns: Sequence[str], rows: int) -> pd.DataFrame:
    return table.some(columns, rows) if isinstance(table, FileColumns) else table


def _read_csv(path: Path, files: Sequence[Path], kinds: Mapping[str, Kind | None]) -> pd.DataFrame:
    """The files' columns, typed by all of their cells, and by `kinds` where these are known. A column without a name is left out."""
    reader = CsvReader(Csv())
    headers = {file: reader.header(file) for file in files}
    for file, header in headers.items():
        if not header:
            raise DataError(str(file), "is empty", "check what writes it")
        reader.refuse_one_column(file, header)
        refuse_other_columns(file, header, files[0], headers[files[0]])
        reader.refuse(file, header, [name for name in header if name])
    columns = [name for name in headers[files[0]] if name]
    if twice := named_twice(columns):
        raise DataError(str(path), f"has the column {twice[0]} twice, but for its case", "rename one of them")
    # Their columns may be in another order.
    parts = [reader.relation([file], headers[file], columns) for file in files]
    with duckdb.connect() as connection, reader.readable(str(path)):
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"CREATE TABLE texts AS {' UNION ALL '.join(parts)}")
        kinds = _kinds_of_texts(connection, columns, kinds)
        numbers = [column for column in columns if kinds.get(column) == "number"]
        times = {c: text_sql.time(text_sql.stripped(quoted(c))) for c in columns if kinds.get(c) == "time"}
        values = unread.numbers_and_infinities(numbers)
        frame = connection.sql(unread.with_values("texts", columns, values, UNREAD)).df()
        for column, value in times.items():
            frame[column] = connection.sql(f"SELECT {value} AS t FROM texts").df()["t"]
    return frame.drop(columns=UNREAD)


def _kinds_of_texts(
    connection: duckdb.DuckDBPyConnection, columns: Sequence[str], known: Mapping[str, Kind | None]
) -> dict[str, Kind]:
    """A column that is known to be of numbers stays one of texts where some cells spell none."""
    kinds: dict[str, Kind] = {}
    for column in columns:
        cell, number, time = "cell", text_sql.number_or_infinity("cell"), text_sql.time("cell")
        ((no_numbers, no_times, codes),) = connection.execute(
            f"SELECT count(*) FILTER ({text_sql.unreadable(cell, number)}),"
            f" count(*) FILTER ({text_sql.unreadable(cell, time)}),"
            f" count(*) FILTER (regexp_matches(cell, '^[+-]?0\\d'))"
            f" FROM (SELECT {text_sql.stripped(quoted(column))} AS cell FROM texts)"
        ).fetchall()
        numbers = not no_numbers and (not codes or known.get(column) == "number")
        own: Kind = "number" if numbers else "category" if no_times else "time"
        kinds[column] = own if known.get(column) in (None, "number") else known[column] or own
    return kinds
