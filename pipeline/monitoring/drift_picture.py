"""Evidently's picture of a comparison, drawn from samples of the rows, for people. What it says of drift decides nothing here.

Its PSI is computed on up to 30 bins of equal width of both samples; pipeline.monitoring.drift has ours.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd


def draw(
    before: pd.DataFrame, now: pd.DataFrame, numeric: Sequence[str], categorical: Sequence[str], rows: int, file: Path
) -> dict[str, float]:
    """Writes the picture (HTML) of at most so many rows of each, and returns Evidently's PSI of each column in it. A column without values
    on either side is left out; with no other there is no picture."""
    tables = [_sample(table, numeric, categorical, rows) for table in (before, now)]
    drawn = [c for c in (*numeric, *categorical) if all(table[c].notna().any() for table in tables)]
    if not drawn:
        return {}
    os.environ.setdefault("DO_NOT_TRACK", "true")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from evidently import DataDefinition, Dataset, Report
        from evidently.metrics import ValueDrift

        definition = DataDefinition(
            numerical_columns=[_shown(column) for column in numeric if column in drawn],
            categorical_columns=[_shown(column) for column in categorical if column in drawn],
        )
        # The method is pinned, because Evidently's default changes with the number of rows.
        metrics = [ValueDrift(column=_shown(column), method="psi", threshold=0.2) for column in drawn]
        reference, current = (
            Dataset.from_pandas(_as_shown(table[drawn], categorical), data_definition=definition) for table in tables
        )
        file.parent.mkdir(parents=True, exist_ok=True)
        found = Report(metrics, include_tests=True).run(current, reference)
        found.save_html(str(file))
        return {column: float(of["value"]) for column, of in zip(drawn, found.dict()["metrics"], strict=True)}


def _sample(table: pd.DataFrame, numeric: Sequence[str], categorical: Sequence[str], rows: int) -> pd.DataFrame:
    features = table[[*numeric, *categorical]]
    sampled = features if len(features) <= rows else features.sample(rows, random_state=0)
    numbers = sampled[list(numeric)].astype("float64").replace([np.inf, -np.inf], np.nan)
    return sampled.assign(**{column: numbers[column] for column in numeric}).reset_index(drop=True)


def _shown(text: object) -> str:
    """A name, or a value that a client sent, as it may stand in a script of Evidently's page, which it could otherwise end."""
    return str(text).replace("<", "‹")


def _as_shown(table: pd.DataFrame, categorical: Sequence[str]) -> pd.DataFrame:
    texts = {
        column: table[column].astype(object).map(_shown, na_action="ignore")
        for column in categorical
        if column in table.columns
    }
    return table.assign(**texts).rename(columns=_shown)
