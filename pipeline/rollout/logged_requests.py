"""The newest requests of a model's prediction log, and how many come in an hour."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.ledger.rollout_events import MOVES
from pipeline.policy.needed import Traffic
from pipeline.rollout.context import RolloutContext
from pipeline.rollout.slots import predictions_folder
from pipeline.serving.log_files import GOLDEN, GOLDEN_ID, current_files

if TYPE_CHECKING:
    import pyarrow as pa

TODAY_HOURS = 24.0
# Enough to know how many come; a log of a busy model has millions.
MOST_ROWS = 100_000
ATTEMPTS = 3
WHO_AND_WHEN = ("request_id", "received_at")


def traffic(context: RolloutContext, model: str) -> Traffic:
    """The requests of the last day, or of the time since the model first went live. Raises OSError or ValueError."""
    now = context.clock()
    since = now - timedelta(hours=TODAY_HOURS)
    moves = context.ledger.events(*MOVES, model=model)
    if moves:
        since = max(since, datetime.fromisoformat(moves[0].at))
    folder = predictions_folder(context.home, model)
    requests = rows = 0
    for table in newest(folder, since, MOST_ROWS, WHO_AND_WHEN):
        requests += table.group_by(list(WHO_AND_WHEN)).aggregate([]).num_rows
        rows += len(table)
        if rows >= MOST_ROWS:
            since = max(since, _oldest(table))
    return Traffic(requests, rows, max((now - since).total_seconds(), 1.0) / 3600)


def _oldest(table: pa.Table) -> datetime:
    import pyarrow.compute as pc

    return pc.min(table["received_at"]).as_py().astimezone(UTC)


def newest(folder: Path, since: datetime, most_rows: int, columns: Sequence[str] | None = None) -> list[pa.Table]:
    """Tables of the rows that were received after `since`, the newest files first and in each the newest request first.

    Golden requests are left out. Once there are `most_rows`, no older file is read. Raises OSError or ValueError.
    """
    for attempt in range(ATTEMPTS):
        try:
            return list(_newest(folder, since, most_rows, columns))
        except FileNotFoundError:
            # A slot has just merged the files that were listed.
            if attempt == ATTEMPTS - 1:
                raise
    raise AssertionError


def _newest(folder: Path, since: datetime, most_rows: int, columns: Sequence[str] | None) -> Iterator[pa.Table]:
    import pyarrow.compute as pc

    written = sorted(((path.stat().st_mtime, path) for path in current_files(folder)), reverse=True)
    rows = 0
    for at, path in written:
        # No row of a file came after the file was written.
        if at < since.timestamp() or rows >= most_rows:
            return
        table = _without_golden(path, columns)
        table = table.filter(pc.greater_equal(table["received_at"], since)).sort_by([("received_at", "descending")])
        if len(table):
            yield table
            rows += len(table)


def _without_golden(path: Path, columns: Sequence[str] | None) -> pa.Table:
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        marked = GOLDEN in file.schema_arrow.names
        table = file.read([*columns, *([GOLDEN] if marked else [])] if columns else None)
    golden = table[GOLDEN] if marked else pc.starts_with(table["request_id"], GOLDEN_ID)
    return table.filter(pc.invert(golden))
