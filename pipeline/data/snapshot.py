"""The snapshot: the labelled rows of one training window as they were known at its as-of.

One Parquet file a day (a partition), the same byte for byte each time, so that DVC keeps a day once however
many windows it is in; a day that has landed before is linked, not written (see `landing`). Nothing learned
after the as-of gets in: rows end before it, and a label counts only when its label_time is at or before it.
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.data import partition_cache, sql
from pipeline.data import source as source_rows
from pipeline.data.day_history import no_label
from pipeline.data.user_code import own_code
from pipeline.errors import DataError
from pipeline.settings.models import Model, Source, Training


def window(source: Source, as_of: datetime) -> tuple[datetime, datetime]:
    """The training window [start, end) that ends at `as_of`."""
    return as_of - timedelta(days=source.window_days), as_of


def take(
    name: str, model: Model, root: Path, folder: Path, counts: Path, index: Path, code: Path | None = None
) -> dict[str, Any]:
    """Writes the snapshot of `model` into `folder` and its row counts into the JSON file `counts`.

    Returns {"in", "without_time", "without_label", "label_later", "rows", "partitions", "landed"}, where in =
    without_time + without_label + label_later + rows, `label_later` are the rows whose label's time had not come, and
    `landed` (not in the file) is how many partitions had to be written; `index` is the file that remembers which have
    landed. The file says nothing that was learnt after the as-of. It also names the project's own code that a hook or an
    estimator brings (see `hooks`; found below `code`, or `root`), so that the later stages depend on it. Raises DataError for a source without rows, without a wanted
    column, or with a wrong type.
    """
    start, end = window(model.source, model.as_of)
    with sql.connect(root) as connection:
        source_rows.load(connection, model.source, start, end, name)
        without_time = source_rows.keep_window(connection, model.source, start, end)
        _require_types(connection, name, model)
        days_in, gaps = _rows_a_day(connection, model), _missing_a_day(connection, model, end)
        told = _split_by_label(connection, name, model, start, end)
        days, landed = _land_days(connection, model, folder, index)
    told |= {"in": told["in"] + without_time, "without_time": without_time, "partitions": days}
    kept = {"as_of": model.as_of.isoformat(), **told, "rows_a_day": days_in, "missing_a_day": gaps}
    if own := own_code(model, code or root):
        kept["code"] = own
    counts.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    return {**told, "landed": landed}


def _rows_a_day(connection: duckdb.DuckDBPyConnection, model: Model) -> dict[str, int]:
    """All rows of the source by day, labelled or not: what the contract compares with history."""
    day = _day(sql.quoted(model.source.event_time))
    return dict(connection.execute(f"SELECT {day}, count(*) FROM rows GROUP BY 1 ORDER BY 1").fetchall())


def _day(time_sql: str) -> str:
    return f"strftime({time_sql}, '%Y-%m-%d')"


def _require_types(connection: duckdb.DuckDBPyConnection, name: str, model: Model) -> None:
    types = source_rows.column_types(connection)
    source_rows.require(types, [*model.training.features, model.training.target], name)
    for column in [*model.training.numeric, model.training.target]:
        if not sql.is_number(types[column]):
            raise DataError(
                f"{name} source",
                f"column {column} holds {types[column]}, not a number",
                "cast it in the query, or list it under categorical",
            )


def _missing_a_day(
    connection: duckdb.DuckDBPyConnection, model: Model, end: datetime
) -> dict[str, dict[str, tuple[int, int]]]:
    """{day: {column: (rows without a value, rows that should have one)}} of all rows of the source; days without gaps are left out.

    A label should be there once its time has come, and its time where the label is: both come late by nature. The
    rows that had neither by `end`, the as-of, stand under `history.no_label`, whatever was learnt of them since.
    """
    target, label_time = model.training.target, model.source.label_time
    gaps = {c: (sql.missing(c, c in model.training.numeric), "TRUE") for c in model.training.features}
    unlabelled = sql.unlabelled(target)
    if label_time is None:
        gaps[no_label(model)] = (unlabelled, "TRUE")
    else:
        time = sql.quoted(label_time)
        gaps[target] = (unlabelled, f"coalesce({time} <= $end, FALSE)")
        gaps[label_time] = (f"{time} IS NULL", f"NOT {unlabelled} AND coalesce({time} <= $end, TRUE)")
        gaps[no_label(model)] = (f"({unlabelled} AND {time} IS NULL OR coalesce({time} > $end, FALSE))", "TRUE")
    counts = ", ".join(f"count(*) FILTER ({of} AND {gone}), count(*) FILTER ({of})" for gone, of in gaps.values())
    query = f"SELECT {_day(sql.quoted(model.source.event_time))}, {counts} FROM rows GROUP BY 1 ORDER BY 1"
    found = {}
    for day, *told in connection.execute(query, {"end": end} if "$end" in query else {}).fetchall():
        pairs = dict(zip(gaps, zip(told[::2], told[1::2], strict=True), strict=True))
        if there := {column: pair for column, pair in pairs.items() if pair[0]}:
            found[day] = there
    return found


def _split_by_label(
    connection: duckdb.DuckDBPyConnection, name: str, model: Model, start: datetime, end: datetime
) -> dict[str, int]:
    unknown = sql.unlabelled(model.training.target)
    later = "FALSE"
    if model.source.label_time:
        label_time = sql.quoted(model.source.label_time)
        later = f"({label_time} IS NULL OR {label_time} > $end)"
    # By time first: a label that is learnt after the as-of may not move a row from one count to the other.
    query = f"""SELECT count(*), count(*) FILTER ({unknown} AND NOT {later}),
                     count(*) FILTER ({later}) FROM rows"""
    counted = connection.execute(query, {"end": end} if "$end" in query else {}).fetchone()
    total, without_label, label_later = counted or (0, 0, 0)
    if total == 0:
        raise DataError(
            f"{name} source",
            f"no rows from {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M}",
            "check as_of, window_days and that the data is there",
        )
    kept = total - without_label - label_later
    if kept == 0:
        raise DataError(
            f"{name} source",
            f"none of its {total} rows has a label known by {end:%Y-%m-%d %H:%M}",
            f"check {model.training.target} and {model.source.label_time}",
        )
    delete = f"DELETE FROM rows WHERE {unknown} OR {later}"
    connection.execute(delete, {"end": end} if "$end" in delete else {})
    return {"in": total, "without_label": without_label, "label_later": label_later, "rows": kept}


def columns_sql(source: Source, training: Training) -> str:
    """The select list of a snapshot: fixed order and types, whatever the source's own are."""
    quoted = sql.quoted
    parts = [f"CAST({quoted(source.key)} AS VARCHAR) AS {quoted(source.key)}"]
    times = [source.event_time, *([source.label_time] if source.label_time else [])]
    parts += [f"CAST({quoted(c)} AS TIMESTAMPTZ) AS {quoted(c)}" for c in dict.fromkeys(times)]
    parts += [f"CAST({quoted(c)} AS DOUBLE) AS {quoted(c)}" for c in training.numeric]
    parts += [f"CAST({quoted(c)} AS VARCHAR) AS {quoted(c)}" for c in training.categorical]
    parts.append(f"CAST({quoted(training.target)} AS DOUBLE) AS {quoted(training.target)}")
    return ", ".join(dict.fromkeys(parts))


