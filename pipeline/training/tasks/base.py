"""What a task says: how its target is read, what an answer is, how answers are measured, and what two versions are compared by.

`target` is float64 (rows,) for a target of numbers, and texts (rows,) for one of labels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from sklearn.base import BaseEstimator


class Settings(Protocol):
    """What a task needs of the section `training`."""

    @property
    def task(self) -> str: ...
    @property
    def target(self) -> str: ...
    @property
    def positive(self) -> object: ...
    @property
    def options(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class Metric:
    """A figure of merit. `kind` is a share or score of at most 1, an error that is never below 0, or such an error in the target's own
    unit: a limit on a difference of these is a share of the naive guess's error."""

    name: str
    kind: Literal["score", "error", "error in the target's unit"]

    @property
    def higher_is_better(self) -> bool:
        return self.kind == "score"

    @property
    def in_targets_unit(self) -> bool:
        return self.kind == "error in the target's unit"


@dataclass(frozen=True)
class Answers:
    """A version's predictions, float64: `values` are (rows,), or for a task of classes (rows, classes) in the order of `classes`."""

    values: np.ndarray
    classes: tuple[str, ...] = ()


class Task(ABC):
    """One task of one model. A class says what is so for each model, and its objects what needs the model's settings."""

    name: ClassVar[str]
    # Which of an algorithm's two estimators learns it.
    estimator: ClassVar[Literal["classifier", "regressor"]]
    # What a package's model gives for a row, and so a slot: a number, the probability of 1, or one of each class.
    output: ClassVar[Literal["number", "probability", "probabilities"]]
    # All that it is measured by, and the one that `perennial init` takes, with the reason.
    metrics: ClassVar[Sequence[Metric]]
    usual_metric: ClassVar[str]
    usual_metric_why: ClassVar[str]
    # Whether the target's cells are labels, texts of any spelling, and which numbers it may be; None for any.
    of_labels: ClassVar[bool] = False
    allowed: ClassVar[tuple[float, ...] | None] = None
    has_positive: ClassVar[bool] = False

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @abstractmethod
    def learnt(self, target: pd.Series) -> tuple[np.ndarray, tuple[str, ...]]:
        """(the target as an estimator takes it, the classes that it knows then). Raises StageError where nothing can be learnt."""

    @abstractmethod
    def predict(self, fitted: BaseEstimator, features: pd.DataFrame) -> np.ndarray:
        """The predictions of a fitted pipeline, as in `Answers`."""

    @abstractmethod
    def scores(self, target: np.ndarray, answers: Answers) -> dict[str, float]:
        """All `metrics` by name; NaN for one that these rows cannot tell."""

    @abstractmethod
    def guess(self, learnt: np.ndarray, rows: int, classes: tuple[str, ...] = ()) -> Answers:
        """What a guess without a model answers to that many rows, from the target of the rows that were learnt from."""

    @abstractmethod
    def losses(self, target: np.ndarray, answers: Answers, other: Answers) -> np.ndarray:
        """The loss of each of the `answers`, in [0, 1], beside those of the `other` version."""

    @abstractmethod
    def scale(self, values: np.ndarray) -> float:
        """What differences between two runtimes' answers are shares of."""

    @staticmethod
    @abstractmethod
    def sides(reference: np.ndarray) -> np.ndarray:
        """The cuts between a low and a high answer, from the answers to the training sample: first the one that a row changes sides at."""

    @abstractmethod
    def answer(self, classes: tuple[str, ...] = ()) -> str:
        """What a prediction says, in words that follow "A prediction is"."""
