"""Compares two tables feature by feature: a feature has moved when one of the measures below is over its limit.

A new measure is a file in pipeline/monitoring/measures/ with a function `scores`, and its name in MEASURES.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from pipeline.monitoring.measures import missing_share, psi, unknown_share
from pipeline.monitoring.measures.base import Score, Tables
from pipeline.settings.models import DriftLimits

# In the order of a feature's figures and reasons.
MEASURES: tuple[Callable[[Tables, DriftLimits], dict[str, Score]], ...] = (
    psi.scores,
    missing_share.scores,
    unknown_share.scores,
)


@dataclass(frozen=True)
class FeatureDrift:
    """One feature with its score by each of MEASURES."""

    feature: str
    scores: tuple[Score, ...]

    @property
    def moved(self) -> bool:
        return any(score.moved for score in self.scores)

    @property
    def reason(self) -> str:
        """The reasons of the measures that are over their limit; of all when none is."""
        return " and ".join(score.reason for score in self.scores if score.moved == self.moved and score.reason)

    @property
    def leading_figure(self) -> float | None:
        """The figure of the first of MEASURES, by which features are ordered."""
        return next(iter(self.figures.values()))

    @property
    def figures(self) -> dict[str, float | None]:
        return {name: figure for score in self.scores for name, figure in score.figures.items()}

    def as_dict(self) -> dict[str, Any]:
        return {"feature": self.feature, **self.figures, "moved": self.moved, "reason": self.reason}


@dataclass(frozen=True)
class DriftVerdict:
    """The result of the comparison. `no verdict` is neither drift nor its absence."""

    verdict: Literal["drift", "no drift", "no verdict"]
    reason: str
    rows_before: int
    rows_now: int
    features: tuple[FeatureDrift, ...] = ()

    @property
    def moved(self) -> list[FeatureDrift]:
        """The features that moved: first those without a figure of the first measure, then by falling figure."""
        return sorted((f for f in self.features if f.moved), key=lambda f: -(f.leading_figure or float("inf")))

    def as_dict(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict,
            "reason": self.reason,
            "rows_before": self.rows_before,
            "rows_now": self.rows_now,
            "features": [feature.as_dict() for feature in self.features],
            "moved": [feature.feature for feature in self.moved],
        }


def compare(
    before: pd.DataFrame,
    now: pd.DataFrame,
    numeric: list[str],
    categorical: list[str],
    limits: DriftLimits,
    report: Path | None = None,
    learnt: Mapping[str, frozenset[str]] | None = None,
) -> DriftVerdict:
    """Judges `now` against `before`, column by column; writes Evidently's picture to `report` (HTML). `learnt` as in Tables."""
    tables = Tables(before, now, numeric, categorical, report, learnt or {})
    rows = len(before), len(now)
    if min(rows) < limits.min_rows:
        reason = f"{rows[1]:,} rows now and {rows[0]:,} before, at least {limits.min_rows:,} of each required"
        return DriftVerdict("no verdict", reason, *rows)
    missing = [column for column in tables.features if column not in now.columns or column not in before.columns]
    if missing:
        return DriftVerdict("no verdict", f"no column {', '.join(missing)} on both sides", *rows)
    by_measure = [measure(tables, limits) for measure in MEASURES]
    features = tuple(
        FeatureDrift(feature, tuple(scores[feature] for scores in by_measure)) for feature in tables.features
    )
    moved = [feature for feature in features if feature.moved]
    reason = f"{len(moved)} of {len(features)} features moved, {limits.features_limit} or more are drift"
    if moved:
        strongest_first = sorted(moved, key=lambda f: -(f.leading_figure or 0.0))
        reason += f": {', '.join(f'{f.feature} ({f.reason})' for f in strongest_first)}"
    return DriftVerdict("drift" if len(moved) >= limits.features_limit else "no drift", reason, *rows, features)
