"""The rows that the Dag `score__MODEL` scores: those of `scoring.query`, or of the model's own source without their labels.

They come in batches. DuckDB may hold MEMORY, and writes what does not fit into it to the folder `spill`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import pyarrow as pa

from pipeline.data import s3, statements, unread
from pipeline.data import source as rows_of_source
from pipeline.data.sampled_types import refuse_sampled_types
from pipeline.data.sql import connect, parameters, quoted
from pipeline.data.text_sql import literal
from pipeline.errors import DataError
from pipeline.settings.columns import one_name
from pipeline.settings.models import Model

MEMORY = "1GB"
KEY = "scoring.query"


@dataclass(frozen=True)
class Wanted:
    """What scoring needs of each row: `columns`, and those of `optional` that there are."""

    columns: Sequence[str]
    optional: Sequence[str]


@dataclass(frozen=True)
class Batches:
    """`without_event_time` rows of the model's source belong to no interval, since nobody can say when they happened."""

    reader: pa.RecordBatchReader
    without_event_time: int = 0


@contextmanager
def scoring_rows(
    root: Path, name: str, model: Model, start: datetime, end: datetime, wanted: Wanted, batch_rows: int, spill: Path
) -> Iterator[Batches]:
    """Batches of the interval's rows; those of the model's own source have the column `unread` too, see that module.

    Relative paths in the query start at `root`, its times without a zone are in `source.timezone`. Raises DataError.
    """
    connection = connect(root)
    connection.execute(f"SET memory_limit = '{MEMORY}'")
    connection.execute(f"SET temp_directory = {literal(str(spill))}")
    query = model.scoring.query if model.scoring is not None else None
    relation, bound, subject, without_time = "rows", {}, f"{name} source", 0
    try:
        if query is not None:
            subject = f"models.{name}.{KEY}"
        else:
            rows_of_source.load(connection, model.source, model.training, start, end, name)
            without_time = rows_of_source.keep_window(connection, model.source, start, end)
            wanted = replace(wanted, optional=[*wanted.optional, unread.COLUMN])
        with (
            rows_of_source.readable(subject, model.source.event_time),
            rows_of_source.in_zone(connection, model.source.timezone),
        ):
            if query is not None:
                s3.let_read(connection, query)
                query = statements.prepared(connection, query, subject, root)
                refuse_sampled_types(connection, query, name, KEY)
                relation = f"({query}\n)"
                bound = parameters(query, {"start": start, "end": end})
            described = connection.execute(f"DESCRIBE SELECT * FROM {relation}", bound).fetchall()
            picked = _picked(subject, [str(row[0]) for row in described], wanted)
            # Named as the model does: to DuckDB Spend and spend are one column.
            columns = ", ".join(f"{quoted(column)} AS {quoted(column)}" for column in picked)
            rows = connection.sql(f"SELECT {columns} FROM {relation}", params=bound)
            yield Batches(rows.to_arrow_reader(batch_rows), without_time)
    finally:
        connection.close()


def _picked(subject: str, names: list[str], wanted: Wanted) -> list[str]:
    there = {one_name(name) for name in names}
    if missing := [column for column in wanted.columns if one_name(column) not in there]:
        raise DataError(subject, f"has no column {missing[0]}", f"add it; the columns are {', '.join(names)}"[:300])
    return [*wanted.columns, *(name for name in wanted.optional if one_name(name) in there)]
