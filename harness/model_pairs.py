"""Pairs of a champion and a challenger that learnt from samples of the same world, for the gate `champion`.

The rows have days of their own levels, so that rows of one day go together. A challenger is as good as its champion, but for chance, or
its weights are moved by as much as makes it worse by a given loss on a large sample.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from harness.project import CHURN
from pipeline.gates.base import PackagedModel
from pipeline.serving.schema import Schema
from pipeline.settings.models import Model
from pipeline.training import tasks
from pipeline.training.evaluate import Evaluation, gain
from pipeline.training.tasks import METRICS, Answers

FEATURES, LABELS = 6, ("basic", "free", "plus")
TRUE = np.array([1.0, -0.8, 0.6, 0.5, -0.3, 0.2])
# The levels of days, in standard deviations of a row's own noise.
DAY_LEVEL = 0.5
LARGE, LEARNT_DAYS = 100_000, 75


@dataclass(frozen=True)
class World:
    """One task and metric; `tolerance` is `gates.champion_tolerance`, in the unit of `gain`."""

    task: str
    metric: str
    tolerance: float
    days: int = 30
    a_day: int = 200
    learnt: int = 15_000
    seed: int = 1
    # Of numbers: their logarithm is what the features tell, as of amounts and durations.
    skewed: bool = False
    cache: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def classes(self) -> tuple[str, ...]:
        return LABELS if self.task == "multiclass" else ()

    def settings(self, tolerance: float) -> Model:
        training = {
            "task": self.task,
            "target": "left",
            "numeric": ["spend"],
            "categorical": [],
            "estimator": "boosting",
        }
        gates = {"metric_limit": 1.0 if METRICS[self.metric].higher_is_better else 9.0, "contract": {}}
        block = {
            **CHURN,
            "training": training,
            "evaluation": {"holdout_days": 29.0, "metric": self.metric},
            "gates": gates | {"champion_tolerance": tolerance},
        }
        return Model.model_validate(block)

    def rows(self, rng: np.random.Generator, rows: int, days: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(features, targets, days) of a sample."""
        day = np.arange(rows) * days // rows
        features = rng.normal(size=(rows, FEATURES))
        level = rng.normal(0, DAY_LEVEL, days)[day]
        if self.task == "regression":
            shown = features @ TRUE + level + rng.normal(size=rows)
            return features, np.exp(shown / 2) if self.skewed else shown, day
        if self.task == "binary":
            return features, (features @ TRUE + level + rng.logistic(size=rows) > 0).astype("float64"), day
        scores = features @ _of_classes() + level[:, None] * np.array([1.0, -1.0, 0.0]) + rng.gumbel(size=(rows, 3))
        return features, np.array(LABELS, object)[scores.argmax(axis=1)], day

    def fitted(self, rng: np.random.Generator) -> np.ndarray:
        """The weights of a model that learnt from a new sample: (features + 1,) or (features + 1, classes)."""
        from sklearn.linear_model import LogisticRegression, Ridge

        features, target, _ = self.rows(rng, self.learnt, LEARNT_DAYS)
        model = Ridge() if self.task == "regression" else LogisticRegression()
        model.fit(features, target.astype(str) if self.classes else target)
        if self.classes:
            return np.vstack([model.coef_.T, model.intercept_])
        return np.append(np.ravel(model.coef_), np.ravel(model.intercept_))

    def answers(self, weights: np.ndarray, features: np.ndarray) -> Answers:
        scores = features @ weights[:-1] + weights[-1]
        if self.task == "regression":
            return Answers(scores)
        if self.task == "binary":
            return Answers(1 / (1 + np.exp(-scores)))
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        return Answers(powers / powers.sum(axis=1, keepdims=True), LABELS)

    def loss(self, weights: np.ndarray, other: np.ndarray) -> float:
        """By how much the model of these weights is worse than the `other` on a large sample, in the unit of `gain`."""
        features, target, naive = self._large()
        task, answers = self._task(), [self.answers(each, features) for each in (weights, other)]
        scores = [task.score(self.metric, target, each) for each in answers]
        return -gain(self.metric, scores[0], scores[1], naive)

    def _large(self) -> tuple[np.ndarray, np.ndarray, float]:
        if "large" not in self.cache:
            features, target, _ = self.rows(np.random.default_rng(self.seed + 1000), LARGE, 1_000)
            naive = self._task().score(self.metric, target, self._task().guess(target, len(target), self.classes or ()))
            self.cache["large"] = features, target, naive
        return self.cache["large"]

    def _task(self) -> tasks.Task:
        return tasks.of(self.settings(0.0).training)

    def moved(self, worse: float) -> np.ndarray:
        """What is added to the weights of a fitted model to make it worse by `worse`."""
        if ("moved", worse) not in self.cache:
            rng = np.random.default_rng(self.seed + 2000)
            weights = self.fitted(rng)
            direction = rng.normal(size=weights.shape)
            low, high = 0.0, 4.0
            for _ in range(25):
                middle = (low + high) / 2
                low, high = (
                    (middle, high) if self.loss(weights + middle * direction, weights) < worse else (low, middle)
                )
            self.cache["moved", worse] = high * direction  # type: ignore[index]
        return self.cache["moved", worse]  # type: ignore[index]

    def pair(self, number: int, worse: float = 0.0, tolerance: float | None = None) -> PackagedModel:
        """What the gate gets of one pair, with new samples for champion, challenger and the held-out rows."""
        settings = self.settings(self.tolerance if tolerance is None else tolerance)
        rng = np.random.default_rng([self.seed, number])
        champion, challenger = self.fitted(rng), self.fitted(rng)
        if worse:
            challenger = challenger + self.moved(worse)
        features, target, day = self.rows(rng, self.days * self.a_day, self.days)
        seen = pd.Timestamp("2024-02-01", tz="UTC") + pd.to_timedelta(
            np.arange(len(target)) * self.days / len(target), "D"
        )
        frame = pd.DataFrame({"seen_at": seen.as_unit("us"), "left": target})
        frame = frame.assign(**self.answers(challenger, features).columns)
        answered = self.answers(champion, features).values
        reader = SimpleNamespace(schema=Schema(()))
        before = SimpleNamespace(
            reader=reader, task=self.task, classes=self.classes, predict_frame=lambda rows: answered[rows.index]
        )
        naive = {self.metric: self._large()[2]}
        evaluation = Evaluation(len(frame), self.learnt, self.metric, dict(naive), naive, classes=self.classes)
        package = SimpleNamespace(reader=reader, classes=self.classes)
        return PackagedModel(
            settings, {}, evaluation, frame, package, before, "7", champion_trained_to=seen[0].to_pydatetime()
        )


@cache
def _of_classes() -> np.ndarray:
    return np.column_stack([TRUE, -TRUE[::-1], np.roll(TRUE, 2)])
