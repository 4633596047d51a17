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
from pipeline.policy.needed import Traffic
from pipeline.rollout.context import RolloutContext
from pipeline.rollout.slots import predictions_folder
from pipeline.serving.log_files import GOLDEN, GOLDEN_ID, current_files

if TYPE_CHECKING:
    import pyarrow as pa

TODAY_HOURS = 24.0
# Enough to know how many come; a log of a busy model has millions.
MOST_ROWS = 20_000
ATTEMPTS = 3
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
    return Traffic(requests, newest.rows, max((now - newest.since).total_seconds(), 1.0) / 3600)


@dataclass(frozen=True)
class NewestRows:
    """All rows of a log that were received from `since` on, the newest request first in each table."""

    tables: Sequence[pa.Table]
    since: datetime

    @property
    def rows(self) -> int:
        return sum(map(len, self.tables))


def newest_rows(folder: Path, since: datetime, most_rows: int, columns: Sequence[str] | None = None) -> NewestRows:
    """The newest `most_rows` rows, and those of the same moment, but none before `since`. Golden requests are left out.

    Raises OSError or ValueError.
    """
    for attempt in range(ATTEMPTS):
        try:
            return _newest_rows(folder, since, most_rows, columns)
        except FileNotFoundError:
            # A slot has just merged the files that were listed.
            if attempt == ATTEMPTS - 1:
                raise
    raise AssertionError


def _newest_rows(folder: Path, since: datetime, most_rows: int, columns: Sequence[str] | None) -> NewestRows:
    written = sorted(((path.stat().st_mtime, path) for path in current_files(folder)), reverse=True)
    tables: list[pa.Table] = []
    times = np.empty(0, "datetime64[ms]")
    for at, path in written:
        # No row of a file came after the file was written. Several processes write at a time, so a file may begin before another ends.
        if at < since.timestamp():
            break
        # A group of rows may begin within a request, which matters where requests are wanted whole.
        table = _rows(path, columns, since, most_rows if columns else sys.maxsize)
        if not len(table):
            continue
        tables.append(table)
        times = np.concatenate([times, table["received_at"].to_numpy().astype("datetime64[ms]")])
        if len(times) >= most_rows:
            times = np.sort(times)[-most_rows:]
            since = max(since, times[0].astype(datetime).replace(tzinfo=UTC))
    return NewestRows([newer for table in tables if len(newer := _from(table, since))], since)


def _from(table: pa.Table, since: datetime) -> pa.Table:
    import pyarrow.compute as pc

    return table.filter(pc.greater_equal(table["received_at"], since)).sort_by([("received_at", "descending")])


def _rows(path: Path, columns: Sequence[str] | None, since: datetime, most_rows: int) -> pa.Table:
    """The last rows of a file that came after `since`, without golden ones; no more groups of rows are read than that takes."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    tables: list[pa.Table] = []
    rows = 0
    with pq.ParquetFile(path) as file:
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
