"""Reads the requests and answers of the prediction log, and measures them on the labels that have arrived."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import numpy as np
import pandas as pd

from pipeline.data import neutral_sql, sql
from pipeline.data import source as source_rows
from pipeline.ledger.store import Ledger
from pipeline.ledger.timeline import LiveVersion, number_is_its_own_since
from pipeline.monitoring import derived_keys, log_queries, logged_quality, quality_interval, source_window
from pipeline.monitoring.derived_keys import WEIGHT
from pipeline.monitoring.label_join import TIME, at_other_times, with_labels
from pipeline.monitoring.log_reader import LogFiles
from pipeline.monitoring.logged_quality import LoggedQuality
from pipeline.serving import logged_words
from pipeline.serving.schema import Schema
from pipeline.settings.models import Model
from pipeline.training import tasks
from pipeline.training.evaluate import METRICS, gain
from pipeline.training.frames import schema_of
from pipeline.training.tasks import PREDICTION, PROBABILITIES, Answers

# A share of the rows is taken in so many parts.
SHARES = 1_000_000

# What a check says only where it is known.
UNSAID = ("naive", "judged_from", "judged_until", "alike", "without_weight", "low", "high", "days")

NO_LABELS = pd.DataFrame(
    {
        "key": pd.Series(dtype="str"),
        "event_time": pd.Series(dtype=TIME),
        "target": pd.Series(dtype="float64"),
        "known": pd.Series(dtype=TIME),
    }
)


@dataclass(frozen=True)
class LiveQuality:
    """The model's metric on live predictions whose labels have arrived; `value` is None when they are too few.

    `labelled` of `predictions` have a label; `held_out` is the metric of the evaluation, and `naive` that of its naive guess, which
    older versions do not say. `other_time` are answers whose key has labels, none of them at the answer's time. Judged were the
    answers to rows from `judged_from` up to `judged_until` (ISO 8601), which older checks do not say. Without source.key, `alike` are
    answers to rows that are alike in event time and features, of which not all were asked. With training.weight, `without_weight` are
    answers whose label has no weight, and which count in no figure. `low` and `high` enclose the metric by its `days` (see
    quality_interval): None where these are too few, or in an older check.
    """

    metric: str
    value: float | None
    held_out: float
    labelled: int
    predictions: int
    other_time: int = 0
    naive: float | None = None
    judged_from: str | None = None
    judged_until: str | None = None
    alike: int | None = None
    without_weight: int | None = None
    low: float | None = None
    high: float | None = None
    days: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """The body's part of a drift event; `asked` is the number of predictions."""
        body = {"asked" if name == "predictions" else name: value for name, value in asdict(self).items()}
        return {name: value for name, value in body.items() if value is not None or name not in UNSAID}


class LoggedPredictions(NamedTuple):
    """The prediction log's rows of a span of time, the number of rows in the whole log without golden requests, the number of its damaged
    files, whose rows are in neither, and what the log says of its data up to the end of the span; None from an earlier deployer."""

    rows: pd.DataFrame
    logged: int
    damaged_files: int = 0
    quality: LoggedQuality | None = None

    @property
    def without_event_time(self) -> int:
        """Those of the rows that are in the span by their time of receipt; a deployer of an earlier version does not say."""
        return int((~self.rows["timed"].astype(bool)).sum()) if "timed" in self.rows.columns else 0


def read_log(folder: Path, model: Model, start: datetime, end: datetime, share: float = 1.0) -> LoggedPredictions:
    """The prediction log's rows with event time in [start, end); a row without event time counts by its time of receipt.

    Columns: key, event_time, timed (whether the request had an event time), received_at, version, slot, prediction, `probabilities` where the
    log has them, and the features: a time
    in days, of a text its numbers. A feature that was not logged is missing in all rows. The rows are in the order of their arrival.
    With a `share` below 1 it is about that share of them, the same ones each time.
    """
    found = log_queries.read(
        folder, lambda connection, files: _predictions(connection, files, model, start, end, share)
    )
    return found._replace(quality=(found.quality or LoggedQuality()).with_requests(folder, start, end))


def predictions(folder: Path, model: Model, start: datetime, end: datetime) -> pd.DataFrame:
    """The rows of `read_log`."""
    return read_log(folder, model, start, end).rows


def logged(folder: Path) -> int:
    """The number of predictions in the log, without golden requests."""
    return log_queries.read(folder, _logged)


