"""The rows of `source.files`: the window of a glob of CSV or Parquet files, without a query.

The columns of a CSV are text here; unread.read turns them into numbers and times. A row whose event time cannot be read belongs to
no window. It counts with the window of its file: with each, when no time of the file can be read.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import duckdb

from pipeline.data import source_times, text_sql
from pipeline.data.csv_files import FILE, CsvReader, by_header, matching
from pipeline.data.sql import column_types, quoted
from pipeline.errors import DataError
from pipeline.settings.columns import one_name
from pipeline.settings.source import PARQUET_SUFFIX, Source
from pipeline.settings.training import Training

_KEY_OF_FOLDER = re.compile(r"(?<=/)([^/=]+)=[^/]*/")


def load(
    connection: duckdb.DuckDBPyConnection,
    source: Source,
    training: Training,
    root: Path,
    start: datetime,
    end: datetime,
    subject: str,
    beside: Sequence[str] = (),
) -> None:
    """Writes the rows of the files below `root` with event times in [start, end), or without one, into the table `rows`.

    It has the columns that the model names, and of those `beside` what there is. Raises DataError.
    """
    files = matching(root, source.files or (), subject)
    needed = list(dict.fromkeys([*source.own_columns, *training.features, training.target, *training.weights]))
    reader = CsvReader(source.csv, f"models.{subject}.source.csv")
    if all(file.name.endswith(PARQUET_SUFFIX) for file in files):
        relation = _parquet(connection, files, needed, beside, subject)
    else:
        texts = [column for column in (source.key, *training.categorical) if column and column not in source.times]
        relation = _csv(reader, files, needed, beside, texts, source, subject)
    types = column_types(connection, f"({relation})")
    source_times.refuse_other_types(source, types, subject)
    time = source_times.instant(source, source.event_time, types[source.event_time])
    with reader.readable(f"{subject} source"):
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE rows AS SELECT * FROM (SELECT *, {time} AS perennial_time FROM ({relation}))"
            " WHERE perennial_time IS NULL OR (perennial_time >= $start AND perennial_time < $end)",
            {"start": start, "end": end},
        )
    _leave_to_other_windows(connection, relation, time)
    connection.execute("ALTER TABLE rows DROP COLUMN perennial_time")
    connection.execute(f"ALTER TABLE rows DROP COLUMN {FILE}")


def _csv(
    reader: CsvReader,
    files: Sequence[Path],
    needed: list[str],
    beside: Sequence[str],
    texts: list[str],
    source: Source,
    subject: str,
) -> str:
    groups = by_header(reader, files)
    if not groups:
        raise DataError(
            f"{subject} source", f"{files[0]}{' and all others' * (len(files) > 1)} is empty", "check what writes it"
        )
    for names, group in groups.items():
        reader.refuse(group[0], names, [c for c in (source.key, source.event_time) if c])
    for column in needed:
        having = next(
            ((names, group) for names, group in groups.items() if column in names), next(iter(groups.items()))
        )
        reader.refuse(having[1][0], having[0], [column])
    needed = [*needed, *(column for column in beside if any(column in names for names in groups))]
    for names, group in groups.items():
        reader.refuse(group[0], names, [column for column in needed if column in names])
    return " UNION ALL ".join(reader.relation(group, names, needed, texts) for names, group in groups.items())


def _parquet(
    connection: duckdb.DuckDBPyConnection, files: Sequence[Path], needed: list[str], beside: Sequence[str], subject: str
) -> str:
    table = parquet(connection, files, f"{subject} source")
    types = column_types(connection, f"(SELECT * FROM {table})")
    for column in needed:
        if column not in types:
            have = ", ".join(c for c in types if c != FILE)
            raise DataError(f"{subject} source", f"has no column {column}", f"add it; the columns are {have}")
    needed = [*needed, *(column for column in beside if column in types)]
    return f"SELECT {', '.join(map(quoted, needed))}, {FILE} FROM {table}"


def parquet(connection: duckdb.DuckDBPyConnection, files: Sequence[Path], subject: str) -> str:
    """SQL for the rows of Parquet `files`, the columns that the names of their folders have among them, and FILE.

    DuckDB prefers a folder's name to what its files hold: all times of day=2024-01-01 would be its midnight, and the endpoint and
    `predict` would have others. Raises DataError where nobody can tell which column is meant.
    """
    paths = ", ".join(text_sql.literal(glob.escape(str(file))) for file in files)
    read = f"read_parquet([{paths}], union_by_name = true, filename = '{FILE}'"
    named = {one_name(key): key for key in _KEY_OF_FOLDER.findall(str(files[0].parent) + "/")}
    if not named:
        return f"{read})"
    held = {one_name(name) for name in column_types(connection, f"(SELECT * FROM {read}, hive_partitioning = false))")}
    both, only = [named[key] for key in named if key in held], [named[key] for key in named if key not in held]
    if both and only:
        raise DataError(
            subject,
            f"has the column {both[0]} in its files and in the names of their folders, which have {only[0]} too",
            f"leave {both[0]} out of one of them",
        )
    return f"{read}{', hive_partitioning = false' if both else ''})"


def _leave_to_other_windows(connection: duckdb.DuckDBPyConnection, relation: str, time: str) -> None:
    """Deletes the rows without a time of those files that have times, and none in the window."""
    inside = f"SELECT {FILE} FROM rows WHERE perennial_time IS NOT NULL"
    outside = connection.execute(f"SELECT DISTINCT {FILE} FROM rows WHERE {FILE} NOT IN ({inside})").fetchall()
    if outside:
        timed = f"SELECT {FILE} FROM ({relation}) WHERE list_contains($outside, {FILE}) AND {time} IS NOT NULL"
        connection.execute(f"DELETE FROM rows WHERE {FILE} IN ({timed})", {"outside": [name for (name,) in outside]})
