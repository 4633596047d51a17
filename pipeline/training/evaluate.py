"""Measures a model on days that it has not seen, beside a guess that needs no model.

Writes the held-out rows with scikit-learn's predictions (the gates compare with them), the metrics,
and a sample of the training data (drift is measured against it later).
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from pipeline.errors import StageError
from pipeline.settings.models import Model
from pipeline.training import encodings, frames, skops_file, tasks, weights
from pipeline.training.importances import importances
from pipeline.training.search.run import ATTRIBUTE
from pipeline.training.tasks import METRICS, Answers, classes_of
from pipeline.training.tasks import PREDICTION as PREDICTION


@dataclass(frozen=True)
class Evaluation:
    """The result on `rows` held-out rows of a model that learnt from `trained_rows`.

    `metric` names the one that params.yaml chooses; `metrics` are the model's and `baseline` the naive guess's, by name. `remarks` are what
    people should know of the classes. `encodings` says how the categories' encodings were chosen: `measured.Choice`; `search` what
    `training.search` found: `search.run.Found`; `importances` are of pipeline.training.importances.
    `naive` has what the guesses without a model answer to each row, by name, and the last target that was learnt from: pipeline.gates.naive_guesses.
    `classes` are those that the model knows, in the order of its probabilities.
    """

    rows: int
    trained_rows: int
    metric: str
    metrics: Mapping[str, float]
    baseline: Mapping[str, float]
    remarks: tuple[str, ...] = ()
    encodings: Mapping[str, Any] = field(default_factory=dict)
    search: Mapping[str, Any] = field(default_factory=dict)
    importances: Mapping[str, float] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    naive: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def read(cls, report: Path) -> Evaluation:
        """Reads the file that `evaluate` wrote."""
        values = json.loads(report.read_text(encoding="utf-8"))
        remarks, classes = tuple(values.pop("remarks", ())), tuple(values.pop("classes", ()))
        known = {each.name: values[each.name] for each in fields(cls) if each.name in values}
        return cls(**known, remarks=remarks, classes=classes)


def better_by(metric: str, score: float, other: float) -> float:
    """By how much `score` is better than `other`: positive when it is better, for metrics of either direction."""
    return score - other if METRICS[metric].higher_is_better else other - score


def gain(metric: str, score: float, other: float, naive: float) -> float:
    """By how much `score` is better than `other`, for `gates` and `monitor.quality_drop`: of an error in the target's own unit as a
    share of the naive guess's."""
    better = better_by(metric, score, other)
    return better / naive if METRICS[metric].in_targets_unit and naive > 0 else better


def shown(metric: str, value: float) -> str:
    """A metric's value for people: four digits that count, whatever the target's unit."""
    if not METRICS[metric].in_targets_unit:
        return f"{value:.4f}"
    if 1e-4 <= abs(value) < 1e9:
        digits = max(0, 3 - math.floor(math.log10(abs(value))))
        return f"{value:,.{digits}f}"
    return f"{value:.4g}"


def shown_gain(metric: str, by: float) -> str:
    """A result of `gain`, or its limit, for people."""
    return f"{by:.4g} of the naive guess's {metric}" if METRICS[metric].in_targets_unit else f"{by:.4g}"


# `reproduce` compares its files, on another machine too: products of matrices have other last digits by each number of threads.
@threadpool_limits.wrap(limits=1, user_api="blas")
def evaluate(
    model: Model,
    rows: pd.DataFrame,
    model_file: Path,
    predictions: Path,
    reference: Path,
    report: Path,
    doubles: Collection[str] = (),
) -> Evaluation:
    """Scores the held-out rows, returns the evaluation and writes it to `report` as JSON. `doubles` is as for `fit.fit`.

    `predictions` gets the held-out rows with scikit-learn's answers (see `Answers.columns`); `reference` gets a fixed-seed sample of the rows that
    what is served learns from, with the same columns. Raises StageError when no row is held out.
    """
    out = frames.held_out(rows, model)
    if not out.any():
        raise StageError(
            "evaluate",
            f"no rows in the last {model.evaluation.holdout_days:g} days of the window",
            "raise evaluation.holdout_days",
        )
    estimator = skops_file.load(model_file)
    test = scored(estimator, rows[out], model, doubles)
    test.to_parquet(predictions, index=False)
    trained = frames.before_held_out(rows, model)
    taught = rows if model.evaluation.refit else trained
    sample = taught.sample(min(model.evaluation.reference_rows, len(taught)), random_state=model.training.seed)
    scored(estimator, sample.sort_index(), model, doubles).to_parquet(reference, index=False)

    task, target = tasks.of(model.training), test[model.training.target].to_numpy()
    weight = weights.of(test, model.training, "evaluate")
    learnt, classes = trained[model.training.target].to_numpy(), classes_of(estimator)
    guess = task.guess(learnt, len(test), classes, weights.of(trained, model.training, "train"))
    evaluation = Evaluation(
        rows=len(test),
        trained_rows=len(trained),
        metric=model.evaluation.metric,
        metrics=task.scores(target, Answers.of(test, classes), weight),
        baseline=task.scores(target, guess, weight),
        remarks=tuple(task.remarks(learnt, target)),
        encodings=encodings.said(estimator),
        search=getattr(estimator, ATTRIBUTE, {}),
        importances=_importances(estimator, test, model, doubles, weight),
        classes=classes,
        naive=_naive(task, trained, model, classes),
    )
    report.write_text(json.dumps(evaluation.as_dict(), indent=2) + "\n", encoding="utf-8")
    return evaluation


def _naive(task: tasks.Task, trained: pd.DataFrame, model: Model, classes: tuple[str, ...]) -> dict[str, Any]:
    learnt = trained[model.training.target]
    constant = task.guesses(learnt.to_numpy(), classes, weights.of(trained, model.training, "train"))
    newest = learnt.iloc[int(trained[model.source.event_time].argmax())]
    return constant | {"last value": newest if isinstance(newest, str) else float(newest)}


def _importances(
    estimator, test: pd.DataFrame, model: Model, doubles: Collection[str], weight: np.ndarray | None
) -> dict[str, float]:
    task, metric, classes = tasks.of(model.training), model.evaluation.metric, classes_of(estimator)
    target = test[model.training.target].to_numpy()

    def predict(features: pd.DataFrame) -> Answers:
        return Answers(task.predict(estimator, features), classes)

    def loss(answers: Answers, places: np.ndarray) -> float:
        score = task.score(metric, target[places], answers, None if weight is None else weight[places])
        return -score if METRICS[metric].higher_is_better else score

    features = frames.features_of(test, model, doubles)
    return importances(features, frames.columns_of(model.training), predict, loss, model.training.seed)


def scored(estimator: Any, rows: pd.DataFrame, model: Model, doubles: Collection[str]) -> pd.DataFrame:
    """The rows with the answers of a fitted pipeline, in the columns of `Answers`."""
    features = frames.features_of(rows, model, doubles)
    answers = Answers(tasks.of(model.training).predict(estimator, features), classes_of(estimator))
    return rows.assign(**answers.columns)