def _predictions(
    connection: duckdb.DuckDBPyConnection, files: LogFiles, model: Model, start: datetime, end: datetime, share: float
) -> LoggedPredictions:
    damaged = len(files.damaged)
    schema = schema_of(model)
    numbers = [name for column in schema.columns for name in logged_words.logged(column)]
    kinds = {**dict.fromkeys(numbers, "DOUBLE"), **dict.fromkeys(schema.texts, "VARCHAR")}
    kinds |= {logged_words.name_of(column): "USMALLINT[]" for column in schema.columns if column.groups}
    if not files.contents:
        columns = [
            "key",
            "event_time",
            "timed",
            "received_at",
            "version",
            "slot",
            PREDICTION,
            *schema.numbers,
            *schema.texts,
        ]
        return LoggedPredictions(pd.DataFrame(columns=columns), 0, damaged, LoggedQuality())
    in_log = files.features
    features = ", ".join(f"{log_queries.feature(n, kind, in_log)} AS {sql.quoted(n)}" for n, kind in kinds.items())
    answers = f"prediction AS {PREDICTION}" + (f", {PROBABILITIES}" if files.probabilities else "")
    # The number of a row in its file alone would be the same one for all short requests.
    sampled = f" AND hash(request_id, place) % {SHARES} < {share * SHARES:.0f}" if share < 1 else ""
    query = f"""
        SELECT * EXCLUDE (is_golden, request_id, place) FROM (
            SELECT key, {log_queries.golden(files)} AS is_golden, coalesce(try_cast(event_time AS TIMESTAMPTZ), received_at) AS event_time,
                   try_cast(event_time AS TIMESTAMPTZ) IS NOT NULL AS timed,
                   received_at, version, slot, {answers}, request_id, file_row_number AS place, {features}
            FROM read_parquet($files, union_by_name = true, file_row_number = true))
        WHERE event_time >= $start AND event_time < $end AND NOT is_golden{sampled}
        ORDER BY received_at, request_id, place"""
    rows = connection.execute(query, {"files": files.names, "start": start, "end": end}).df()
    rows = _with_words(rows, schema)
    if model.source.key is None:
        rows["key"] = derived_keys.of_answers(rows, model)
    return LoggedPredictions(rows, _logged(connection, files), damaged, _quality(connection, files, start, end))


def _quality(connection: duckdb.DuckDBPyConnection, files: LogFiles, start: datetime, end: datetime) -> LoggedQuality:
    words = ", ".join(
        name if files.has(name) else f"CAST(NULL AS VARCHAR) AS {name}" for name in ("breaches", "unknown")
    )
    relation = f"""(SELECT key, received_at, coalesce(try_cast(event_time AS TIMESTAMPTZ), received_at) AS event_at, {words}
                    FROM read_parquet($files, union_by_name = true) WHERE NOT {log_queries.golden(files)})"""
    return logged_quality.of_log(connection, relation, {"files": files.names}, start, end)


