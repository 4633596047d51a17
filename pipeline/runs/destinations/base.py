"""What all destinations share: the files of an interval that is scored, and the promise to replace it whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from pipeline.errors import PerennialError
from pipeline.runs.scoring_interval import Interval

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from pipeline.runs.block_scoring import RefusedRow

# Named so that readers of a folder of Parquet files pass the second by.
SCORES, REFUSED = "scores.parquet", "_refused.jsonl"
REFUSED_TABLE = "_refused"


class DestinationError(PerennialError):
    """The destination cannot be written. What it had before stays."""


class Destination(Protocol):
    """Who writes the answers of one model."""

    def folder(self, interval: Interval) -> Path:
        """An own folder for the interval's files, which need not exist."""

    def replace(self, interval: Interval, files: Path) -> None:
        """Puts the rows of the folder `files` into the place of those that the interval has. Raises DestinationError.

        All or none of it happens, also when the process is killed. Two at once come one after the other.
        """


@dataclass(frozen=True)
class RefusedLine:
    """One refused row as it is kept: `cells` is JSON, the row as it came from the source."""

    interval_start: str
    interval_end: str
    row: int
    reason: str
    version: str
    cells: str


class IntervalFiles:
    """Writes the scored and the refused rows of an interval to a folder, block by block."""

    def __init__(self, folder: Path, interval: Interval, version: str) -> None:
        self._folder, self._interval, self._version = folder, interval, version
        self._scores: pq.ParquetWriter | None = None
        self._refused = (folder / REFUSED).open("w", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def add(self, scored: pa.Table, refused: list[RefusedRow]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        for name, time in (("interval_end", self._interval.end), ("interval_start", self._interval.start)):
            times = pa.array([time] * len(scored), pa.timestamp("us", tz="UTC"))
            scored = scored.add_column(0, name, times)
        if self._scores is None:
            self._scores = pq.ParquetWriter(self._folder / SCORES, scored.schema)
        self._scores.write_table(scored.cast(self._scores.schema))
        start, end = str(self._interval).split("/")
        for row in refused:
            cells = json.dumps(row.values, ensure_ascii=False)
            line = RefusedLine(start, end, row.row, row.reason, self._version, cells)
            self._refused.write(json.dumps(asdict(line), ensure_ascii=False) + "\n")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._scores is not None:
            self._scores.close()
        self._refused.close()


def refused_lines(files: Path) -> Iterator[dict[str, Any]]:
    """The refused rows of an interval's folder."""
    with (files / REFUSED).open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)
