"""What the live slot was asked, what it answered, and what came true."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import duckdb
import pandas as pd

from pipeline.data import source as source_rows
from pipeline.data import sql
from pipeline.serving.log_files import GOLDEN_ID, current_files
from pipeline.serving.prediction_log import pseudonym
from pipeline.settings.models import Model
from pipeline.training.evaluate import PREDICTION, better_by, metrics

NO_LABELS = pd.DataFrame({"key": pd.Series(dtype="str"), "target": pd.Series(dtype="float64")})


@dataclass(frozen=True)
class LiveQuality:
    """A metric on live predictions whose labels have arrived; `value` is None when they are too few."""

    metric: str
    value: float | None
    held_out: float
    labelled: int
    asked: int


def predictions(folder: Path, model: Model, start: datetime, end: datetime) -> pd.DataFrame:
    """The prediction log's rows with event time (or, without one, receipt) in [start, end).

    Columns: key, event_time, version, slot, prediction, and the features; one that was not logged is missing throughout.
    """
    columns = ["key", "event_time", "version", "slot", PREDICTION, *model.training.features]
    files = _files(folder)
    if not files:
        return pd.DataFrame(columns=columns)
    kinds = {**dict.fromkeys(model.training.numeric, "DOUBLE"), **dict.fromkeys(model.training.categorical, "VARCHAR")}
    with sql.connect(folder) as connection:
        logged = _logged_features(connection, files)
        features = ", ".join(f"{_feature(n, kind, logged)} AS {sql.quoted(n)}" for n, kind in kinds.items())
        query = f"""
            SELECT * EXCLUDE (request_id) FROM (
                SELECT key, request_id, coalesce(try_cast(event_time AS TIMESTAMPTZ), received_at) AS event_time,
                       version, slot, prediction AS {PREDICTION}, {features}
                FROM read_parquet($files, union_by_name = true))
            WHERE event_time >= $start AND event_time < $end AND NOT starts_with(request_id, '{GOLDEN_ID}')
            ORDER BY event_time, key"""
        return connection.execute(query, {"files": files, "start": start, "end": end}).df()


def _files(folder: Path) -> list[str]:
    return [str(path) for path in current_files(folder)]


def _logged_features(connection: duckdb.DuckDBPyConnection, files: list[str]) -> set[str]:
    """The features that the log holds; personal ones may be left out of it."""
    log = connection.read_parquet(files, union_by_name=True)
    kinds = dict(zip(log.columns, log.types, strict=True))
    return {name for name, _ in kinds["features"].children} if "features" in kinds else set()


def _feature(name: str, kind: str, logged: set[str]) -> str:
    return f"try_cast(features.{sql.quoted(name)} AS {kind})" if name in logged else f"CAST(NULL AS {kind})"


def logged(folder: Path) -> int:
    """How many predictions the log holds, golden requests left out."""
    files = _files(folder)
    if not files:
        return 0
    query = f"SELECT count(*) FROM read_parquet($files, union_by_name = true) WHERE NOT starts_with(request_id, '{GOLDEN_ID}')"
    with sql.connect(folder) as connection:
        return (connection.execute(query, {"files": files}).fetchone() or (0,))[0]


def labels(model: Model, project: Path, start: datetime, as_of: datetime, name: str, log_key: str = "") -> pd.DataFrame:
    """(key, target, known) of the source's rows since `start` whose label was known at `as_of`, and when it came.

    A personal key is the pseudonym that the log has for it, by the home's `log_key`.
    """
    key, target = sql.quoted(model.source.key), sql.quoted(model.training.target)
    known = "TRUE"
    if model.source.label_time:
        known = f"{sql.quoted(model.source.label_time)} <= $as_of"
    came = sql.quoted(model.source.label_time or model.source.event_time)
    query = f"""SELECT CAST({key} AS VARCHAR) AS key, CAST({target} AS DOUBLE) AS target, {came} AS known
              FROM rows WHERE NOT {sql.unlabelled(model.training.target)} AND {known}"""
    with sql.connect(project) as connection:
        source_rows.load(connection, model.source, start, as_of, name)
        source_rows.keep_window(connection, model.source, start, as_of)
        source_rows.require(source_rows.column_types(connection), [model.training.target], name)
        found = connection.execute(query, {"as_of": as_of} if "$as_of" in query else {}).df()
    if model.rollout.serving.personal.get(model.source.key) == "hash":
        found["key"] = [pseudonym(bytes.fromhex(log_key), value) for value in found["key"]]
    return found


def quality(asked: pd.DataFrame, labelled: pd.DataFrame, model: Model, held_out: float) -> LiveQuality:
    """The model's metric on the predictions whose labels have arrived; each key counts once, its first answer."""
    joined = with_labels(asked, labelled)
    metric, value = model.evaluation.metric, None
    if len(joined) >= model.monitor.min_rows:
        value = metrics(model.training.task, joined["target"].to_numpy(), joined[PREDICTION].to_numpy())[metric]
    return LiveQuality(metric, value, held_out, len(joined), len(asked))


def with_labels(asked: pd.DataFrame, labelled: pd.DataFrame) -> pd.DataFrame:
    """The first answer to each key whose label has arrived, with its `target`."""
    first = asked.dropna(subset=["key"]).astype({"key": "str"}).drop_duplicates("key")
    return first.merge(labelled.drop_duplicates("key"), on="key", how="inner")


def dropped_by(quality: LiveQuality) -> float | None:
    """How much worse than on the held-out rows the model is live, positive when worse; None without labels."""
    return None if quality.value is None else better_by(quality.metric, quality.held_out, quality.value)