def _with_words(rows: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """The rows with a column for each group of words in place of the lists of the log, NaN where the log has none."""
    for column in schema.columns:
        if column.groups:
            cells = rows.pop(logged_words.name_of(column))
            is_missing = (cells.isna() | rows[column.watched[0]].isna()).to_numpy()
            places = [[] if missing else cell for cell, missing in zip(cells, is_missing, strict=True)]
            flat = np.concatenate([np.empty(0, "int64"), *places])
            counts = logged_words.counts(np.array([*map(len, places)], "int64"), flat, column.groups, is_missing)
            names = [name for name in column.matrix if name not in column.watched]
            rows = pd.concat([rows, pd.DataFrame(counts, rows.index, names)], axis=1)
    return rows


def _logged(connection: duckdb.DuckDBPyConnection, files: LogFiles) -> int:
    if not files.contents:
        return 0
    query = f"SELECT count(*) FROM read_parquet($files, union_by_name = true) WHERE NOT {log_queries.golden(files)}"
    return (connection.execute(query, {"files": files.names}).fetchone() or (0,))[0]


def answered_by(requests: pd.DataFrame, ledger: Ledger, name: str, live: LiveVersion) -> pd.DataFrame:
    """The requests that the live package answered, without those to another package that was live under its number before."""
    answered = requests[requests["version"] == live.version]
    since = number_is_its_own_since(ledger, name, live.package)
    # A deployer of an earlier version sends no times of receipt.
    if since and "received_at" in answered.columns:
        answered = answered[answered["received_at"] >= pd.Timestamp(since)]
    return answered


def labels(
    model: Model,
    project: Path,
    start: datetime,
    as_of: datetime,
    name: str,
    log_key: str = "",
    end: datetime | None = None,
) -> pd.DataFrame:
    """The columns key, event_time, target and known (when the label arrived), and WEIGHT where the model has weights, of the source's
    rows of [start, `end`), or up to `as_of`, for labels known at `as_of`. A weight that is missing, negative or infinite is NaN.

    Without source.key the key is derived, and a column `alike` says how many rows have it. A personal key is replaced by the pseudonym
    that the log has for it, drawn with the home's `log_key` (hexadecimal).
    """
    key, target, event = model.source.key, sql.quoted(model.training.target), sql.quoted(model.source.event_time)
    labelled = f"NOT {sql.unlabelled(model.training.target)}"
    if model.source.label_time:
        labelled += f" AND {sql.quoted(model.source.label_time)} <= $as_of"
    bound = {"as_of": as_of} if model.source.label_time else {}
    held = "VARCHAR" if tasks.of(model.training).of_labels else "DOUBLE"
    known = sql.quoted(model.source.label_time or model.source.event_time)
    with sql.connect(project) as connection:
        source_rows.load(connection, model.source, model.training, start, end or as_of, name)
        source_rows.keep_window(connection, model.source, start, end or as_of, as_of)
        types = source_rows.column_types(connection)
        source_rows.require(types, [model.training.target], name)
        source_rows.require(types, [*model.training.weights], name)
        weight = ""
        for column in model.training.weights:
            number = f"CAST({sql.quoted(column)} AS DOUBLE)"
            # As in the snapshot, where such rows break the contract.
            fits = f"{number} >= 0 AND isfinite({number})"
            weight = f", CASE WHEN {fits} THEN {number} END AS {sql.quoted(WEIGHT)}"
        if key is None:
            source_rows.require(types, model.training.features, name)
            return derived_keys.labels(connection, model, f"{known} AS known{weight}", labelled, bound)
        query = f"""SELECT {neutral_sql.key(key, types[key])} AS key, {event} AS event_time, CAST({target} AS {held}) AS target,
                           {known} AS known{weight}
                  FROM rows WHERE {labelled} ORDER BY event_time, key, known, target"""
        rows = connection.execute(query, bound).df()
    return source_window.keys_as_logged(rows, model, log_key)


def quality(
    answers: pd.DataFrame,
    labelled: pd.DataFrame,
    model: Model,
    held_out: float,
    naive: float | None = None,
    classes: tuple[str, ...] = (),
) -> LiveQuality:
    """The model's metric on the predictions whose labels have arrived; of the answers to one row only one counts.

    `classes` are those of the version that answered.
    """
    tolerance = timedelta(seconds=model.monitor.label_tolerance_s)
    joined = with_labels(answers, labelled, tolerance)
    metric, value, enclosed, days = model.evaluation.metric, None, None, None
    if len(joined) >= model.monitor.labelled_rows:
        weight = joined[WEIGHT].to_numpy() if WEIGHT in joined.columns else None
        if weight is None or weight.any():
            value = _score(joined, model, classes, np.ones(len(joined), bool))
            enclosed, days = _interval(joined, model, classes)
    other_time, alike = at_other_times(answers, labelled, tolerance), derived_keys.left_out(answers, labelled)
    # An answer whose only label has no weight is none of those that are joined.
    every = labelled.drop(columns=WEIGHT, errors="ignore")
    without = len(with_labels(answers, every, tolerance)) - len(joined) if WEIGHT in labelled.columns else None
    low, high = enclosed or (None, None)
    found = LiveQuality(metric, value, held_out, len(joined), len(answers), other_time, naive, alike=alike)
    return replace(found, without_weight=without, low=low, high=high, days=days)


def _score(joined: pd.DataFrame, model: Model, classes: tuple[str, ...], rows: np.ndarray) -> float:
    """The metric of the labelled answers of which `rows`, bool (rows,), is true; NaN where none has a weight."""
    some = joined[rows]
    weight = some[WEIGHT].to_numpy() if WEIGHT in some.columns else None
    if weight is not None and not weight.any():
        return float("nan")
    answers = Answers.of(some, classes)
    return tasks.of(model.training).score(model.evaluation.metric, some["target"].to_numpy(), answers, weight)


def _interval(joined: pd.DataFrame, model: Model, classes: tuple[str, ...]) -> tuple[tuple[float, float] | None, int]:
    """The metric's interval, and how many days it is of."""
    days = joined["event_time"].astype(TIME).dt.floor("D").to_numpy()
    ends = {"largest": 1.0} if METRICS[model.evaluation.metric].higher_is_better else {"least": 0.0}
    found = quality_interval.interval(lambda rows: _score(joined, model, classes, rows), days, **ends)
    return found, len(np.unique(days))


def dropped_by(quality: LiveQuality) -> float | None:
    """By how much the live metric is worse than on the held-out rows, as `gain` measures it: positive when worse, None without labels."""
    return None if quality.value is None else _drop(quality, quality.value)


def surely_dropped_by(quality: LiveQuality) -> float | None:
    """The least drop that the interval leaves; None without one."""
    if quality.low is None or quality.high is None:
        return None
    return min(_drop(quality, end) for end in (quality.low, quality.high))


def _drop(quality: LiveQuality, value: float) -> float:
    # Of an older version the naive guess is not known; a share of its own error is stricter, for it is the smaller one.
    naive = quality.held_out if quality.naive is None else quality.naive
    return gain(quality.metric, quality.held_out, value, naive)


def got_worse(quality: LiveQuality, by: float) -> bool | None:
    """Whether the metric is surely worse by more than that: so by its whole interval. None where it is not known: without labels, or where
    only some of the interval is."""
    drop, surely = dropped_by(quality), surely_dropped_by(quality)
    if drop is None or drop > by and (surely is None or surely <= by):
        return None
    return drop > by
