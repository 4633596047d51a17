"""Does one feature alone nearly tell the target?

A strong feature leaves the others something to add; one that is made of the target, or is known only after it, leaves nothing. So each
feature alone learns from every other block of time of the held-out rows, by a small tree, and is scored on the rest: what stops is not that it carries
most of the model's score, but that it goes nearly all the way to a perfect one.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from pipeline.gates import time_blocks
from pipeline.gates.base import PackagedModel, Table, Verdict
from pipeline.gates.skill import skill
from pipeline.training import frames, weights
from pipeline.training.tasks import TASKS, Answers

# Of more rows some are taken, evenly.
MOST_ROWS = 10_000
FEWEST_ROWS = 40
LEAF_ROWS, LEAVES = 5, 1024
SHOWN = 10
# Where params.yaml states none: yesterday's value tells much of a number, and is no leak.
LIMIT, LIMIT_OF_NUMBERS = 0.97, 0.99


def verdict(packaged: PackagedModel) -> Verdict | None:
    """None for fewer than FEWEST_ROWS. The observed figure is the best feature's own way from a guess to a perfect score."""
    sanity, held_out = packaged.model.gates.sanity, packaged.held_out
    if len(held_out) < FEWEST_ROWS:
        return None
    alone = {name: reached for name, reached in alone_scores(packaged) if reached == reached}
    whole = skill(held_out[packaged.model.training.target].to_numpy(), Answers.of(held_out, packaged.package.classes))
    ranked = sorted(alone.items(), key=lambda item: item[1], reverse=True)
    judged = [(name, reached) for name, reached in ranked if name not in sanity.known_before]
    if not judged:
        return None
    name, most = judged[0]
    of_numbers = TASKS[packaged.model.training.task].output == "number"
    limit = sanity.one_feature or (LIMIT_OF_NUMBERS if of_numbers else LIMIT)
    leaky = [each for each, reached in judged if reached > limit]
    reason = f"{name} alone goes {most:.3f} of the way from a guess to a perfect score, all features {whole:.3f}, at most {limit:g} alone"
    if leaky:
        reason = (
            f"{', '.join(leaky)}: {reason} (gates.sanity.one_feature): is it known before the target is? If it is, name it in "
            "gates.sanity.known_before, else take it out of training"
        )
    table = Table(("feature", "alone"), tuple(ranked[:SHOWN]))
    return Verdict("leakage", not leaky, most, limit, reason, table=table)


def alone_scores(packaged: PackagedModel) -> Iterator[tuple[str, float]]:
    """(a feature, how far it goes alone) of each feature; of the numbers that a time or a text becomes the best one's."""
    model, held_out = packaged.model, packaged.held_out
    rows = held_out.iloc[:: -(-len(held_out) // MOST_ROWS)].reset_index(drop=True)
    # Without groups of words: one word says little, and there may be thousands of groups.
    plain = model.model_copy(update={"training": model.training.model_copy(update={"words": 0})})
    numbers = frames.numbers_of(rows, plain)
    target, weight = rows[model.training.target].to_numpy(), weights.of(rows, model.training, "evaluate")
    learns = time_blocks.of_times(rows[model.source.event_time], time_blocks.MANY).of_row % 2 == 0
    for column in frames.columns_of(plain.training):
        if column.is_category:
            cells = rows[column.name].astype(object).where(rows[column.name].notna(), "")
            yield column.name, _alone(cells, target, weight, learns)
        else:
            yield (
                column.name,
                max((_alone(numbers[name], target, weight, learns) for name in column.matrix), default=np.nan),
            )


def _alone(cells: pd.Series, target: np.ndarray, weight: np.ndarray | None, learns: np.ndarray) -> float:
    """The skill of this column alone on the rows that it did not learn from; `learns` is a mask of rows."""
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    of_classes = target.dtype == object
    of_labels = of_classes or bool(np.isin(target, (0, 1)).all())
    if len(set(target[learns].tolist())) < 2:
        return float("nan")
    if cells.dtype == object:
        numbers = _by_category(cells, target, learns, of_classes)
    else:
        numbers = cells.to_numpy("float64")[:, None]
    if not (numbers[learns] != numbers[learns][0]).any():
        return 0.0
    kind = DecisionTreeClassifier if of_labels else DecisionTreeRegressor
    tree = kind(min_samples_leaf=LEAF_ROWS, max_leaf_nodes=LEAVES, random_state=0)
    # A tree goes by the order alone, and scikit-learn's holds float32.
    ordered = pd.DataFrame(numbers).rank(method="dense").to_numpy("float64")
    tree.fit(ordered[learns], target[learns].astype(str) if of_classes else target[learns])
    asked = numbers[~learns]
    if of_classes:
        answers = Answers(tree.predict_proba(ordered[~learns]), tuple(map(str, tree.classes_)))
    else:
        answers = Answers(tree.predict_proba(ordered[~learns])[:, 1] if of_labels else tree.predict(ordered[~learns]))
    scored, counted = target[~learns], None if weight is None else weight[~learns]
    reached = [0.0, skill(scored, answers, counted)]
    if not of_labels and numbers.shape[1] == 1:
        reached.append(skill(scored, _between(numbers[learns, 0], target[learns], asked[:, 0]), counted))
    return max(reached)


def _between(learnt: np.ndarray, target: np.ndarray, asked: np.ndarray) -> Answers:
    """Numbers between those of the nearest rows that were learnt: a tree has steps, which a target with far tails does not forgive."""
    known, place = np.unique(learnt[np.isfinite(learnt)], return_inverse=True)
    of_known = target[np.isfinite(learnt)]
    if not len(known):
        return Answers(np.full(len(asked), np.median(target)))
    means = np.bincount(place, of_known) / np.bincount(place)
    return Answers(np.where(np.isfinite(asked), np.interp(asked, known, means), np.median(target)))


def _by_category(cells: pd.Series, target: np.ndarray, learns: np.ndarray, of_classes: bool) -> np.ndarray:
    """A category as numbers, (rows, columns): the mean of its target among the rows that learn; of classes the share of each."""
    columns = [target == label for label in sorted(set(target.tolist()))[:50]] if of_classes else [target]
    known = cells[learns]
    numbers = []
    for values in columns:
        means = pd.Series(values[learns].astype("float64"), index=known.index).groupby(known).mean()
        numbers.append(cells.map(means).fillna(float(values[learns].mean())).to_numpy("float64"))
    return np.column_stack(numbers)
