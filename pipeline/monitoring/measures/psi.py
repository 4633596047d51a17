"""Compares the values by their population stability index (PSI), computed by Evidently.

The method is pinned, because Evidently's default changes with the number of rows. In small samples PSI is biased upwards by
about (k - 1)(1/n + 1/m) for k bins and n and m rows (Yurdakul & Naranjo 2020, Statistical properties of the PSI), so that
much is added to the limit.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.monitoring.measures.base import Score, Tables
from pipeline.settings.models import DriftLimits

# Evidently sorts the values of a number into at most so many bins.
NUMBER_BINS = 30


def scores(tables: Tables, limits: DriftLimits) -> dict[str, Score]:
    """The score of every feature. Figures: `psi`, None for one with too few values, and `psi_limit`.

    Works on samples of at most `limits.sample_rows` rows; writes Evidently's picture of them to `tables.report`.
    """
    before, now = (_sample(table, tables, limits.sample_rows) for table in (tables.before, tables.now))
    judged = [
        feature
        for feature in tables.features
        if min(before[feature].notna().sum(), now[feature].notna().sum()) >= limits.min_rows / 2
    ]
    psi_limits = {
        feature: limits.psi_limit + _noise(before[feature], now[feature], feature in tables.numeric)
        for feature in judged
    }
    numeric = [feature for feature in judged if feature in tables.numeric]
    categorical = [feature for feature in judged if feature in tables.categorical]
    psi = _psi(before, now, numeric, categorical, psi_limits, tables.report)
    return {feature: _score(psi.get(feature), psi_limits.get(feature, limits.psi_limit)) for feature in tables.features}


def _score(psi: float | None, limit: float) -> Score:
    figures = {"psi": psi, "psi_limit": limit}
    if psi is None:
        return Score(figures, False, "too few values to judge")
    if psi > limit:
        return Score(figures, True, f"PSI {psi:.2f} over {limit:.2f}")
    return Score(figures, False, f"PSI {psi:.2f} within {limit:.2f}")


def _sample(table: pd.DataFrame, tables: Tables, rows: int) -> pd.DataFrame:
    features = table[tables.features]
    sampled = features if len(features) <= rows else features.sample(rows, random_state=0)
    numbers = sampled[tables.numeric].astype("float64").replace([np.inf, -np.inf], np.nan)
    return sampled.assign(**{column: numbers[column] for column in tables.numeric}).reset_index(drop=True)


def _noise(before: pd.Series, now: pd.Series, number: bool) -> float:
    """The PSI that two samples of one distribution have on average."""
    before, now = before.dropna(), now.dropna()
    bins = pd.concat([before, now]).nunique()
    if number:
        bins = min(bins, NUMBER_BINS)
    return (bins - 1) * (1 / len(before) + 1 / len(now))


def _psi(
    before: pd.DataFrame,
    now: pd.DataFrame,
    numeric: list[str],
    categorical: list[str],
    limits: dict[str, float],
    report: Path | None,
) -> dict[str, float]:
    os.environ.setdefault("DO_NOT_TRACK", "true")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from evidently import DataDefinition, Dataset, Report
        from evidently.metrics import ValueDrift

        columns = [*numeric, *categorical]
        if not columns:
            return {}
        shown = {column: _shown(column) for column in columns}
        definition = DataDefinition(
            numerical_columns=[shown[column] for column in numeric],
            categorical_columns=[shown[column] for column in categorical],
        )
        metrics = [ValueDrift(column=shown[column], method="psi", threshold=limits[column]) for column in columns]
        current, reference = (_as_shown(table, numeric, categorical) for table in (now, before))
        snapshot = Report(metrics, include_tests=True).run(
            Dataset.from_pandas(current, data_definition=definition),
            Dataset.from_pandas(reference, data_definition=definition),
        )
        if report is not None:
            report.parent.mkdir(parents=True, exist_ok=True)
            snapshot.save_html(str(report))
    by_shown = {metric["config"]["column"]: float(metric["value"]) for metric in snapshot.dict()["metrics"]}
    return {column: by_shown[shown[column]] for column in columns}


def _shown(text: object) -> str:
    """A name, or a value that a client sent, as it may stand in a script of Evidently's page, which it could otherwise end."""
    return str(text).replace("<", "‹")


def _as_shown(table: pd.DataFrame, numeric: list[str], categorical: list[str]) -> pd.DataFrame:
    texts = {column: table[column].astype(object).map(_shown, na_action="ignore") for column in categorical}
    return table[[*numeric, *categorical]].assign(**texts).rename(columns=_shown)
