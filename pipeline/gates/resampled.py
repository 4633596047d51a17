"""A metric on each of many draws of blocks, without scoring the rows anew for each.

Each metric is made of sums over rows, which are taken once for each block; a draw adds the sums of its blocks. The area under the ROC
curve is made of pairs of rows, so of sums for each pair of blocks. Average precision alone reads all rows for each draw.

Source: DeLong, DeLong & Clarke-Pearson 1988 (the area as a mean over pairs).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pipeline.gates.time_blocks import Blocks
from pipeline.training.tasks import Answers, Task


def values(
    task: Task,
    metric: str,
    target: np.ndarray,
    answers: Answers,
    weight: np.ndarray,
    blocks: Blocks,
    drawn: np.ndarray,
) -> np.ndarray | None:
    """The metric on each draw, float64 (draws,), NaN where its rows cannot tell it. `weight` is (rows,), `drawn` (draws, blocks).

    None for a metric that has no such sums, or where an answer is no number.
    """
    if not np.isfinite(answers.values).all():
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        losses = task.row_losses(metric, target, answers)
        if losses is not None:
            means = (drawn @ blocks.sums(weight * losses)) / (drawn @ blocks.sums(weight))
            return np.asarray(task.of_mean_loss(metric, means), "float64")
        made = OF_SUMS.get(metric)
        return made(target, answers, weight, blocks, drawn) if made is not None else None


def _r2(target: np.ndarray, answers: Answers, weight: np.ndarray, blocks: Blocks, drawn: np.ndarray) -> np.ndarray:
    # Moved towards 0, which changes no spread, so that large targets keep their digits.
    moved = target - target.mean()
    rows, sums = drawn @ blocks.sums(weight), drawn @ blocks.sums(weight * moved)
    squares = drawn @ blocks.sums(weight * moved**2)
    errors = drawn @ blocks.sums(weight * (target - answers.values) ** 2)
    spread = squares - sums**2 / rows
    return np.where(spread > 0, 1 - errors / spread, np.nan)


def _area(
    positive: np.ndarray, scores: np.ndarray, weight: np.ndarray, blocks: Blocks, drawn: np.ndarray
) -> np.ndarray:
    """The area under the ROC curve on each draw; `positive` is bool (rows,)."""
    ranked_first = np.zeros((blocks.count, blocks.count))
    of_positive, asked = blocks.of_row[positive], scores[positive]
    # In order, because a search is then several times faster.
    order = np.argsort(asked)
    of_positive, asked, counted = of_positive[order], asked[order], weight[positive][order]
    for block in range(blocks.count):
        here = ~positive & (blocks.of_row == block)
        ascending = np.argsort(scores[here])
        below = np.concatenate([[0.0], np.cumsum(weight[here][ascending])])
        others = scores[here][ascending]
        # Of equal scores half of the pairs count.
        pairs = below[np.searchsorted(others, asked, "left")] + below[np.searchsorted(others, asked, "right")]
        ranked_first[:, block] = np.bincount(of_positive, weights=counted * pairs / 2, minlength=blocks.count)
    of_one, of_other = drawn @ blocks.sums(weight * positive), drawn @ blocks.sums(weight * ~positive)
    return np.einsum("di,ij,dj->d", drawn, ranked_first, drawn, optimize=True) / (of_one * of_other)


def _roc_auc(target: np.ndarray, answers: Answers, weight: np.ndarray, blocks: Blocks, drawn: np.ndarray) -> np.ndarray:
    return _area(target == 1, answers.values, weight, blocks, drawn)


def _roc_auc_ovr(
    target: np.ndarray, answers: Answers, weight: np.ndarray, blocks: Blocks, drawn: np.ndarray
) -> np.ndarray:
    """The mean over the classes that a draw has rows of; 0.5 for one that was never learnt."""
    areas = []
    for label in sorted(set(target[weight > 0].tolist())):
        known = label in answers.classes
        scores = answers.values[:, answers.classes.index(label)] if known else np.zeros(len(target))
        areas.append(_area(target == label, scores, weight, blocks, drawn))
    return _mean_of_known(np.array(areas))


def _macro_f1(
    target: np.ndarray, answers: Answers, weight: np.ndarray, blocks: Blocks, drawn: np.ndarray
) -> np.ndarray:
    # A class that was never learnt comes after those that were.
    labels = [*answers.classes, *sorted({*target.tolist()} - {*answers.classes})]
    places = {label: place for place, label in enumerate(labels)}
    true, said = np.array([places[label] for label in target.tolist()], "int64"), answers.values.argmax(axis=1)

    def in_blocks(label: np.ndarray, counted: np.ndarray) -> np.ndarray:
        cell = blocks.of_row * len(labels) + label
        return np.asarray(np.bincount(cell, counted, blocks.count * len(labels)).reshape(-1, len(labels)))

    right = drawn @ in_blocks(true, weight * (true == said))
    either = drawn @ (in_blocks(true, weight) + in_blocks(said, weight))
    return _mean_of_known((2 * right / either).T)


def _mean_of_known(of_classes: np.ndarray) -> np.ndarray:
    """The mean of each draw's classes, (classes, draws), without those that the draw has none of."""
    known = np.isfinite(of_classes)
    return np.where(known, of_classes, 0).sum(axis=0) / known.sum(axis=0)


def _average_precision(
    target: np.ndarray, answers: Answers, weight: np.ndarray, blocks: Blocks, drawn: np.ndarray
) -> np.ndarray:
    order = np.argsort(-answers.values, kind="stable")
    scores, weight, of_row = answers.values[order], weight[order], blocks.of_row[order]
    positive = weight * (target[order] == 1)
    # Equal scores are one threshold.
    last = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
    found = np.full(len(drawn), np.nan)
    for place, times in enumerate(drawn):
        of = times[of_row]
        right, all_of = np.cumsum(of * positive)[last], np.cumsum(of * weight)[last]
        precision = np.divide(right, all_of, out=np.zeros_like(right), where=all_of > 0)
        if right[-1] > 0:
            found[place] = np.sum(np.diff(right, prepend=0.0) * precision) / right[-1]
    return found


OF_SUMS: dict[str, Callable[[np.ndarray, Answers, np.ndarray, Blocks, np.ndarray], np.ndarray]] = {
    "r2": _r2,
    "roc_auc": _roc_auc,
    "roc_auc_ovr": _roc_auc_ovr,
    "macro_f1": _macro_f1,
    "average_precision": _average_precision,
}
