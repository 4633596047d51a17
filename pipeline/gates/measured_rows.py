"""A metric on labelled rows, and by how much one model's is better than another's on the same rows, with 95 % intervals.

The interval is Student's t around the figure, with the spread that the figure has over the draws of `time_blocks`: it is wide where days
are few. Both models are scored on the same draws, so what makes rows hard for both
does not count.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from pipeline.gates import learning_noise, resampled, time_blocks
from pipeline.gates.time_blocks import Blocks
from pipeline.settings.models import Model
from pipeline.training import tasks, weights
from pipeline.training.evaluate import better_by
from pipeline.training.tasks import METRICS, Answers, Task

LEVEL = 0.95
# So many of the draws must have rows that tell the metric.
KNOWN_DRAWS = 0.95


@dataclass(frozen=True)
class Figure:
    """A figure with its interval, its standard error, and how many standard errors the interval is to each side; without an
    interval where the rows do not tell it."""

    value: float
    interval: tuple[float, float] | None = None
    error: float = float("nan")
    width: float = float("nan")

    def __str__(self) -> str:
        return f"{self.value:.4g}{said(self.interval)}"


def said(interval: tuple[float, float] | None, form: str = ".4g") -> str:
    """The interval in words that follow a figure; '' without one."""
    return f" (95 % interval {interval[0]:{form}} to {interval[1]:{form}})" if interval is not None else ""


@dataclass(frozen=True)
class Measured:
    """Rows of a model with their labels: `target` and `weight` are (rows,). `metric` is the one of its settings."""

    task: Task
    metric: str
    target: np.ndarray
    weight: np.ndarray | None
    blocks: Blocks

    @classmethod
    def of(cls, model: Model, rows: pd.DataFrame) -> Measured:
        """Raises StageError where all weights are 0."""
        return cls(
            tasks.of(model.training),
            model.evaluation.metric,
            rows[model.training.target].to_numpy(),
            weights.of(rows, model.training, "evaluate") if len(rows) else None,
            time_blocks.of_times(rows[model.source.event_time]),
        )

    @cached_property
    def _drawn(self) -> np.ndarray:
        return self.blocks.drawn()

    def score(self, answers: Answers) -> float:
        """The metric; NaN where an answer is no number."""
        if not np.isfinite(answers.values).all():
            return float("nan")
        return self.task.score(self.metric, self.target, answers, self.weight)

    def on_draws(self, answers: Answers) -> np.ndarray | None:
        """The metric on each draw, (draws,); None where the rows do not tell how it varies."""
        if self.blocks.count < time_blocks.FEWEST_BLOCKS:
            return None
        weight = np.ones(len(self.target)) if self.weight is None else self.weight
        return resampled.values(self.task, self.metric, self.target, answers, weight, self.blocks, self._drawn)

    def figure(self, value: float, draws: np.ndarray | None, wider: float = 1.0) -> Figure:
        """`value` with the interval that its values on the `draws` give, its standard error times `wider`."""
        if draws is None or not np.isfinite(value):
            return Figure(value)
        from scipy import stats

        known = draws[np.isfinite(draws)]
        if len(known) < KNOWN_DRAWS * len(draws):
            return Figure(value)
        count = self.blocks.count
        # A draw of `count` blocks varies by so much less than `count` days elsewhere would.
        error = wider * float(known.std() * (count / (count - 1)) ** 0.5)
        width = float(stats.t.ppf((1 + LEVEL) / 2, self.blocks.freedom))
        return Figure(value, (value - width * error, value + width * error), error, width)

    def metric_figure(self, value: float, answers: Answers) -> Figure:
        """The metric, `value` on all rows, with its interval, cut off at what the metric cannot pass."""
        found = self.figure(value, self.on_draws(answers))
        if found.interval is None:
            return found
        highest, lowest = (1.0, -np.inf) if METRICS[self.metric].higher_is_better else (np.inf, 0.0)
        low, high = found.interval
        return Figure(value, (max(low, lowest), min(high, highest)), found.error, found.width)

    def gain(self, answers: Answers, other: Answers, unit: float = 1.0, learnt: int = 0) -> Figure:
        """By how much `answers` are better than `other`, on the same rows, as a share of `unit`; negative when they are worse.

        With `learnt`, how many rows each of two models learnt from, the interval also has what new rows to learn from would change.
        """
        value = better_by(self.metric, self.score(answers), self.score(other)) / unit
        draws = [self.on_draws(each) for each in (answers, other)]
        if draws[0] is None or draws[1] is None:
            return Figure(value)
        # Of two fits of one model with p parameters to n rows each, the true mean losses differ by a standard deviation of
        # sqrt(p) / n, and the losses of a row by sqrt(2 p / n): on m rows the squares are as m to 2 n.
        wider = (1 + len(self.target) / (2 * learnt)) ** 0.5 if learnt else 1.0
        found = self.figure(value, better_by(self.metric, draws[0], draws[1]) / unit, wider)  # type: ignore[arg-type]
        return self._with_noise(found, [answers, other], unit, learnt) if learnt else found

    def _with_noise(self, found: Figure, compared: list[Answers], unit: float, learnt: int) -> Figure:
        """The figure with what other rows to learn from change of a metric that no fit minimises."""
        if found.interval is None:
            return found
        weight = np.ones(len(self.target)) if self.weight is None else self.weight
        each = [
            learning_noise.error(self.task, self.metric, self.target, answers, weight, self.blocks, learnt) / unit
            for answers in compared
        ]
        error = math.hypot(found.error, *each)
        half = found.width * error
        return Figure(found.value, (found.value - half, found.value + half), error, found.width)
