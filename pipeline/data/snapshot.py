"""The snapshot: the labelled rows of one training window as they were known at its as-of.

It has one Parquet file a day (a partition). The same rows give the same bytes, so that DVC stores a day once for all windows; a
day that has landed before is linked, not written (see partition_cache). Nothing learned after the as-of gets in: rows
end before it, and a label counts only when its label_time is at or before it. Cells are in their neutral form (see neutral_sql), and
schema.json beside the partitions says what they mean.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.data import drawn_schema, group_columns, label_delay, neutral_sql, partition_cache, sql, unread
from pipeline.data import source as source_rows
from pipeline.data.day_history import no_label_key
from pipeline.data.label_delay import LabelDelay
from pipeline.data.user_code import own_code
from pipeline.errors import DataError
from pipeline.serving.schema import Schema
from pipeline.settings.models import Model
from pipeline.settings.source import Source
from pipeline.settings.training import Training
from pipeline.training import tasks

# A column with more different values than these bytes hold (512 numbers) is stored without a list of them: for measurements that list is
# longer than the column, and takes half of the time of writing.
DICTIONARY_BYTES = 2**12


@dataclass(frozen=True)
class LabelCounts:
    """Rows by label: `rows_in` = `without_label` + `label_later` + `rows`. The time of a `label_later` row's label is after
    the as-of, or missing."""

    rows_in: int
    without_label: int
    label_later: int
    rows: int


@dataclass(frozen=True)
class SnapshotCounts(LabelCounts):
    """The rows and files of a snapshot; `rows_in` counts the rows `without_time` too. `landed` of its `partitions` were written,
    the others linked. `delay` is None for a source without label times."""

    without_time: int
    partitions: int
    landed: int
    delay: LabelDelay | None = None

    def as_dict(self) -> dict[str, int]:
        """What the file of counts holds of rows and files: all but `landed`, which depends on the cache."""
        return {
            "in": self.rows_in,
            "without_label": self.without_label,
            "label_later": self.label_later,
            "rows": self.rows,
            "without_time": self.without_time,
            "partitions": self.partitions,
        }


def window(source: Source, as_of: datetime) -> tuple[datetime, datetime]:
    """The training window [start, end) that ends at `as_of`."""
    return as_of - timedelta(days=source.window_days), as_of


def take(
    name: str, model: Model, root: Path, folder: Path, counts: Path, index: Path, code: Path | None = None
) -> SnapshotCounts:
    """Writes the snapshot of `model` into `folder` and its row counts into the JSON file `counts`.

    `index` is the database of the partitions that have landed (see partition_cache.Index). The file holds nothing that was
    learned after the as-of. It also lists the files below `code`, or `root`, that a hook or an estimator imports, so that the
    later stages depend on them (see user_code). Raises DataError for a source that has no rows, lacks a column, or has a column
    of the wrong type.
    """
    start, end = window(model.source, model.as_of)
    with sql.connect(root) as connection:
        merged = source_rows.load(connection, model.source, model.training, start, end, name, model.beside)
        unread_times = unread.times(connection, model.source.event_time)
        without_time = source_rows.keep_window(connection, model.source, start, end)
        types = required_types(connection, name, model, merged)
        group_columns.refuse_unfit(types, name, model)
        rows_a_day, gaps = _rows_a_day(connection, model), _missing_a_day(connection, model, end)
        by_label = delete_unlabelled(connection, name, model, start, end)
        delay = label_delay.measured(connection, model.source, model.training.target, start, end)
        partitions, landed = _land_days(connection, model, types, folder, index)
        schema = drawn_schema.draw(connection, name, model, types)
    schema.write(folder)
    taken = SnapshotCounts(
        rows_in=by_label.rows_in + without_time,
        without_label=by_label.without_label,
        label_later=by_label.label_later,
        rows=by_label.rows,
        without_time=without_time,
        partitions=partitions,
        landed=landed,
        delay=delay,
    )
    content = {"as_of": model.as_of.isoformat(), **taken.as_dict(), "rows_a_day": rows_a_day, "missing_a_day": gaps}
    content |= {"label_delay_s": delay.as_dict()} if delay is not None else {}
    content |= unread_times.as_dict(model.source.event_time)
    if own := own_code(model, code or root):
        content["code"] = own
    counts.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return taken


@dataclass(frozen=True)
class KnownRows:
    """Rows in a snapshot's form, as long as their connection is open. Those of one `fingerprint`, under the same settings, are the same rows
    with the same schema, in whatever order the source gave them."""

    fingerprint: str
    _connection: duckdb.DuckDBPyConnection
    _name: str
    _model: Model
    _types: dict[str, str]

    def table(self) -> pa.Table:
        """In a snapshot's order."""
        return unread.only_if_any(_in_order(self._connection, self._model))

    def schema(self) -> Schema:
        """That which is drawn from them. Raises DataError."""
        return drawn_schema.draw(self._connection, self._name, self._model, self._types)


