"""The newest requests of a model's prediction log, and how many come in an hour."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.ledger.rollout_events import MOVES
from pipeline.monitoring import log_reader
from pipeline.monitoring.log_reader import ATTEMPTS, LogReader
from pipeline.policy.needed import Traffic
from pipeline.rollout.context import RolloutContext
from pipeline.rollout.slots import predictions_folder
from pipeline.serving.log_files import GOLDEN, GOLDEN_ID, Damaged

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

TODAY_HOURS = 24.0
# Enough to know how many come; a log of a busy model has millions.
MOST_ROWS = 20_000
WHO_AND_WHEN = ("request_id", "received_at")


def traffic(context: RolloutContext, model: str) -> Traffic:
    """The requests of the last day, or of the time since the model first went live. Raises OSError or ValueError."""
    now = context.clock()
    since = now - timedelta(hours=TODAY_HOURS)
    moves = context.ledger.events(*MOVES, model=model)
    if moves:
        since = max(since, datetime.fromisoformat(moves[0].at))
    newest = newest_rows(predictions_folder(context.home, model), since, MOST_ROWS, WHO_AND_WHEN)
    requests = sum(table.group_by(list(WHO_AND_WHEN)).aggregate([]).num_rows for table in newest.tables)
    hours = max((now - newest.since).total_seconds(), 1.0) / 3600
    return Traffic(requests, newest.rows, hours, newest.damaged_files)


@dataclass(frozen=True)
class NewestRows:
    """All rows of a log that were received from `since` on, the newest request first in each table; none of its damaged files."""

    tables: Sequence[pa.Table]
    since: datetime
    damaged_files: int = 0

    @property
    def rows(self) -> int:
        return sum(map(len, self.tables))


def newest_rows(folder: Path, since: datetime, most_rows: int, columns: Sequence[str] | None = None) -> NewestRows:
    """The newest `most_rows` rows, and those of the same moment, but none before `since`. Golden requests are left out.

    Raises OSError or ValueError.
    """
    reader = LogReader(folder)
    for attempt in range(ATTEMPTS):
        try:
            while True:
                known = len(reader.unreadable)
                newest = _newest_rows(reader, since, most_rows, columns)
                if len(reader.unreadable) == known:
                    return newest
                # The parts of a merged file that is damaged may be there still.
        except FileNotFoundError:
            # A slot has just merged the files that were listed.
            if attempt == ATTEMPTS - 1:
                raise
    raise AssertionError


def _newest_rows(reader: LogReader, since: datetime, most_rows: int, columns: Sequence[str] | None) -> NewestRows:
    files = reader.listed()
    written = sorted(((path.stat().st_mtime, path) for path in files.files), reverse=True)
    tables: list[pa.Table] = []
    times = np.empty(0, "datetime64[ms]")
    for at, path in written:
        # No row of a file came after the file was written. Several processes write at a time, so a file may begin before another ends.
        if at < since.timestamp():
            break
        # A group of rows may begin within a request, which matters where requests are wanted whole.
        try:
            table = _rows(path, columns, since, most_rows if columns else sys.maxsize)
        except Damaged as error:
            reader.leave_out(path, error)
            continue
        if not len(table):
            continue
        tables.append(table)
        times = np.concatenate([times, table["received_at"].to_numpy().astype("datetime64[ms]")])
        if len(times) >= most_rows:
            times = np.sort(times)[-most_rows:]
            since = max(since, times[0].astype(datetime).replace(tzinfo=UTC))
    newest = [newer for table in tables if len(newer := _from(table, since))]
    return NewestRows(newest, since, len(files.damaged))


def _from(table: pa.Table, since: datetime) -> pa.Table:
    import pyarrow.compute as pc

    return table.filter(pc.greater_equal(table["received_at"], since)).sort_by([("received_at", "descending")])


def _rows(path: Path, columns: Sequence[str] | None, since: datetime, most_rows: int) -> pa.Table:
    """The last rows of a file that came after `since`, without golden ones; no more groups of rows are read than that takes.

    Raises Damaged, or FileNotFoundError.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    def newest(file: pq.ParquetFile) -> pa.Table:
        tables: list[pa.Table] = []
        rows = 0
        marked = GOLDEN in file.schema_arrow.names
        wanted = [*columns, *([GOLDEN] if marked else [])] if columns else None
        for group in reversed(range(file.num_row_groups)):
            table = file.read_row_group(group, wanted)
            golden = table[GOLDEN] if marked else pc.starts_with(table["request_id"], GOLDEN_ID)
            table = table.filter(pc.and_(pc.invert(golden), pc.greater_equal(table["received_at"], since)))
            tables.insert(0, table)
            rows += len(table)
            if rows >= most_rows:
                break
        return pa.concat_tables(tables) if tables else file.schema_arrow.empty_table()

    return log_reader.table(path, newest)
