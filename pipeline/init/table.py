"""The table that `init` looks at: files or a query, as text where a CSV has text, so that nothing is guessed from its first lines."""

from __future__ import annotations

import glob
import gzip
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import duckdb

from pipeline.data import s3, statements, text_sql
from pipeline.data.csv_files import FILE, CsvReader, by_header
from pipeline.data.file_source import parquet
from pipeline.data.sampled_types import refuse_sampled_types
from pipeline.data.source import readable
from pipeline.data.sql import column_types, quoted
from pipeline.errors import DataError
from pipeline.init import database_file, name_line
from pipeline.init.addresses import ADDRESS, best_delimiter, query_of, refuse_several_kinds
from pipeline.settings.columns import named_twice
from pipeline.settings.scoring import BOUNDS
from pipeline.settings.source import CSV_SUFFIXES, PARQUET_SUFFIX, Csv

DELIMITERS = ",;\t|"
SNIFFED_LINES = 100
KNOWN = (*CSV_SUFFIXES, PARQUET_SUFFIX)
# Comments may stand before it.
_STATEMENT = re.compile(
    r"([(\s]|--[^\n]*\n|/\*(?:(?!\*/).)*\*/)*(SELECT|FROM|WITH|ATTACH|INSTALL|LOAD|SET|USE)\s",
    re.IGNORECASE | re.DOTALL,
)
TABLE = "given"


@dataclass(frozen=True)
class Origin:
    """Where a table is from, as a block's `source` says it: `files` with their form, or a `query` without $start and $end."""

    files: tuple[str, ...] = ()
    csv: Csv = Csv()
    query: str | None = None
    # What the query needs before it, such as ATTACH.
    before: str = ""
    # Columns of a CSV that have no name, as pandas writes its index: no block can name them.
    unnamed: int = 0

    @property
    def is_csv(self) -> bool:
        return any(name.endswith(CSV_SUFFIXES) for name in self.files)


def open_table(connection: duckdb.DuckDBPyConnection, root: Path, data: str, name: str, target: str) -> Origin:
    """Writes the rows of `data`, a file, folder, glob, address or SELECT, into the table TABLE; paths start at `root`. In a CSV the line of
    column names is known by the `target`. Raises DataError."""
    if ADDRESS.match(data):
        data = query_of(connection, data, DELIMITERS)
    if _STATEMENT.match(data):
        return _of_query(connection, root, data, name)
    pattern, files = _files(root, data)
    if database_file.is_one(files[0]):
        return _of_query(connection, root, database_file.query_of(pattern, files), name)
    _refuse_other_files(data, files)
    if files[0].name.endswith(PARQUET_SUFFIX):
        with readable("--data"):
            rows = parquet(connection, files, f"--data {data}")
            connection.execute(f"CREATE TEMP TABLE {TABLE} AS SELECT * EXCLUDE ({FILE}) FROM {rows}")
        return Origin((pattern,))
    form = _form(files, target)
    unnamed = _read_csv(connection, files, form)
    return Origin((pattern,), _with_decimal(connection, form), unnamed=unnamed)


def _of_query(connection: duckdb.DuckDBPyConnection, root: Path, data: str, name: str) -> Origin:
    with readable("--data"):
        s3.let_read(connection, data)
        query = statements.prepared(connection, data, "--data", root)
        _refuse_window(query)
        refuse_sampled_types(connection, query, name)
        connection.execute(f"CREATE TEMP TABLE {TABLE} AS SELECT * FROM ({query}\n)")
    return Origin(query=query, before=statements.split(data, "--data")[0])


def _refuse_window(query: str) -> None:
    """Raises DataError for a query that has $start or $end already, as it stands in a block, or a parameter that nobody gives a value,
    and duckdb.Error for one that is none."""
    if names := sorted(set().union(*(each.named_parameters for each in duckdb.extract_statements(query)))):
        cut = {*names} <= {bound[1:] for bound in BOUNDS}
        check = "leave that condition out: init writes it" if cut else "write the value itself there"
        raise DataError("--data", f"has {', '.join(f'${name}' for name in names)}", check)


def _files(root: Path, data: str) -> tuple[str, list[Path]]:
    """The glob for `source.files`, from the project's folder where the files are below it, and the files that match it now."""
    if not data.strip():
        raise DataError("--data", "is empty", "give a CSV or Parquet file, a folder, a glob or a SELECT")
    path = Path(data).expanduser()
    path = path if path.is_absolute() else Path.cwd() / path
    pattern = _pattern_of_folder(path) if path.is_dir() else str(path)
    escaped = glob.escape(pattern) if Path(pattern).is_file() else pattern
    files = sorted(Path(found) for found in glob.glob(escaped, recursive=True) if Path(found).is_file())
    if not files:
        raise DataError(f"--data {data}", "names no file", "give a CSV or Parquet file, a folder, a glob or a SELECT")
    below = escaped.removeprefix(f"{glob.escape(str(root.resolve()))}/") if escaped != pattern else pattern
    return str(below).removeprefix(f"{root.resolve()}/"), files


