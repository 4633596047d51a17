"""Labels and answers of a model without source.key: rows are known by their event time and features (see pipeline.data.row_keys).

Several rows of the source may be alike in these. The model's answer to all of them is the same, so that it does not matter which of
their labels goes to which answer, as long as each of them was asked. When fewer were asked, nobody can say whose labels
count, and none does.
"""

from __future__ import annotations

from typing import Any

import duckdb
import pandas as pd

from pipeline.data import row_keys, sql
from pipeline.monitoring import source_window
from pipeline.settings.models import Model
from pipeline.training import tasks

# How many rows of the source have that key, with a label or without.
ALIKE = "alike"
# The column of weights beside labels: no feature has a name like this.
WEIGHT = "perennial weight"


def of_answers(rows: pd.DataFrame, model: Model) -> list[str | None]:
    """The keys of the prediction log's rows; None for a request without an event time, which no label can be told to belong to."""
    timed = rows["event_time"].where(rows["timed"].astype(bool))
    return row_keys.of_frame(rows, timed, model.training)


def labels(
    connection: duckdb.DuckDBPyConnection, model: Model, known: str, labelled: str, bound: dict[str, Any]
) -> pd.DataFrame:
    """The columns key, event_time, target, known and `alike` of those rows of the table `rows` for which the SQL `labelled` is true; `known` is SQL that selects
    when a label arrived, and the weight."""
    training, types = model.training, sql.column_types(connection)
    columns = source_window.features_sql(training, types)
    held = "VARCHAR" if tasks.of(training).of_labels else "DOUBLE"
    # Names that no feature has (see settings.columns).
    query = f"""SELECT {sql.quoted(model.source.event_time)} AS event_time, CAST({sql.quoted(training.target)} AS {held}) AS target,
                       {known}, coalesce({labelled}, FALSE) AS is_golden, {", ".join(columns)}
              FROM rows ORDER BY event_time, known, target"""
    rows = connection.execute(query, bound).df()
    rows["key"] = row_keys.of_frame(rows, rows["event_time"], training)
    alike = rows.groupby("key")["key"].transform("size")
    found = rows.assign(**{ALIKE: alike})[rows["is_golden"].to_numpy(bool)]
    names = [
        "key",
        "event_time",
        "target",
        "known",
        ALIKE,
        *([WEIGHT] if WEIGHT in found else []),
    ]
    return found[names].reset_index(drop=True)


def told_apart(answers: pd.DataFrame, labelled: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both with the place of each row among those that are alike in its key, the labels only where each such row was asked.

    The first answers by arrival go to the labels that were known first.
    """
    asked = answers.dropna(subset=["key"])
    usable = labelled[_all_asked(asked, labelled)].sort_values(["event_time", "known", "target"], kind="stable")
    return _numbered(asked), _numbered(usable).drop(columns=ALIKE)


def left_out(answers: pd.DataFrame, labelled: pd.DataFrame) -> int | None:
    """The answers to rows of which others are alike, and not all were asked: their labels count for nobody. None with source.key."""
    if ALIKE not in labelled.columns:
        return None
    keys = set(labelled["key"][~_all_asked(answers, labelled)])
    return int(answers["key"].isin(keys).sum())


def _all_asked(answers: pd.DataFrame, labelled: pd.DataFrame) -> pd.Series:
    counts = answers["key"].value_counts()
    return labelled["key"].map(counts).fillna(0) >= labelled[ALIKE]


def _numbered(rows: pd.DataFrame) -> pd.DataFrame:
    place = rows.groupby("key").cumcount().astype(str)
    return rows.assign(key=rows["key"].astype(str) + "#" + place)
