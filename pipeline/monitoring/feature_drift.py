"""What a look says of one feature: its distance by each measure that fits it, and the limits of those that decide."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.monitoring import domain_classifier, exchanged
from pipeline.monitoring.measures.psi import Psi

# Of a change whose rows went nowhere in particular; it is like any other of its kind.
NO_SHAPE: Mapping[str, object] = {"edges": [], "below": [], "cells": {}}
# A feature was compared where one of these has a value.
OF_VALUES = (Psi.name, domain_classifier.MEASURE, exchanged.MEASURE)


@dataclass(frozen=True)
class Score:
    """One measure of one feature. `value` is None where there is too little to judge; `limit` is None for one that does not decide.

    `before` and `now` are the shares of a measure of a share.
    """

    measure: str
    value: float | None
    limit: float | None = None
    reason: str = ""
    before: float | None = None
    now: float | None = None

    @property
    def moved(self) -> bool:
        return self.value is not None and self.limit is not None and self.value > self.limit

    @property
    def times_limit(self) -> float:
        return self.value / self.limit if self.value is not None and self.limit else 0.0

    @property
    def figures(self) -> dict[str, float | None]:
        name = self.measure.lower().replace("-", "_").replace(" ", "_")
        if name == "unknown":
            return {name: self.now} | ({f"{name}_limit": self.limit} if self.limit is not None else {})
        if self.before is not None:
            return {f"{name}_before": self.before, f"{name}_now": self.now, f"{name}_limit": self.limit}
        has_limit = name == "psi" or self.limit is not None
        return {name: self.value, f"{name}_limit": self.limit} if has_limit else {name: self.value}


@dataclass(frozen=True)
class FeatureDrift:
    """One feature with its score by each of MEASURES that fits it; `shape` is of pipeline.monitoring.change_shape. `importance` is of
    pipeline.training.importances, None where nobody measured it."""

    feature: str
    scores: tuple[Score, ...]
    # Why no window could have moved it; empty where one could.
    blind: str = ""
    shape: Mapping[str, Any] = field(default_factory=dict)
    importance: float | None = None
    # Of a slice: the feature whose values in it these are.
    base: str = ""

    @property
    def moved(self) -> bool:
        return any(score.moved for score in self.scores)

    @property
    def judged(self) -> bool:
        """Whether there were values to compare, on both sides, and a limit that can be reached."""
        return self.compared and not self.blind

    @property
    def compared(self) -> bool:
        return any(score.value is not None for score in self.scores if score.measure in OF_VALUES)

    @property
    def reason(self) -> str:
        """The reasons of the measures that are over their limit; of the first when none is."""
        told = [score.reason for score in self.scores if score.moved] or [self.scores[0].reason]
        return " and ".join(told)

    @property
    def times_limit(self) -> float:
        """The largest of its distances, as a multiple of its limit."""
        return max((score.times_limit for score in self.scores), default=0.0)

    @property
    def rank(self) -> tuple[float, float]:
        """What features are ordered by, the largest first: change times importance, then change."""
        return self.times_limit * (self.importance or 0.0), self.times_limit

    @property
    def figures(self) -> dict[str, float | None]:
        return {name: figure for score in self.scores for name, figure in score.figures.items()}

    def as_dict(self) -> dict[str, Any]:
        figures = {name: None if v is None or not np.isfinite(v) else v for name, v in self.figures.items()}
        return {
            "feature": self.feature,
            **figures,
            "times_limit": self.times_limit,
            "importance": self.importance,
            "judged": self.judged,
            "moved": self.moved,
            "reason": self.reason,
        }
