"""What the metric of answers is likely to be before their labels come, if nothing but the inputs has changed.

Of a classifier its own probabilities say how likely each label is, once a logistic curve a class has made them right on the held-out rows
(Platt 1999). The metric is then computed on every label that a row may have, each with its probability as its weight (confidence-based
performance estimation: Białek et al. 2024, Estimating Model Performance Under Covariate Shift Without Labels). Of a regression a small
tree, grown on the held-out rows, says the loss of a row by its features.

Either is the wrong one where the same inputs mean another label than before: only labels tell that, which is live quality's matter.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.monitoring.loss_tree import LossTree
from pipeline.settings.models import Model
from pipeline.training import frames, tasks
from pipeline.training.tasks import PROBABILITIES, Answers, Task

if TYPE_CHECKING:
    import pandas as pd

# Blocks of time of the held-out rows. Each is estimated by what the others teach, and the differences are the usual error.
BLOCKS, FEWEST_OF_A_BLOCK = 5, 50
# Of so many requests at least a metric is estimated.
FEWEST = 100
# Labels of all rows that are weighed at once; of more rows some are taken, evenly spread.
MOST_CELLS = 2_000_000
# With more classes than these a curve each would rest on a few rows; their probabilities count as they are.
MOST_CURVES = 50
# A class that fewer held-out rows have, or that all but so few have, gets no curve of its own.
FEWEST_OF_A_CLASS = 5
AS_IT_IS = (1.0, 0.0)
SMALLEST = 1e-7


@dataclass(frozen=True)
class QualityModel:
    """What is needed to estimate `metric`: for a classifier a slope and an offset for each class, for a regression the tree of losses.

    `usual_error` is the root of the mean squared difference between estimate and metric over `blocks` blocks of the `rows` held out.
    """

    metric: str
    rows: int
    blocks: int = 0
    usual_error: float = 0.0
    curves: tuple[tuple[float, float], ...] = ()
    tree: LossTree | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> QualityModel:
        tree = LossTree.read(values["tree"]) if values["tree"] else None
        return cls(**{**values, "curves": tuple((a, b) for a, b in values["curves"]), "tree": tree})


@dataclass(frozen=True)
class EstimatedQuality:
    """The metric that `rows` answers are likely to have; it is usually wrong by `usual_error`."""

    metric: str
    value: float
    usual_error: float
    rows: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def learnt(
    held_out: pd.DataFrame, model: Model, classes: tuple[str, ...] = (), doubles: Collection[str] = ()
) -> QualityModel | None:
    """What the held-out rows, with their answers and labels, teach.

    None where they are too few for two blocks, for rows that weigh differently (a request has no weight), and for r2, which needs the
    spread of labels that nobody has yet.
    """
    if model.training.weights:
        return None
    ordered = held_out.sort_values(model.source.event_time, kind="stable")
    blocks = min(BLOCKS, len(ordered) // FEWEST_OF_A_BLOCK)
    if blocks < 2:
        return None
    task, metric = tasks.of(model.training), model.evaluation.metric
    features = frames.features_of(ordered, model, doubles)
    target, answers = ordered[model.training.target].to_numpy(), Answers.of(ordered, classes)
    of_row = np.arange(len(ordered)) * blocks // len(ordered)
    errors = []
    for block in range(blocks):
        others = _learnt(task, model, metric, features, target, answers, of_row != block)
        if others is None:
            return None
        here = of_row == block
        value = _metric(task, others, features[here], Answers(answers.values[here], classes))
        errors.append(value - task.score(metric, target[here], Answers(answers.values[here], classes)))
    finite = [error for error in errors if np.isfinite(error)]
    whole = _learnt(task, model, metric, features, target, answers, np.ones(len(ordered), bool))
    if not finite or whole is None:
        return None
    usual = float(np.sqrt(np.mean(np.square(finite))))
    return QualityModel(metric, len(ordered), len(finite), usual, whole.curves, whole.tree)


def estimated(
    requests: pd.DataFrame, known: QualityModel, model: Model, classes: tuple[str, ...] = ()
) -> EstimatedQuality | None:
    """The estimate for answered requests, as the prediction log has them. None for too few, for answers without the probabilities of
    their classes, and where the metric cannot be told."""
    if len(requests) < FEWEST or known.metric != model.evaluation.metric:
        return None
    if classes and (PROBABILITIES not in requests.columns or requests[PROBABILITIES].isna().any()):
        return None
    value = _metric(tasks.of(model.training), known, requests, Answers.of(requests, classes))
    return EstimatedQuality(known.metric, value, known.usual_error, len(requests)) if np.isfinite(value) else None


def by_probabilities(task: Task, metric: str, answers: Answers) -> float:
    """The metric that the answers' own probabilities lead to expect, as they are; NaN for a regression."""
    import pandas as pd

    outcomes = task.outcomes(answers)
    if outcomes is None:
        return float("nan")
    known = QualityModel(metric, len(answers.values), curves=(AS_IT_IS,) * len(outcomes[0]))
    return _metric(task, known, pd.DataFrame(index=range(len(answers.values))), answers)