def _refuse_other_files(data: str, files: Sequence[Path]) -> None:
    if other := [file for file in files if not file.name.endswith(KNOWN)]:
        raise DataError(
            str(other[0]), f"does not end in {', '.join(KNOWN)}", "rename it, or read it with a SELECT as --data"
        )
    if len({file.name.endswith(PARQUET_SUFFIX) for file in files}) > 1:
        raise DataError(f"--data {data}", "names both CSV and Parquet files", "give a glob that names one kind")


def _pattern_of_folder(folder: Path) -> str:
    """A glob for the files below `folder`, which are of one kind."""
    # As a glob has it: what is hidden, or below a hidden folder, is none of them.
    files = [file for file in folder.rglob("*") if file.is_file() and "/." not in f"/{file.relative_to(folder)}"]
    of_kind = {suffix: [file for file in files if file.name.endswith(suffix)] for suffix in KNOWN}
    counts = {suffix: len(some) for suffix, some in of_kind.items()}
    refuse_several_kinds(f"--data {folder}", counts)
    suffix = max(counts, key=lambda each: counts[each])
    deep = any(file.parent != folder for file in of_kind[suffix])
    return f"{glob.escape(str(folder))}/{'**/' if deep else ''}*{suffix}"


def _form(files: Sequence[Path], target: str) -> Csv:
    """How CSV `files` are written, but for the decimal mark. Raises DataError for one whose names, the `target` among them, come late."""
    encoding = "utf-8" if all(map(_is_utf8, files)) else "latin-1"
    first = files[0]
    with _opened(first, encoding) as text:
        lines = [line for line, _ in zip(text, range(SNIFFED_LINES), strict=False)]
    delimiter = best_delimiter(lines, DELIMITERS)
    # A name may go over several lines, as a heading in Excel often does.
    if not any(target in name_line.cells(some, delimiter) for some in (lines[:1], lines)):
        # A line that has a cell too many makes no other delimiter the right one.
        delimiter = name_line.delimiter_by_name("".join(lines[:1]), DELIMITERS, target) or delimiter
        name_line.refuse_lines_above(first, lines, DELIMITERS, target)
    return Csv(delimiter=delimiter, encoding=encoding)  # type: ignore[arg-type]


def _opened(file: Path, encoding: str) -> io.TextIOWrapper:
    raw = gzip.open(file, "rb") if file.name.endswith(".gz") else file.open("rb")  # noqa: SIM115
    return io.TextIOWrapper(cast(BinaryIO, raw), encoding=encoding, newline="")


def _is_utf8(file: Path) -> bool:
    try:
        with _opened(file, "utf-8") as text:
            while text.read(2**20):
                pass
    except UnicodeDecodeError:
        return False
    except (OSError, EOFError) as error:
        raise DataError(str(file), f"cannot be read ({error})", "check that it is there, and whole") from error
    return True


def _read_csv(connection: duckdb.DuckDBPyConnection, files: Sequence[Path], form: Csv) -> int:
    """Writes the rows into TABLE; how many columns without a name are not in it."""
    reader = CsvReader(form)
    groups = by_header(reader, files)
    if not groups:
        raise DataError(str(files[0]), "is empty", "give a file with a line of column names")
    columns = list(dict.fromkeys(name for names in groups for name in names if name))
    if twice := named_twice(columns):
        raise DataError(
            str(files[0]), f"has {twice[0]} twice (upper and lower case are one column)", "rename one of them"
        )
    for names, group in groups.items():
        reader.refuse_one_column(group[0], names)
        reader.refuse(group[0], names, [name for name in names if name])
    parts = [reader.relation(group, names, columns) for names, group in groups.items()]
    with reader.readable(str(files[0])):
        connection.execute(f"CREATE TEMP TABLE {TABLE} AS SELECT * EXCLUDE ({FILE}) FROM ({' UNION ALL '.join(parts)})")
    return max(names.count("") for names in groups)


def _with_decimal(connection: duckdb.DuckDBPyConnection, form: Csv) -> Csv:
    """`form` with a decimal comma when the table has numbers with one, and none with a point."""
    if form.delimiter == ",":
        return form
    cells = [text_sql.stripped(quoted(column)) for column in column_types(connection, TABLE)]
    commas, points = (
        " + ".join(f"count(*) FILTER (regexp_full_match({cell}, '[+-]?\\d+[{mark}]\\d+'))" for cell in cells)
        for mark in (",", ".")
    )
    counted = connection.execute(f"SELECT {commas}, {points} FROM {TABLE}").fetchone() or (0, 0)
    return form.model_copy(update={"decimal": "," if counted[0] and not counted[1] else "."})
