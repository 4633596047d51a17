"""CSV files as DuckDB relations in which every column is text: nothing is guessed from the first lines.

We read the header ourselves and state all columns, because DuckDB's sniffer fixes types by a sample, rounds what comes later to
them, and leaves out the header and the rows before a change of width. What a text means is decided afterwards (see text_sql).
"""

from __future__ import annotations

import codecs
import csv
import glob
import gzip
import io
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import duckdb
import pyarrow as pa

from pipeline.data import unread
from pipeline.data.sql import quoted
from pipeline.data.text_sql import literal, pointed
from pipeline.errors import DataError
from pipeline.settings.source import Csv

# The column that says which file a row is from.
FILE = "perennial_file"
_LONGEST_HEADER = 4 * 2**20
# What "surrogateescape" makes of bytes that are none of the encoding.
_UNDECODED = re.compile("[\udc80-\udcff]")


@dataclass(frozen=True)
class CsvReader:
    """Reads files that are written as `form` says; `key` is the settings key of the form, for messages, "" without one."""

    form: Csv
    key: str = ""

    def header(self, file: Path) -> list[str]:
        """The column names in the first line of `file`; [] for an empty file. Raises DataError."""
        try:
            self._refuse_other_encoding(file)
            with self._opened(file) as text:
                lines = iter(lambda: text.readline(_LONGEST_HEADER), "")
                names = next(csv.reader(lines, delimiter=self.form.delimiter, strict=True), None)
        except UnicodeError as error:
            raise self._not_encoded(f"{file} line {self._line_of_fault(file) or 1}") from error
        except csv.Error as error:
            raise DataError(
                f"{file} line 1", f"is no line of names ({error})", "write the column names there"
            ) from error
        except (OSError, EOFError) as error:
            raise DataError(
                str(file), f"cannot be read ({_reason(error)})", "check that it is there, and whole"
            ) from error
        if names == []:
            raise DataError(f"{file} line 1", "is empty", "the first line must hold the column names")
        return names or []

    def _refuse_other_encoding(self, file: Path) -> None:
        """Any bytes are latin-1, so those that are utf-8 too would become other letters without a word: two for each umlaut."""
        with self._bytes(file) as raw:
            first = raw.read(_LONGEST_HEADER if self.form.encoding == "latin-1" else 2)
        if first[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            raise DataError(str(file), "is utf-16", "`iconv -f utf-16 -t utf-8` turns it into utf-8")
        if self.form.encoding == "latin-1" and not first.isascii():
            try:
                # The last letter may be cut off.
                codecs.getincrementaldecoder("utf-8")().decode(first)
            except UnicodeDecodeError:
                return
            raise DataError(str(file), "is utf-8", self._set("encoding", "utf-8", "save it as latin-1"))

    def _bytes(self, file: Path) -> BinaryIO:
        return cast(BinaryIO, gzip.open(file, "rb") if file.name.endswith(".gz") else file.open("rb"))

    def _opened(self, file: Path, errors: str = "strict") -> io.TextIOWrapper:
        encoding = "utf-8-sig" if self.form.encoding == "utf-8" else self.form.encoding
        return io.TextIOWrapper(self._bytes(file), encoding=encoding, errors=errors, newline="")

    def relation(
        self, files: Sequence[Path], names: Sequence[str], columns: Sequence[str], texts: Collection[str] = ()
    ) -> str:
        """A SELECT of `columns` as text, NULL for those that are not in `names`, the header that all `files` share; and FILE.

        An empty cell is NULL. In a column of `texts` a number has a point, whatever the files have: 2,0 is the text 2.0. A line that is
        the header again, as where exports were put together, is no row.
        """
        stated = ", ".join(f"'c{i}': 'VARCHAR'" for i in range(len(names)))
        options = (
            f"auto_detect = false, header = true, columns = {{{stated}}}, delim = {literal(self.form.delimiter)},"
            f" quote = '\"', escape = '\"', encoding = '{self.form.encoding}', filename = '{FILE}'"
        )
        cells = {c: f"c{names.index(c)}" if c in names else "NULL::VARCHAR" for c in columns}
        if self.form.decimal == ",":
            cells |= {c: pointed(cells[c]) for c in texts if c in names}
        picked = [f"{cell} AS {quoted(c)}" for c, cell in cells.items()]
        paths = ", ".join(literal(glob.escape(str(file))) for file in files)
        again = " AND ".join(f"coalesce(c{i}, '') = {literal(name)}" for i, name in enumerate(names))
        rows = f"WHERE NOT ({again})" if len(names) > 1 else ""
        return f"SELECT {', '.join([*picked, FILE])} FROM read_csv([{paths}], {options}) {rows}"

    def batches(
        self, file: Path, columns: Sequence[str], numbers: Sequence[str], texts: Collection[str], rows: int
    ) -> Iterator[pa.RecordBatch]:
        """The `columns` of `file` in batches of at most `rows` rows, in its order; those of `numbers` as numbers, and `unread`.

        Those of `texts` as in `relation`. Raises DataError.
        """
        relation = self.relation([file], self.header(file), columns, texts)
        query = unread.with_values(f"({relation})", columns, unread.numbers(numbers, self.form.decimal))
        with duckdb.connect() as connection, self.readable(str(file)):
            # DuckDB gives whole vectors of its own, 2,048 rows or more.
            for batch in connection.sql(query).to_arrow_reader(rows):
                yield from (batch.slice(first, rows) for first in range(0, len(batch), rows))

    def refuse(self, file: Path, names: Sequence[str], needed: Sequence[str]) -> None:
        """Raises DataError when a column of `needed` is not in the header `names`, or is in it twice."""
        for column in needed:
            if column not in names:
                raise DataError(str(file), *self._without(column, names))
            if names.count(column) > 1:
                raise DataError(str(file), f"has the column {column} twice", "rename one of them")

    def refuse_one_column(self, file: Path, names: Sequence[str]) -> None:
        """Raises DataError when `names` is one name that another delimiter cuts into several."""
        if advice := self._other_delimiter(names):
            raise DataError(str(file), f"has one column, {names[0]!r:.200}", advice)

    def _without(self, column: str, names: Sequence[str]) -> tuple[str, str]:
        observed = f"has no column {column} in its first line, {self.form.delimiter.join(names)!r:.200}"
        return observed, self._other_delimiter(names) or "the first line must hold the column names"

    def _other_delimiter(self, names: Sequence[str]) -> str:
        other = next((mark for mark in ";\t|," if mark != self.form.delimiter and mark in names[0]), None)
        if len(names) > 1 or other is None:
            return ""
        return self._set("delimiter", repr(other), f"separate the values by {self.form.delimiter!r}")

    def _set(self, name: str, value: str, otherwise: str) -> str:
        return f"set {self.key}.{name} to {value}, or {otherwise}" if self.key else otherwise

    @contextmanager
    def readable(self, subject: str) -> Iterator[None]:
        """Raises DataError for what DuckDB says in the block: with file and line of a fault in a CSV, else of `subject`."""
        try:
            yield
        except duckdb.Error as error:
            said = str(error)
            other = DataError(subject, " ".join(said.split())[:200], "check what writes it")
            raise (self._fault(said, subject) or other) from error

    def _fault(self, said: str, subject: str) -> DataError | None:
        file = re.search(r"^\s*file = (.+)$", said, re.MULTILINE)
        line = re.search(r"CSV Error on Line: (\d+)", said)
        where = file[1].strip() if file else "a CSV file"
        if line:
            where += f" line {self._line_of_fault(Path(where)) or line[1]}"
        if "not utf-8 encoded" in said or "Invalid unicode" in said:
            return self._not_encoded(where)
        if "not latin-1 encoded" in said:
            # DuckDB names no file here. What has a euro sign is cp1252, as Excel on Windows writes it.
            return DataError(
                file[1].strip() if file else subject,
                "is neither utf-8 nor latin-1, which has no euro sign",
                "write it as utf-8; of what Excel on Windows wrote `iconv -f cp1252 -t utf-8` makes it",
            )
        if width := re.search(r"Expected Number of Columns: (\d+) Found: (\d+)", said):
            return DataError(
                where,
                f"has {width[2]} values, and the first line has {width[1]} names",
                f"correct the line; a value with {self.form.delimiter!r} in it must be in quotes",
            )
        if "unterminated quote" in said:
            return DataError(
                where, "has a quote that does not end where the value does", 'write "" for a quote in a value'
            )
        if "reached an invalid state" in said:
            return self._line_ends_or_quote(where, Path(file[1].strip()) if file else None)
        if "Maximum line size" in said:
            return DataError(where, "is longer than 2 MB", "is there a quote that does not end?")
        if line or "GZIP" in said.upper():
            return DataError(where, " ".join(said.split())[:200], "check that the file is whole")
        return None

    def _line_ends_or_quote(self, where: str, file: Path | None) -> DataError:
        advice = "save it with one kind of line end"
        line = self._other_line_end(file) if file else None
        if file is None or line is None:
            return DataError(where, "has line ends of two kinds, or a stray quote", advice)
        if not file.name.endswith(".gz"):
            advice = rf"`sed -i 's/\r$//' '{file}'` gives it one kind of line end"
        return DataError(
            where, f"has line ends of two kinds: line {line:,} ends in another way than the first one", advice
        )

    def _other_line_end(self, file: Path) -> int | None:
        """The first line that ends in another way than the first one, \\r\\n or \\n."""
        try:
            with self._bytes(file) as raw:
                of_first = raw.readline().endswith(b"\r\n")
                for number, line in enumerate(raw, start=2):
                    if line.endswith(b"\n") and line.endswith(b"\r\n") != of_first:
                        return number
        except (OSError, EOFError):
            pass
        return None

    def _line_of_fault(self, file: Path) -> int | None:
        """The first line that has not as many values as the header, or bytes in another encoding. DuckDB counts rows, not lines."""
        width, begins = 0, 1
        try:
            with self._opened(file, errors="surrogateescape") as text:
                reader = csv.reader(text, delimiter=self.form.delimiter, strict=True)
                for row in reader:
                    width = width or len(row)
                    if row and (len(row) != width or any(map(_UNDECODED.search, row))):
                        return begins
                    begins = reader.line_num + 1
        except csv.Error:
            return begins
        except (OSError, EOFError, UnicodeError):
            pass
        return None

    def _not_encoded(self, where: str) -> DataError:
        return DataError(where, f"is not {self.form.encoding}", self._set("encoding", "latin-1", "save it as utf-8"))


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error).splitlines()[0]


def matching(root: Path, patterns: Sequence[str], subject: str) -> list[Path]:
    """The files that match one of the glob `patterns`, which start at `root`, each once, in order of their names."""
    found = {Path(name) for pattern in patterns for name in glob.glob(str(_below(root, pattern)), recursive=True)}
    if not found:
        raise DataError(
            f"{subject} source", f"no file matches {', '.join(patterns)}", f"check models.{subject}.source.files"
        )
    for folder in sorted(path for path in found if path.is_dir()):
        raise DataError(str(folder), "is a folder", f"write {folder.name}/* in models.{subject}.source.files")
    return sorted(found)


def _below(root: Path, pattern: str) -> Path:
    return Path(pattern) if Path(pattern).is_absolute() else Path(glob.escape(str(root))) / pattern


def by_header(reader: CsvReader, files: Sequence[Path]) -> Mapping[tuple[str, ...], list[Path]]:
    """The files that are not empty, by their headers."""
    groups: dict[tuple[str, ...], list[Path]] = {}
    for file in files:
        if names := reader.header(file):
            groups.setdefault(tuple(names), []).append(file)
    return groups