def _land_days(connection: duckdb.DuckDBPyConnection, model: Model, folder: Path, index_file: Path) -> tuple[int, int]:
    """Fills `folder` with a file a day. Returns (days, those that had to be written)."""
    columns = columns_sql(model.source, model.training)
    with source_rows.readable("source"):
        connection.execute(f"CREATE TEMP TABLE landing AS SELECT {columns} FROM rows")
    days = _fingerprints(connection, model)
    made_by = f"{columns} duckdb {duckdb.__version__} arrow {pa.__version__}".encode() + Path(__file__).read_bytes()
    recipe = hashlib.sha256(made_by).hexdigest()
    index = partition_cache.Index(index_file)
    try:
        with partition_cache.repository(folder.parent) as repo:
            linked = partition_cache.link(repo, folder, index.known(recipe, days))
            new = {day: days[day] for day in sorted(set(days) - linked)}
            _write_days(connection, model, folder, new)
            hashes = {day: partition_cache.hashed(repo, folder / (day + partition_cache.SUFFIX)) for day in new}
        index.add(recipe, {day: (fingerprint, *hashes[day]) for day, fingerprint in new.items()})
    finally:
        index.close()
    return len(days), len(new)


def _fingerprints(connection: duckdb.DuckDBPyConnection, model: Model) -> dict[str, partition_cache.Fingerprint]:
    day = _day(sql.quoted(model.source.event_time))
    # Hashed twice: DuckDB's hash of many columns is linear in the last one, and labels that change places would not show.
    row = f"hash(hash({', '.join(sql.quoted(c) for c in source_rows.column_types(connection, 'landing'))}))"
    query = f"SELECT {day}, count(*), bit_xor({row}), sum({row}) FROM landing GROUP BY 1 ORDER BY 1"
    return {
        d: partition_cache.Fingerprint(rows, f"{a:x}.{int(b):x}")
        for d, rows, a, b in connection.execute(query).fetchall()
    }


def _write_days(
    connection: duckdb.DuckDBPyConnection, model: Model, folder: Path, days: dict[str, partition_cache.Fingerprint]
) -> None:
    """Writes `days` as Parquet. Rows are in one order whatever the source's: by time, by key, then by all the rest."""
    event, key = model.source.event_time, model.source.key
    order = dict.fromkeys([event, key, *source_rows.column_types(connection, "landing")])
    table = source_rows.to_arrow(
        connection,
        f"SELECT * FROM landing WHERE list_contains($days, {_day(sql.quoted(event))}) "
        f"ORDER BY {', '.join(sql.quoted(c) for c in order)}",
        {"days": list(days)},
    )
    at = 0
    for day, fingerprint in days.items():
        pq.write_table(table.slice(at, fingerprint.rows), folder / (day + partition_cache.SUFFIX), compression="zstd")
        at += fingerprint.rows
