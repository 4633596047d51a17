"""The source's rows of a window as the prediction log has them: what a model would learn from the same days."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import pandas as pd

from pipeline.data import neutral_sql, sql
from pipeline.data import source as source_rows
from pipeline.serving.prediction_log import pseudonym
from pipeline.serving.schema import Schema, times
from pipeline.settings.models import Model
from pipeline.settings.training import Training
from pipeline.training import frames


def features_sql(training: Training, types: Mapping[str, str]) -> list[str]:
    """SQL that selects each feature of the table `rows` in its neutral form."""
    columns = [f"CAST({sql.quoted(c)} AS DOUBLE) AS {sql.quoted(c)}" for c in training.numeric]
    columns += [f"{neutral_sql.category(c, types[c])} AS {sql.quoted(c)}" for c in training.categorical]
    return columns + [sql.quoted(c) for c in (*training.datetime, *training.text)]


def keys_as_logged(rows: pd.DataFrame, model: Model, log_key: str) -> pd.DataFrame:
    """The rows (key, event_time) with the keys that the log has for them: a personal one is a pseudonym, drawn with the home's `log_key`
    (hexadecimal)."""
    key = model.source.key
    if key is not None and key == model.source.event_time:
        rows["key"] = [times.canonical(time) for time in rows["event_time"]]
    if key is not None and model.rollout.serving.personal.get(key) == "hash":
        rows["key"] = [pseudonym(bytes.fromhex(log_key), value) for value in rows["key"]]
    return rows


def rows_as_logged(
    model: Model, project: Path, start: datetime, as_of: datetime, name: str, schema: Schema, log_key: str = ""
) -> pd.DataFrame:
    """The source's rows of [start, as_of) that had arrived at `as_of`, labelled or not: the columns event_time, key where the source has one,
    and the features in the form, spelling and precision of the log. Raises DataError for a source that cannot be read, or lacks one."""
    training, key, event = model.training, model.source.key, model.source.event_time
    with sql.connect(project) as connection:
        source_rows.load(connection, model.source, training, start, as_of, name)
        source_rows.keep_window(connection, model.source, start, as_of, as_of)
        types = source_rows.column_types(connection)
        source_rows.require(types, training.features, name)
        # Names that no feature has (see settings.columns).
        known = [f"{sql.quoted(event)} AS event_time"]
        known += [f"{neutral_sql.key(key, types[key])} AS key"] if key is not None else []
        with source_rows.readable(f"{name} source"):
            query = f"SELECT {', '.join([*known, *features_sql(training, types)])} FROM rows ORDER BY ALL"
            rows = connection.execute(query).df()
    rows = keys_as_logged(rows, model, log_key)
    taken = frames.features_of(rows.assign(**{event: rows["event_time"]}), model, schema.doubles)
    for column in schema.columns:
        if column.is_category and column.name in taken.columns:
            spelt = {text: column.read(text) for text in taken[column.name].unique()}
            taken[column.name] = taken[column.name].map(spelt).astype(object)
    return pd.concat([rows[[name for name in ("event_time", "key") if name in rows]], taken], axis=1)