def of_window(model: Model, features: pd.DataFrame, target: np.ndarray, answers: Answers) -> QualityModel | None:
    """What the labelled rows of one window teach of a regression that did not learn from them, with `features` as a model takes them. None
    for a classifier, whose probabilities stand for it (`by_probabilities`), and where `learnt` has none."""
    task = tasks.of(model.training)
    if model.training.weights or len(target) < FEWEST or task.outcomes(answers) is not None:
        return None
    return _learnt(task, model, model.evaluation.metric, features, target, answers, np.ones(len(target), bool))


def by_losses(model: Model, known: QualityModel, features: pd.DataFrame, answers: Answers) -> float:
    """The metric that a regression's answers are likely to have, by what `of_window` learnt."""
    return _metric(tasks.of(model.training), known, features, answers)


def _learnt(
    task: Task,
    model: Model,
    metric: str,
    features: pd.DataFrame,
    target: np.ndarray,
    answers: Answers,
    taken: np.ndarray,
) -> QualityModel | None:
    part = Answers(answers.values[taken], answers.classes)
    if (outcomes := task.outcomes(part)) is not None:
        return QualityModel(metric, len(taken), curves=_curves(*outcomes, target[taken]))
    losses = task.row_losses(metric, target[taken], part)
    if losses is None or not np.isfinite(losses).all():
        return None
    logged = [name for name in features.columns if name not in model.rollout.serving.personal]
    tree = LossTree.grown(features.loc[taken, logged], part.values, losses, model.training.seed)
    return QualityModel(metric, len(taken), tree=tree)


def _curves(labels: np.ndarray, probabilities: np.ndarray, target: np.ndarray) -> tuple[tuple[float, float], ...]:
    """The slope and the offset of each label's logit, the same on any number of processors: by threads a sum has other last digits."""
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    if len(labels) > MOST_CURVES:
        return (AS_IT_IS,) * len(labels)
    found = []
    for i, label in enumerate(labels):
        is_it = target == label
        if min(is_it.sum(), (~is_it).sum()) < FEWEST_OF_A_CLASS:
            found.append(AS_IT_IS)
            continue
        with threadpool_limits(1):
            fitted = LogisticRegression(C=100.0).fit(_logit(probabilities[:, [i]]), is_it)
        found.append((float(fitted.coef_[0, 0]), float(fitted.intercept_[0])))
    return tuple(found)


def _metric(task: Task, known: QualityModel, rows: pd.DataFrame, answers: Answers) -> float:
    if known.tree is not None:
        return task.of_mean_loss(known.metric, float(known.tree.losses(rows, answers.values).mean()))
    labels, _ = task.outcomes(answers) or (np.array([]), None)
    some = slice(None, None, max(1, -(-len(rows) * max(len(labels), 1) // MOST_CELLS)))
    taken = Answers(answers.values[some], answers.classes)
    outcomes = task.outcomes(taken)
    if outcomes is None or len(known.curves) != len(labels):
        return float("nan")
    slopes, offsets = np.array(known.curves).T
    likely = 1 / (1 + np.exp(-(_logit(outcomes[1]) * slopes + offsets)))
    likely /= likely.sum(axis=1, keepdims=True)
    repeated = Answers(np.repeat(taken.values, len(labels), axis=0), taken.classes)
    return task.score(known.metric, np.tile(labels, len(taken.values)), repeated, likely.ravel())


def _logit(probabilities: np.ndarray) -> np.ndarray:
    held = np.clip(probabilities, SMALLEST, 1 - SMALLEST)
    return np.log(held / (1 - held))
