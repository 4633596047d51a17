"""What a task says: how its target is read, what an answer is, how answers are measured, and what two versions are compared by.

`target` is float64 (rows,) for a target of numbers, and texts (rows,) for one of labels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
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
    def estimator(self) -> str: ...
    @property
    def options(self) -> Mapping[str, Any]: ...


# The attribute that a fitted pipeline carries its classes in.
CLASSES = "labels_"
PREDICTION, PROBABILITIES = "prediction", "probabilities"


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

    @classmethod
    def of(cls, columns: Any, classes: tuple[str, ...] = ()) -> Answers:
        """Those in the columns of a table, pandas' or Arrow's, that has them as `columns` or the prediction log."""
        import numpy as np

        if not classes:
            return cls(np.asarray(columns[PREDICTION], "float64"))
        lists = columns[PROBABILITIES].to_numpy()
        if len(lists) and {len(each) if each is not None else 0 for each in lists} != {len(classes)}:
            raise ValueError(f"the rows' {PROBABILITIES} are not those of {len(classes)} classes")
        return cls(np.array([*lists], "float64").reshape(len(lists), len(classes)), classes)

    @property
    def columns(self) -> dict[str, Any]:
        """As columns of a table: `prediction`, for classes the probability of the likeliest one, and then `probabilities`."""
        if not self.classes:
            return {PREDICTION: self.values}
        return {PREDICTION: self.values.max(axis=1), PROBABILITIES: [*self.values]}

    @property
    def as_json(self) -> list[Any]:
        """As a slot answers: a number for each row, or the classes' probabilities by name."""
        if not self.classes:
            return self.values.tolist()
        return [dict(zip(self.classes, row, strict=True)) for row in self.values.tolist()]


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
    # Those that are made of a mean over rows, as `row_losses` has them, and the one that counts where none is stated.
    mean_losses: ClassVar[Sequence[str]]
    usual_loss: ClassVar[str]
    # Whether the target's cells are labels, texts of any spelling, and which numbers it may be; None for any.
    of_labels: ClassVar[bool] = False
    allowed: ClassVar[tuple[float, ...] | None] = None
    has_positive: ClassVar[bool] = False
    # What `guess` answers, in words that follow "the".
    guess_is: ClassVar[str]

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @abstractmethod
    def learnt(self, target: pd.Series) -> tuple[np.ndarray, tuple[str, ...]]:
        """(the target as an estimator takes it, the classes that it knows then). Raises StageError where nothing can be learnt."""

    def remarks(self, learnt: np.ndarray, held_out: np.ndarray) -> list[str]:
        """What people should know of the targets of the rows that were learnt from and of those held out."""
        return []

    @abstractmethod
    def predict(self, fitted: BaseEstimator, features: pd.DataFrame) -> np.ndarray:
        """The predictions of a fitted pipeline, as in `Answers`."""

    def scores(self, target: np.ndarray, answers: Answers, weight: np.ndarray | None = None) -> dict[str, float]:
        """All `metrics` by name, as `score` has each."""
        return {metric.name: self.score(metric.name, target, answers, weight) for metric in self.metrics}

    @abstractmethod
    def score(self, metric: str, target: np.ndarray, answers: Answers, weight: np.ndarray | None = None) -> float:
        """One of `metrics`, each row with its `weight`; NaN where these rows cannot tell it.

        It computes that one alone: permutation asks for it hundreds of times.
        """

    @abstractmethod
    def guess(
        self, learnt: np.ndarray, rows: int, classes: tuple[str, ...] = (), weight: np.ndarray | None = None
    ) -> Answers:
        """What a guess without a model answers to that many rows, from the target of the rows that were learnt from and their
        `weight`."""

    def guesses(
        self, learnt: np.ndarray, classes: tuple[str, ...] = (), weight: np.ndarray | None = None
    ) -> dict[str, float | list[float]]:
        """All constant guesses by name, as an answer to one row: that of `guess`, and others that a metric may rate higher."""
        return {self.guess_is: self.guess(learnt, 1, classes, weight).values[0].tolist()}

    @abstractmethod
    def losses(self, target: np.ndarray, answers: Answers, other: Answers) -> np.ndarray:
        """The loss of each of the `answers`, in [0, 1], beside those of the `other` version."""

    def outcomes(self, answers: Answers) -> tuple[np.ndarray, np.ndarray] | None:
        """(the labels that a row may have, (labels,), the probability that the answers give each, (rows, labels)); None for numbers."""
        return None

    def row_losses(self, metric: str, target: np.ndarray, answers: Answers) -> np.ndarray | None:
        """What each row adds to a metric, (rows,): `of_mean_loss` of their mean is the metric. None where it is made otherwise."""
        return None

    def of_mean_loss(self, metric: str, mean: float) -> float:
        """The metric whose `row_losses` have this mean."""
        return mean

    @abstractmethod
    def scale(self, values: np.ndarray) -> float:
        """What differences between two runtimes' answers are shares of."""

    @staticmethod
    @abstractmethod
    def sides(reference: Answers) -> Callable[[Answers], np.ndarray]:
        """What gives the sides that answers lie on, whole numbers (rows, cuts); `reference` are the champion's answers to its training
        sample. A row whose number differs between two versions goes up or down at that cut: the first says which rows change sides,
        the others how the distribution moves."""

    @abstractmethod
    def answer(self, classes: tuple[str, ...] = ()) -> str:
        """What a prediction says, in words that follow "A prediction is"."""


def above(cuts: np.ndarray) -> Callable[[Answers], np.ndarray]:
    """The `sides` of a task whose answers are numbers: whether each is above each cut."""
    return lambda answers: (answers.values[:, None] > cuts).astype("int64")


def classes_of(fitted: BaseEstimator) -> tuple[str, ...]:
    """The classes that a fitted pipeline knows, in the order of its probabilities; () for a task of numbers."""
    return tuple(getattr(fitted, CLASSES, ()))
