"""Compares the shares of missing values, which the population stability index does not see."""

from __future__ import annotations

from pipeline.monitoring.measures.base import Score, Tables
from pipeline.settings.models import DriftLimits


def scores(tables: Tables, limits: DriftLimits) -> dict[str, Score]:
    """The score of every feature. Figures: `missing_before` and `missing_now`, 0 to 1."""
    return {feature: _score(tables, feature, limits.missing_limit) for feature in tables.features}


def _score(tables: Tables, feature: str, limit: float) -> Score:
    before, now = (float(table[feature].isna().mean()) for table in (tables.before, tables.now))
    figures = {"missing_before": before, "missing_now": now}
    if abs(now - before) > limit:
        return Score(figures, True, f"missing {before:.0%} before, {now:.0%} now")
    return Score(figures, False)
