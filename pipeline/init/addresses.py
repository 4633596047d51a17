"""`--data s3://…`: a SELECT of the file, folder or glob, with all cells of a CSV as text, so that nothing is guessed from its first lines."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping

import duckdb

from pipeline.data import s3
from pipeline.data.source import readable
from pipeline.data.text_sql import literal
from pipeline.errors import DataError
from pipeline.settings.source import CSV_SUFFIXES, PARQUET_SUFFIX

ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
SUFFIXES = (PARQUET_SUFFIX, *CSV_SUFFIXES)
HEAD_LINES = 100


def query_of(connection: duckdb.DuckDBPyConnection, data: str, delimiters: str) -> str:
    """The SELECT that reads `data`, an address. Raises DataError for what is none of S3, or names no file of one kind."""
    if not s3.PREFIX.match(data):
        raise DataError(
            f"--data {data}", "is no address of S3", "download it and name the file, or give a SELECT that DuckDB runs"
        )
    s3.let_read(connection, data)
    with readable("--data"):
        pattern, files = _files(connection, data)
        if files[0].endswith(PARQUET_SUFFIX):
            return f"SELECT * FROM read_parquet({literal(pattern)}, union_by_name = true)"
        head, encoding = _head(connection, files[0])
    delimiter = literal(best_delimiter(head, delimiters))
    return (
        f"SELECT * FROM read_csv({literal(pattern)}, all_varchar = true, header = true, skip = 0, delim = {delimiter},\n"
        f"  quote = '\"', escape = '\"', comment = '', encoding = '{encoding}', union_by_name = true)"
    )


def best_delimiter(lines: list[str], delimiters: str) -> str:
    """More columns are better as long as every row has them; of equals the first. The last row may be cut in the middle."""
    rows = {mark: [row for row in csv.reader(lines, delimiter=mark) if row] for mark in delimiters}
    widths = {mark: {len(row) for row in (some[:-1] if len(some) > 2 else some)} for mark, some in rows.items()}
    regular = {mark: next(iter(width)) for mark, width in widths.items() if len(width) == 1}
    return max(regular, key=lambda mark: regular[mark], default=",")


def _files(connection: duckdb.DuckDBPyConnection, data: str) -> tuple[str, list[str]]:
    """The pattern, and what it names now: of a folder the files of the one suffix that they have."""
    patterns = {"": data}
    if not data.endswith(SUFFIXES):
        patterns = {suffix: f"{data.rstrip('/')}/**/*{suffix}" for suffix in SUFFIXES}
    found = {pattern: _named(connection, pattern) for pattern in patterns.values()}
    refuse_several_kinds(f"--data {data}", {suffix: len(found[pattern]) for suffix, pattern in patterns.items()})
    pattern = max(found, key=lambda each: len(found[each]))
    if not found[pattern]:
        raise DataError(f"--data {data}", "names no file", f"give a file, folder or glob of {', '.join(SUFFIXES)}")
    return pattern, found[pattern]


def refuse_several_kinds(subject: str, counts: Mapping[str, int]) -> None:
    """Raises DataError for a folder with files of several suffixes: a model would learn from those of one, and nobody would be told."""
    if len(there := [f"{count:,} {suffix}" for suffix, count in counts.items() if count]) > 1:
        raise DataError(
            subject, f"has files of several kinds: {', '.join(there)}", "give a glob that names one kind, in quotes"
        )


def _named(connection: duckdb.DuckDBPyConnection, pattern: str) -> list[str]:
    rows = connection.execute("SELECT file FROM glob($1) ORDER BY file", [pattern]).fetchall()
    return [str(file) for (file,) in rows]


def _head(connection: duckdb.DuckDBPyConnection, file: str) -> tuple[list[str], str]:
    """The first lines of a CSV, and its encoding."""
    lines = "SELECT line FROM read_csv({}, columns = {{'line': 'VARCHAR'}}, auto_detect = false, header = false, "
    lines += "delim = '\x1f', quote = '', escape = '', encoding = '{}') LIMIT {}"
    try:
        # All of it is read, because a letter of another encoding may come late.
        connection.execute(f"SELECT count(line) FROM ({lines.format(literal(file), 'utf-8', 2**62)})")
        encoding = "utf-8"
    except duckdb.InvalidInputException:
        encoding = "latin-1"
    rows = connection.execute(lines.format(literal(file), encoding, HEAD_LINES)).fetchall()
    return [f"{line or ''}\n" for (line,) in rows], encoding
