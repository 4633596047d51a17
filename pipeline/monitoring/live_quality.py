"""Reads the requests and answers of the prediction log, and measures them on the labels that have arrived."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from pipeline.data import neutral_sql, sql
from pipeline.data import source as source_rows
from pipeline.ledger.store import Ledger
from pipeline.ledger.timeline import LiveVersion, number_is_its_own_since
from pipeline.monitoring.label_join import TIME, at_other_times, with_labels
from pipeline.serving.log_files import GOLDEN, GOLDEN_ID, current_files
from pipeline.serving.prediction_log import pseudonym
from pipeline.serving.schema import times
from pipeline.settings.models import Model
from pipeline.training.evaluate import PREDICTION, better_by, metrics

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

    `labelled` of `predictions` have a label; `held_out` is the metric of the evaluation. `other_time` are answers whose key has labels,
    none of them at the answer's time.
    """

    metric: str
    value: float | None
    held_out: float
    labelled: int
    predictions: int
    other_time: int = 0

    def as_dict(self) -> dict[str, Any]:
        """The body's part of a drift event; `asked` is the number of predictions."""
        return {"asked" if name == "predictions" else name: value for name, value in asdict(self).items()}


def predictions(folder: Path, model: Model, start: datetime, end: datetime) -> pd.DataFrame:
    """The prediction log's rows with event time in [start, end); a row without event time counts by its time of receipt.

    Columns: key, event_time, timed (whether the request had an event time), received_at, version, slot, prediction, and the features. A
    feature that was not logged is missing in all rows. The rows are in the order of their arrival.
    """
    columns = ["key", "event_time", "timed", "received_at", "version", "slot", PREDICTION, *model.training.features]
    files = _files(folder)
    if not files:
        return pd.DataFrame(columns=columns)
    kinds = {**dict.fromkeys(model.training.numeric, "DOUBLE"), **dict.fromkeys(model.training.categorical, "VARCHAR")}
    with sql.connect(folder) as connection:
        features_of_log = _logged_features(connection, files)
        features = ", ".join(f"{_feature(n, kind, features_of_log)} AS {sql.quoted(n)}" for n, kind in kinds.items())
        query = f"""
            SELECT * EXCLUDE (is_golden, request_id, place) FROM (
                SELECT key, {_golden(connection, files)} AS is_golden, coalesce(try_cast(event_time AS TIMESTAMPTZ), received_at) AS event_time,
                       try_cast(event_time AS TIMESTAMPTZ) IS NOT NULL AS timed,
                       received_at, version, slot, prediction AS {PREDICTION}, request_id, file_row_number AS place, {features}
                FROM read_parquet($files, union_by_name = true, file_row_number = true))
            WHERE event_time >= $start AND event_time < $end AND NOT is_golden
            ORDER BY received_at, request_id, place"""
        return connection.execute(query, {"files": files, "start": start, "end": end}).df()


def answered_by(requests: pd.DataFrame, ledger: Ledger, name: str, live: LiveVersion) -> pd.DataFrame:
    """The requests that the live package answered, without those to another package that was live under its number before."""
    answered = requests[requests["version"] == live.version]
    since = number_is_its_own_since(ledger, name, live.package)
    # A deployer of an earlier version sends no times of receipt.
    if since and "received_at" in answered.columns:
        answered = answered[answered["received_at"] >= pd.Timestamp(since)]
    return answered


def _files(folder: Path) -> list[str]:
    return [str(path) for path in current_files(folder)]


def _logged_features(connection: duckdb.DuckDBPyConnection, files: list[str]) -> set[str]:
    """The features that the log holds. Personal ones may be left out."""
    log = connection.read_parquet(files, union_by_name=True)
    kinds = dict(zip(log.columns, log.types, strict=True))
    return {name for name, _ in kinds["features"].children} if "features" in kinds else set()


def _golden(connection: duckdb.DuckDBPyConnection, files: list[str]) -> str:
    """The SQL for whether a row is a golden request's. Only a slot writes the column; older files lack it and go by the id."""
    by_id = f"starts_with(request_id, '{GOLDEN_ID}')"
    logged = GOLDEN in connection.read_parquet(files, union_by_name=True).columns
    return f"coalesce({GOLDEN}, {by_id})" if logged else by_id


def _feature(name: str, kind: str, logged: set[str]) -> str:
    return f"try_cast(features.{sql.quoted(name)} AS {kind})" if name in logged else f"CAST(NULL AS {kind})"


def logged(folder: Path) -> int:
    """The number of predictions in the log, without golden requests."""
    files = _files(folder)
    if not files:
        return 0
    with sql.connect(folder) as connection:
        golden = _golden(connection, files)
        query = f"SELECT count(*) FROM read_parquet($files, union_by_name = true) WHERE NOT {golden}"
        return (connection.execute(query, {"files": files}).fetchone() or (0,))[0]


def labels(model: Model, project: Path, start: datetime, as_of: datetime, name: str, log_key: str = "") -> pd.DataFrame:
    """The columns key, event_time, target and known (when the label arrived) of the source's rows since `start`, for labels known at
    `as_of`.

    A personal key is replaced by the pseudonym that the log has for it, drawn with the home's `log_key` (hexadecimal).
    """
    key, target, event = model.source.key, sql.quoted(model.training.target), sql.quoted(model.source.event_time)
    known_at_as_of = "TRUE"
    if model.source.label_time:
        known_at_as_of = f"{sql.quoted(model.source.label_time)} <= $as_of"
    known = sql.quoted(model.source.label_time or model.source.event_time)
    with sql.connect(project) as connection:
        source_rows.load(connection, model.source, model.training, start, as_of, name)
        source_rows.keep_window(connection, model.source, start, as_of)
        types = source_rows.column_types(connection)
        source_rows.require(types, [model.training.target], name)
        query = f"""SELECT {neutral_sql.key(key, types[key])} AS key, {event} AS event_time, CAST({target} AS DOUBLE) AS target,
                           {known} AS known
                  FROM rows WHERE NOT {sql.unlabelled(model.training.target)} AND {known_at_as_of}
                  ORDER BY event_time, key, known, target"""
        rows = connection.execute(query, {"as_of": as_of} if "$as_of" in query else {}).df()
    if key == model.source.event_time:
        rows["key"] = [times.canonical(time) for time in rows["event_time"]]
    if model.rollout.serving.personal.get(key) == "hash":
        rows["key"] = [pseudonym(bytes.fromhex(log_key), value) for value in rows["key"]]
    return rows


def quality(answers: pd.DataFrame, labelled: pd.DataFrame, model: Model, held_out: float) -> LiveQuality:
    """The model's metric on the predictions whose labels have arrived; of the answers to one row only one counts."""
    tolerance = timedelta(seconds=model.monitor.label_tolerance_s)
    joined = with_labels(answers, labelled, tolerance)
    metric, value = model.evaluation.metric, None
    if len(joined) >= model.monitor.min_rows:
        value = metrics(model.training.task, joined["target"].to_numpy(), joined[PREDICTION].to_numpy())[metric]
    return LiveQuality(metric, value, held_out, len(joined), len(answers), at_other_times(answers, labelled, tolerance))


def dropped_by(quality: LiveQuality) -> float | None:
    """By how much the live metric is worse than on the held-out rows: positive when worse, None without labels."""
    return None if quality.value is None else better_by(quality.metric, quality.held_out, quality.value)