@contextmanager
def known(name: str, model: Model, root: Path, start: datetime, end: datetime, as_of: datetime) -> Iterator[KnownRows]:
    """The labelled rows with event time in [start, end) as they were known at `as_of`. Writes nothing. Raises DataError as `take` does, whose
    rows these are for its own window and as-of."""
    with sql.connect(root) as connection:
        merged = source_rows.load(connection, model.source, model.training, start, end, name)
        source_rows.keep_window(connection, model.source, start, end, as_of)
        types = required_types(connection, name, model, merged)
        delete_unlabelled(connection, name, model, start, as_of)
        _lay_out(connection, model, types)
        yield KnownRows(fingerprint(_fingerprints(connection, model), types), connection, name, model, types)


def fingerprint(days: dict[str, partition_cache.Fingerprint], types: dict[str, str]) -> str:
    """That of `KnownRows`, by the fingerprints of its days and the types of the source's columns."""
    content = json.dumps([{day: (of.rows, of.folded) for day, of in days.items()}, types], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def known_rows(
    name: str, model: Model, root: Path, start: datetime, end: datetime, as_of: datetime
) -> tuple[pa.Table, Schema]:
    """The rows of `known`, and their schema."""
    with known(name, model, root, start, end, as_of) as rows:
        return rows.table(), rows.schema()


def _rows_a_day(connection: duckdb.DuckDBPyConnection, model: Model) -> dict[str, int]:
    """All rows of the source by day, labelled or not, for the comparison with the days before."""
    day = _day(sql.quoted(model.source.event_time))
    return dict(connection.execute(f"SELECT {day}, count(*) FROM rows GROUP BY 1 ORDER BY 1").fetchall())


def _day(time_sql: str) -> str:
    return f"strftime({time_sql}, '%Y-%m-%d')"


def required_types(
    connection: duckdb.DuckDBPyConnection, name: str, model: Model, merged: Sequence[str] = ()
) -> dict[str, str]:
    """The DuckDB types of the columns; `merged` are those of `source.load`. Raises DataError for a column that is missing or holds
    something else."""
    types = source_rows.column_types(connection)
    source_rows.require(types, [*model.training.features, model.training.target, *model.training.weights], name)
    of_labels = tasks.of(model.training).of_labels
    for column in [*model.training.numeric, *model.training.weights, *([] if of_labels else [model.training.target])]:
        if not sql.is_number(types[column]):
            list_ = "datetime" if neutral_sql.is_time(types[column]) else "categorical"
            raise DataError(
                f"{name} source",
                f"column {column} holds {types[column]}, not a number",
                f"cast it in models.{name}.source.query, or list it in models.{name}.training.{list_}",
            )
    drawn_schema.refuse_unfit(connection, name, model, types, merged)
    return types


def _missing_a_day(
    connection: duckdb.DuckDBPyConnection, model: Model, end: datetime
) -> dict[str, dict[str, tuple[int, int]]]:
    """{day: {column: (rows without a value, rows that should have one)}} of all rows of the source, without days that lack nothing.

    Labels come late by nature: a row should have its label once the label's time has come, and the time once it has the
    label. Rows that had neither at `end`, the as-of, count under `no_label_key`, whatever was learned about them since.
    """
    target, label_time = model.training.target, model.source.label_time
    features = [sql.missing(c, c in model.training.numeric) for c in model.training.features]
    gaps: dict[str, tuple[str, str]] = {}
    unlabelled = sql.unlabelled(target)
    if label_time is None:
        gaps[no_label_key(model)] = (unlabelled, "TRUE")
    else:
        time = sql.quoted(label_time)
        gaps[target] = (unlabelled, f"coalesce({time} <= $end, FALSE)")
        gaps[label_time] = (f"{time} IS NULL", f"NOT {unlabelled} AND coalesce({time} <= $end, TRUE)")
        gaps[no_label_key(model)] = (f"({unlabelled} AND {time} IS NULL OR coalesce({time} > $end, FALSE))", "TRUE")
    # Every row should have its features: how many rows there are is counted once. A FILTER for each would take twice the time.
    counts = ", ".join(
        [
            "count(*)",
            *(f"count_if({gone})" for gone in features),
            *(f"count(*) FILTER ({of} AND {gone}), count(*) FILTER ({of})" for gone, of in gaps.values()),
        ]
    )
    query = f"SELECT {_day(sql.quoted(model.source.event_time))}, {counts} FROM rows GROUP BY 1 ORDER BY 1"
    missing_a_day = {}
    for day, rows, *numbers in connection.execute(query, sql.parameters(query, {"end": end})).fetchall():
        of_features, others = numbers[: len(features)], numbers[len(features) :]
        pairs = {column: (gone, rows) for column, gone in zip(model.training.features, of_features, strict=True)}
        pairs |= dict(zip(gaps, zip(others[::2], others[1::2], strict=True), strict=True))
        if lacking := {column: pair for column, pair in pairs.items() if pair[0]}:
            missing_a_day[day] = lacking
    return missing_a_day


def delete_unlabelled(
    connection: duckdb.DuckDBPyConnection, name: str, model: Model, start: datetime, end: datetime
) -> LabelCounts:
    """Deletes the rows without a label at the as-of, and counts all rows by label. Raises DataError when no row is left."""
    unread_label = unread.of(model.training.target, model.source.label_time)
    unknown = f"({sql.unlabelled(model.training.target)} AND NOT {unread_label})"
    later = "FALSE"
    if model.source.label_time:
        label_time = sql.quoted(model.source.label_time)
        later = f"(({label_time} IS NULL AND NOT {unread.of(model.source.label_time)}) OR coalesce({label_time} > $end, FALSE))"
    # The time decides first: a label that is learned after the as-of must not move a row from one count to the other.
    query = f"""SELECT count(*), count(*) FILTER ({unknown} AND NOT {later}),
                     count(*) FILTER ({later}) FROM rows"""
    counted = connection.execute(query, sql.parameters(query, {"end": end})).fetchone()
    total, without_label, label_later = counted or (0, 0, 0)
    if total == 0:
        raise DataError(
            f"{name} source",
            f"no rows from {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M}",
            f"check models.{name}.as_of, models.{name}.source.window_days and the source",
        )
    labelled = total - without_label - label_later
    if labelled == 0:
        raise DataError(
            f"{name} source",
            f"none of its {total} rows has a label known by {end:%Y-%m-%d %H:%M}",
            f"check the columns {model.training.target} and {model.source.label_time}",
        )
    delete = f"DELETE FROM rows WHERE {unknown} OR {later}"
    connection.execute(delete, sql.parameters(delete, {"end": end}))
    return LabelCounts(total, without_label, label_later, labelled)


def columns_sql(source: Source, training: Training, types: dict[str, str], beside: Sequence[str] = ()) -> str:
    """The select list of a snapshot: its order and types do not depend on the source's `types`, and neither do its cells."""
    quoted = sql.quoted
    # A key may be the event time itself, and there may be none.
    key = source.key if source.key not in (source.event_time, source.label_time) else None
    parts = [f"{neutral_sql.key(key, types[key])} AS {quoted(key)}"] if key is not None else []
    times = [source.event_time, *([source.label_time] if source.label_time else [])]
    parts += [f"CAST({quoted(c)} AS TIMESTAMPTZ) AS {quoted(c)}" for c in dict.fromkeys(times)]
    parts += [f"CAST({quoted(c)} AS DOUBLE) AS {quoted(c)}" for c in [*training.numeric, *training.weights]]
    # They are instants already (see feature_times).
    parts += [f"CAST({quoted(c)} AS TIMESTAMPTZ) AS {quoted(c)}" for c in training.datetime]
    parts += [f"nullif(CAST({quoted(c)} AS VARCHAR), '') AS {quoted(c)}" for c in training.text]
    parts += [f"{neutral_sql.category(c, types[c])} AS {quoted(c)}" for c in [*training.categorical, *beside]]
    held = "VARCHAR" if tasks.of(training).of_labels else "DOUBLE"
    parts.append(f"CAST({quoted(training.target)} AS {held}) AS {quoted(training.target)}")
    return ", ".join(dict.fromkeys(parts))


def _land_days(
    connection: duckdb.DuckDBPyConnection, model: Model, types: dict[str, str], folder: Path, index_file: Path
) -> tuple[int, int]:
    """Fills `folder` with a file a day. Returns (number of days, number of days written)."""
    _lay_out(connection, model, types, model.beside)
    days = _fingerprints(connection, model)
    # Not the select list itself: it follows the types of the source, and the cells do not.
    training = model.training
    kinds = f"{list(training.numeric)} {list(training.datetime)} {list(training.text)} {list(training.categorical)}"
    plan = f"{model.source.key} {model.source.event_time} {model.source.label_time} {kinds}"
    made_by = f"{plan} {training.target} {training.task} {training.weight} {model.beside} duckdb {duckdb.__version__} arrow {pa.__version__}".encode()
    code = b"".join(Path(file).read_bytes() for file in (__file__, neutral_sql.__file__))
    recipe = hashlib.sha256(made_by + code).hexdigest()
    index = partition_cache.Index(index_file)
    try:
        with partition_cache.repository(folder.parent) as repo:
            linked = partition_cache.link_cached(repo, folder, index.known(recipe, days))
            new = {day: days[day] for day in sorted(set(days) - linked)}
            _write_days(connection, model, folder, new)
            hashes = {day: partition_cache.md5_and_size(repo, folder / (day + partition_cache.SUFFIX)) for day in new}
        index.add(recipe, {day: (fingerprint, *hashes[day]) for day, fingerprint in new.items()})
    finally:
        index.close()
    return len(days), len(new)


def _lay_out(
    connection: duckdb.DuckDBPyConnection, model: Model, types: dict[str, str], beside: Sequence[str] = ()
) -> None:
    """Makes the table `landing`: the rows in a snapshot's form, with the columns that are only for the gates."""
    columns = columns_sql(model.source, model.training, types, beside)
    with source_rows.readable("source"):
        connection.execute(f"CREATE TEMP TABLE landing AS SELECT {columns}, {unread.COLUMN} FROM rows")


def _fingerprints(connection: duckdb.DuckDBPyConnection, model: Model) -> dict[str, partition_cache.Fingerprint]:
    row = row_hash(source_rows.column_types(connection, "landing"))
    return days_of(connection, f"SELECT {day_of(model.source)} AS day, {row} AS row FROM landing")


def day_of(source: Source) -> str:
    """SQL for the day of a row, in UTC, that names its partition."""
    return _day(sql.quoted(source.event_time))


def row_hash(columns: Iterable[str]) -> str:
    """SQL for a hash of a row's cells in these columns."""
    # Hashed twice: DuckDB's hash of many columns is linear in the last one, so that two labels that swap rows would not show.
    return f"hash(hash({', '.join(map(sql.quoted, columns))}))"


def days_of(
    connection: duckdb.DuckDBPyConnection, rows: str, bound: dict[str, Any] | None = None
) -> dict[str, partition_cache.Fingerprint]:
    """{day: fingerprint} of `rows`, a SELECT of `day` and the row's hash as `row`."""
    query = f"SELECT day, count(*), bit_xor(row), sum(row) FROM ({rows}) GROUP BY 1 ORDER BY 1"
    return {
        day: partition_cache.Fingerprint(rows, f"{xor:x}.{int(total):x}")
        for day, rows, xor, total in connection.execute(query, bound or {}).fetchall()
    }


def _in_order(
    connection: duckdb.DuckDBPyConnection, model: Model, where: str = "", bound: dict[str, Any] | None = None
) -> pa.Table:
    """The rows of `landing`. Their order does not depend on the source's: by time, key, then all other columns."""
    event, key = model.source.event_time, model.source.key
    order = [*dict.fromkeys([event, *([key] if key else [])])]
    # To sort by thirty columns takes twice as long as by two.
    if _any_alike(connection, order):
        order = [*dict.fromkeys([*order, *source_rows.column_types(connection, "landing")])]
    query = f"SELECT * FROM landing {where} ORDER BY {', '.join(sql.quoted(c) for c in order)}"
    return source_rows.to_arrow(connection, query, bound)


def _write_days(
    connection: duckdb.DuckDBPyConnection, model: Model, folder: Path, days: dict[str, partition_cache.Fingerprint]
) -> None:
    """Writes `days` as Parquet."""
    of_days = f"WHERE list_contains($days, {_day(sql.quoted(model.source.event_time))})"
    table = _in_order(connection, model, of_days, {"days": list(days)})
    begins = accumulate((fingerprint.rows for fingerprint in days.values()), initial=0)

    def write(day: str, begin: int) -> None:
        rows = unread.only_if_any(table.slice(begin, days[day].rows))
        file = folder / (day + partition_cache.SUFFIX)
        pq.write_table(rows, file, compression="zstd", dictionary_pagesize_limit=DICTIONARY_BYTES)

    # Arrow packs a file on one core.
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
        list(threads.map(write, days, begins))


def _any_alike(connection: duckdb.DuckDBPyConnection, columns: list[str]) -> bool:
    """Whether two rows of `landing` are equal in these columns."""
    alike = f"SELECT 1 FROM landing GROUP BY {', '.join(map(sql.quoted, columns))} HAVING count(*) > 1 LIMIT 1"
    return connection.execute(alike).fetchone() is not None
