"""The prediction log's partitions one by one: which are not counted yet, what counted them elsewhere, and whether that can be true.

Where the log lies nobody needs to count: a worker does, with the same code, from the same files, and gives the kept hours back. They are
taken over when they are of a file that is here, in the layout that is asked for here, and when their counts add up to the file's own rows.
"""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import duckdb
import numpy as np

from pipeline.monitoring import log_queries
from pipeline.monitoring.log_profiles import Log, identity
from pipeline.monitoring.log_reader import LogFiles
from pipeline.monitoring.profiles.kept import Hour, Kept
from pipeline.serving import log_files

# No time that DuckDB knows is of an hour beyond these; that of an infinite one is -1e9 (see log_profiles).
FURTHEST_HOUR = 10**10


@dataclass(frozen=True)
class Partition:
    """A file of the log: `name` is what its profile is known by (see log_profiles.identity); `rows` has the golden requests too."""

    name: str
    rows: int

    @property
    def file(self) -> str:
        return self.name.split(" ")[0]

    @property
    def size(self) -> int:
        """In bytes."""
        return int(self.name.split(" ")[1])


def uncounted(folder: Path, kept: Kept) -> list[Partition]:
    """The partitions that are not counted yet, in the order of the log. An event time may be of any day, so that any of them may have rows of a
    window."""
    found = log_queries.read(folder, lambda connection, files: Log(connection, files, kept).uncounted())
    return [Partition(name, rows) for name, rows in found.items()]


def count(folder: Path, kept: Kept) -> None:
    """Counts what is in the folder and not counted yet, in blocks of log_profiles.COUNTED_ROWS."""
    log_queries.read(folder, lambda connection, files: Log(connection, files, kept).count())


def there(folder: Path, name: str) -> Path | None:
    """The file of a partition, where the log has it as it is named; None when it was merged away, or never was one."""
    path = folder / name.split(" ")[0]
    if path.parent != folder or not log_files.FILE_NAME.fullmatch(path.name):
        return None
    try:
        return path if log_files.fault(path) is None and identity(path) == name else None
    except (OSError, ValueError, duckdb.Error):
        return None


def opened(folder: Path, names: Sequence[str]) -> Iterator[tuple[str, BinaryIO]]:
    """Those of the partitions that are there, one after the other; a file that is merged away while it is read is read to its end."""
    for name in names:
        if (path := there(folder, name)) is None:
            continue
        try:
            file = path.open("rb")
        except FileNotFoundError:
            continue
        with file:
            yield name, file


def as_values(hours: Sequence[Hour]) -> list[list[Any]]:
    """As JSON takes them."""
    return [[*hour[:-1], base64.b64encode(hour.cells).decode()] for hour in hours]


def hours_of(values: Any) -> list[Hour]:
    """The reverse. Raises ValueError for what has another form."""
    try:
        found = [
            Hour(hour, rows, untimed, answers, base64.b64decode(cells, validate=True))
            for hour, rows, untimed, answers, cells in values
        ]
    except TypeError as error:
        raise ValueError("are no hours") from error
    if any(type(cell) is not int for hour in found for cell in hour[:3]):
        raise ValueError("have other types")
    if any(type(hour.answers) is not float for hour in found):
        raise ValueError("have other types")
    return found


def traffic_rows(folder: Path, paths: Collection[Path]) -> dict[str, int]:
    """The rows of each file without golden requests, by its name."""
    chosen = {*paths}

    def read(connection: duckdb.DuckDBPyConnection, every: LogFiles) -> dict[str, int]:
        files = every.only(chosen)
        if not files.contents:
            return {}
        query = f"""SELECT filename, count_if(NOT {log_queries.golden(files)})
                    FROM read_parquet($files, union_by_name = true, filename = true) GROUP BY 1"""
        return {Path(name).name: rows for name, rows in connection.execute(query, {"files": files.names}).fetchall()}

    return log_queries.read(folder, read)


def doubtful(hours: Sequence[Hour], kept: Kept, rows: int) -> str:
    """Why these cannot be the profiles of a file with so many rows, in words that follow its name; '' when they can."""
    if len({hour.hour for hour in hours}) != len(hours) or any(abs(hour.hour) > FURTHEST_HOUR for hour in hours):
        return "has an hour twice, or one that is none"
    if (counted := sum(hour.rows for hour in hours)) != rows:
        return f"has {rows:,} requests, and the profile counts {counted:,}"
    return next((why for hour in hours if (why := _doubtful_hour(hour, kept))), "")


def _doubtful_hour(hour: Hour, kept: Kept) -> str:
    if not 0 <= hour.untimed <= hour.rows or not math.isfinite(hour.answers) or hour.rows < 1:
        return "has an hour with counts that cannot be"
    size = 8 * sum(column.cells for column in kept.layout.columns)
    unpacking = zlib.decompressobj()
    try:
        # No more than it may be, however small it was packed.
        packed = unpacking.decompress(hour.cells, size + 1)
    except zlib.error as error:
        return f"has cells that cannot be unpacked ({error})"
    if len(packed) != size or not unpacking.eof:
        return "has other cells than the layout"
    cells = kept.unpacked(np.frombuffer(packed, np.int64))
    for column in kept.layout.columns:
        of = cells[column.name]
        if of.min() < 0 or of.max() > hour.rows:
            return f"counts {column.name} below 0, or above the hour's rows"
        counted = int(of.sum())
        if counted > hour.rows or (column.where is None and counted != hour.rows):
            return f"has {hour.rows:,} rows in an hour, and counts {counted:,} of {column.name}"
    return ""
