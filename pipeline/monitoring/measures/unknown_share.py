"""The share of a category's values that the model's training never saw, which it answers as if the column said nothing.

It needs no rows before: what was learnt is known. Two files that are compared have no model, and no such figure.
"""

from __future__ import annotations

from pipeline.monitoring.measures.base import Score, Tables
from pipeline.settings.models import DriftLimits


def scores(tables: Tables, limits: DriftLimits) -> dict[str, Score]:
    """The score of every feature. Figure: `unknown`, 0 to 1, None for a number and where nothing is known of what was learnt."""
    return {feature: _score(tables, feature, limits.unknown_limit) for feature in tables.features}


def _score(tables: Tables, feature: str, limit: float) -> Score:
    learnt = tables.learnt.get(feature)
    if learnt is None:
        return Score({"unknown": None}, False)
    values = tables.now[feature].dropna()
    unknown = values[~values.isin(learnt)]
    share = len(unknown) / len(values) if len(values) else 0.0
    if share > limit:
        return Score({"unknown": share}, True, f"{share:.0%} unknown to the model, e.g. {str(unknown.iloc[0])[:40]}")
    return Score({"unknown": share}, False)
