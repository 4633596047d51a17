"""The loss of each held-out row under the new model, beside that of the champion; without a champion, of the naive guess."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from pipeline.gates import time_blocks
from pipeline.gates.base import PackagedModel
from pipeline.gates.unseen_rows import behind, too_few, unseen_rows
from pipeline.training import tasks, weights
from pipeline.training.tasks import Answers, Task


@dataclass(frozen=True)
class ComparedRows:
    """`own` and `other` are the losses of each row, (rows,), by the mean loss called `loss`; `unit` is the naive guess's mean loss.
    `against` says whose the other is, and `champion` whether it is the champion's."""

    loss: str
    own: np.ndarray
    other: np.ndarray
    unit: float
    against: str
    champion: bool
    weight: np.ndarray | None
    blocks: np.ndarray
    # From a mean of losses to what is called `loss`, the root of a mean of squares say.
    of_mean: Callable[[str, float], float] = lambda loss, mean: mean

    def shown(self, mean: float) -> float:
        """A mean of the rows' losses as the figure that `loss` names."""
        return float(self.of_mean(self.loss, mean))

    @property
    def naive_loss(self) -> str:
        """What `worse_by` is a share of, in words."""
        return f"the naive guess's {'mean square' if self.loss == 'rmse' else 'loss'}"

    @property
    def worse_by(self) -> np.ndarray:
        """By how much each row's loss is worse than the other's, as a share of the naive guess's mean loss."""
        return (self.own - self.other) / self.unit


def with_rows_to_compare(packaged: PackagedModel) -> PackagedModel:
    """With the held-out rows on which the two can be compared: those that the champion was not trained on either. Where these are too few,
    or it was trained on days that are held out from the other, it is without the champion."""
    if packaged.champion is None or packaged.backfill:
        return packaged
    rows = unseen_rows(packaged)
    if rows is None or too_few(packaged, rows) or behind(packaged):
        return replace(packaged, champion=None)
    return replace(packaged, held_out=rows.reset_index(drop=True))


def compared_rows(packaged: PackagedModel) -> ComparedRows:
    """The held-out rows of a packaged model."""
    model, held_out = packaged.model, packaged.held_out
    task, target = tasks.of(model.training), held_out[model.training.target].to_numpy()
    own, guess = Answers.of(held_out, packaged.package.classes), _guess(packaged, task)
    weight = weights.of(held_out, model.training, "evaluate")
    loss, own_losses, guessed = _losses(task, model.evaluation.metric, target, own, guess)
    # A guess that errs nowhere has no unit.
    unit = float(np.average(guessed, weights=weight)) or 1.0
    blocks = time_blocks.of_times(held_out[model.source.event_time], time_blocks.MANY).of_row
    champion = champion_answers(packaged)
    if champion is None:
        return ComparedRows(
            loss, own_losses, guessed, unit, "the naive guess", False, weight, blocks, task.of_mean_loss
        )
    others = task.row_losses(loss, target, champion)
    assert others is not None
    against = f"version {packaged.champion_version}"
    return ComparedRows(loss, own_losses, others, unit, against, True, weight, blocks, task.of_mean_loss)


def champion_answers(packaged: PackagedModel) -> Answers | None:
    """The champion's answers to the held-out rows; None without one, for a backfill, and where it cannot answer these rows."""
    champion, package = packaged.champion, packaged.package
    if champion is None or packaged.backfill or champion.task != packaged.model.training.task:
        return None
    own = {column.name: column for column in package.reader.schema.columns}
    for column in champion.reader.schema.columns:
        like = own.get(column.name, column)
        if column.name not in packaged.held_out.columns or _held_as(column.kind) != _held_as(like.kind):
            return None
    return Answers(packaged.compared.predict_frame(packaged.held_out), packaged.compared.classes)


def _held_as(kind: str) -> str:
    """What a column's cells are in the held-out rows."""
    return "number" if kind in ("integer", "boolean") else kind


def _guess(packaged: PackagedModel, task: Task) -> Answers:
    """The naive guess from the rows that were learnt from; without their sample, from the held-out ones."""
    known = packaged.held_out if packaged.reference is None else packaged.reference
    training = packaged.model.training
    learnt, weight = known[training.target].to_numpy(), weights.of(known, training, "evaluate")
    return task.guess(learnt, len(packaged.held_out), packaged.package.classes, weight)


def _losses(
    task: Task, metric: str, target: np.ndarray, own: Answers, guess: Answers
) -> tuple[str, np.ndarray, np.ndarray]:
    """(the loss, the model's of each row, the guess's): by the metric that is judged by, where it is a mean over rows."""
    for loss in (metric, task.usual_loss):
        losses, guessed = task.row_losses(loss, target, own), task.row_losses(loss, target, guess)
        if losses is not None and guessed is not None:
            return loss, losses, guessed
    raise AssertionError(f"{task.usual_loss} is no mean over rows")
