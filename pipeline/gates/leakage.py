"""Does one feature alone nearly tell the target?

A strong feature leaves the others something to add; one that is made of the target, or is known only after it, leaves nothing. So each
feature alone learns from every other block of time of the held-out rows, by a small tree, and is scored on the rest: what stops is not that it carries
most of the model's score, but that it goes nearly all the way to a perfect one. Of several classes a feature may nearly tell one from all others, as a date of closing does
that only what was closed has; but one column tells some classes honestly, so that warns, unless the limit is stated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipeline.gates import time_blocks
from pipeline.gates.base import PackagedModel, Table, Verdict
from pipeline.gates.skill import of_order, skill
from pipeline.settings.gates import Mode
from pipeline.settings.models import Model
from pipeline.training import frames, weights
from pipeline.training.tasks import TASKS, Answers

# Of more rows some are taken, evenly.
MOST_ROWS = 10_000
FEWEST_ROWS = 40
LEAF_ROWS, LEAVES = 5, 1024
SHOWN = 10
# Of a text's groups of words so many are asked, together: those whose counts go with the target most.
WORDS = 20
# A class of fewer scored rows is told from the others by chance.
FEWEST_OF_CLASS, MOST_CLASSES, MOST_LABELS = 20, 20, 50
# Where params.yaml states none: yesterday's value tells much of a number, and is no leak.
LIMIT, LIMIT_OF_NUMBERS = 0.97, 0.99
ASKS = "(gates.sanity.one_feature): is it known before the target is? If it is, name it in gates.sanity.known_before, else take it out of training"


@dataclass(frozen=True)
class Alone:
    """How far one feature goes alone; of several classes also the one that it tells best from all others, and how far it goes there."""

    reached: float
    label: str = ""
    of_label: float = 0.0


def verdict(packaged: PackagedModel) -> Verdict | None:
    """None for fewer than FEWEST_ROWS. The observed figure is the best feature's own way from a guess to a perfect score."""
    sanity, held_out = packaged.model.gates.sanity, packaged.held_out
    if len(held_out) < FEWEST_ROWS:
        return None
    alone = [(name, found) for name, found in alone_scores(packaged) if found.reached == found.reached]
    whole = skill(held_out[packaged.model.training.target].to_numpy(), Answers.of(held_out, packaged.package.classes))
    ranked = sorted(alone, key=lambda item: (item[1].reached, item[1].of_label), reverse=True)
    judged = [(name, found) for name, found in ranked if name not in sanity.known_before]
    if not judged:
        return None
    name, most = judged[0]
    of_numbers = TASKS[packaged.model.training.task].output == "number"
    limit = sanity.one_feature or (LIMIT_OF_NUMBERS if of_numbers else LIMIT)
    leaky = [each for each, found in judged if found.reached > limit]
    reason = f"{name} alone goes {most.reached:.3f} of the way from a guess to a perfect score, all features {whole:.3f}, at most {limit:g} alone"
    if leaky:
        reason = f"{', '.join(leaky)}: {reason} {ASKS}"
        return Verdict("leakage", False, most.reached, limit, reason, table=_table(ranked))
    by_label = [(each, found) for each, found in judged if found.of_label > limit]
    if not by_label:
        return Verdict("leakage", True, most.reached, limit, reason, table=_table(ranked))
    told = "; ".join(f"{each} alone tells {found.label} from all other classes" for each, found in by_label[:SHOWN])
    worst = max(found.of_label for _, found in by_label)
    reason = f"{told}: {worst:.3f} of the way to a perfect order, at most {limit:g} {ASKS}"
    mode: Mode = "warn" if sanity.one_feature is None else "on"
    return Verdict("leakage", False, worst, limit, reason, mode=mode, table=_table(ranked))


def _table(ranked: Sequence[tuple[str, Alone]]) -> Table:
    if not any(found.label for _, found in ranked):
        return Table(("feature", "alone"), tuple((name, found.reached) for name, found in ranked[:SHOWN]))
    rows = [(name, found.reached, found.label or None, found.of_label) for name, found in ranked[:SHOWN]]
    return Table(("feature", "alone", "class it tells best", "that class"), tuple(rows))


def alone_scores(packaged: PackagedModel) -> Iterator[tuple[str, Alone]]:
    """(a feature, how far it goes alone) of each feature; of the numbers that a time or a text becomes the best one's."""
    model, held_out = packaged.model, packaged.held_out
    rows = held_out.iloc[:: -(-len(held_out) // MOST_ROWS)].reset_index(drop=True)
    # Groups of words are asked together: there may be thousands, and one says little.
    plain = model.model_copy(update={"training": model.training.model_copy(update={"words": 0})})
    numbers = frames.numbers_of(rows, plain)
    target, weight = rows[model.training.target].to_numpy(), weights.of(rows, model.training, "evaluate")
    learns = time_blocks.of_times(rows[model.source.event_time], time_blocks.MANY).of_row % 2 == 0
    for column in frames.columns_of(plain.training):
        if column.is_category:
            cells = rows[column.name].astype(object).where(rows[column.name].notna(), "")
            yield column.name, _alone(_by_category(cells, target, learns), target, weight, learns)
            continue
        asked = [numbers[[name]].to_numpy("float64") for name in column.matrix]
        if column.kind == "text" and model.training.words:
            asked.append(_most_telling(_word_counts(rows, column.name, model), target, learns))
        yield column.name, _best([_alone(each, target, weight, learns) for each in asked])


def _word_counts(rows: pd.DataFrame, text: str, model: Model) -> np.ndarray:
    """How often each text has a word of each group, float (rows, groups)."""
    alone = {"numeric": (), "datetime": (), "text": (text,), "categorical": ()}
    counted = frames.numbers_of(rows, model.model_copy(update={"training": model.training.model_copy(update=alone)}))
    return np.nan_to_num(counted.to_numpy()[:, -model.training.words :])


def _most_telling(counts: np.ndarray, target: np.ndarray, learns: np.ndarray) -> np.ndarray:
    """Those WORDS of the groups whose counts, in the rows that learn, go with the target most: float64 (rows, at most WORDS)."""
    known = counts[learns].astype("float64")
    apart, spread = known - known.mean(axis=0), known.std(axis=0)
    told = np.zeros(counts.shape[1])
    for values in _as_numbers(target):
        of = values[learns].astype("float64")
        told = np.maximum(told, np.abs((of - of.mean()) @ apart) / (of.std() or 1.0))
    told = np.divide(told, spread, out=np.zeros_like(told), where=spread > 0)
    return counts[:, np.sort(np.argsort(-told, kind="stable")[:WORDS])].astype("float64")


def _best(found: Sequence[Alone]) -> Alone:
    """What the best of the numbers that one column becomes reaches."""
    reached = max((each.reached for each in found), default=float("nan"))
    told = max(found, key=lambda each: each.of_label, default=Alone(reached))
    return Alone(reached, told.label, told.of_label)


def _alone(numbers: np.ndarray, target: np.ndarray, weight: np.ndarray | None, learns: np.ndarray) -> Alone:
    """The skill of these numbers of one column, (rows, numbers), on the rows that it did not learn from; `learns` is a mask of rows."""
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    of_classes = target.dtype == object
    of_labels = of_classes or bool(np.isin(target, (0, 1)).all())
    if len(set(target[learns].tolist())) < 2:
        return Alone(float("nan"))
    if not (numbers[learns] != numbers[learns][0]).any():
        return Alone(0.0)
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
    if of_classes:
        return Alone(max(0.0, skill(scored, answers, counted)), *_told_apart(scored, answers, counted))
    reached = [0.0, skill(scored, answers, counted)]
    if of_labels and numbers.shape[1] == 1 and np.isfinite(numbers).all():
        # Of a rare label few rows were learnt, and the tree's cut is then beside one or the other of the rest; a number's own order has no cut.
        way = of_order(target[learns], numbers[learns, 0], np.ones(int(learns.sum())))
        reached.append(skill(scored, Answers(np.sign(way) * asked[:, 0]), counted))
    if not of_labels and numbers.shape[1] == 1:
        reached.append(skill(scored, _between(numbers[learns, 0], target[learns], asked[:, 0]), counted))
    return Alone(max(reached))


def _told_apart(target: np.ndarray, answers: Answers, weight: np.ndarray | None) -> tuple[str, float]:
    """(the class whose probability orders rows best, of the commonest ones; 2 AUC - 1 of it beside all others)."""
    labels, rows = np.unique(target.astype(str), return_counts=True)
    common = [str(label) for label, count in zip(labels, rows, strict=True) if count >= FEWEST_OF_CLASS]
    common = sorted(common, key=lambda label: -int((target == label).sum()))[:MOST_CLASSES]
    counted = np.ones(len(target)) if weight is None else weight
    found = [
        (of_order((target == label).astype("float64"), answers.values[:, place], counted), label)
        for place, label in enumerate(answers.classes)
        if label in common
    ]
    most, label = max(((reached, label) for reached, label in found if reached == reached), default=(0.0, ""))
    return label, most


def _between(learnt: np.ndarray, target: np.ndarray, asked: np.ndarray) -> Answers:
    """Numbers between those of the nearest rows that were learnt: a tree has steps, which a target with far tails does not forgive."""
    known, place = np.unique(learnt[np.isfinite(learnt)], return_inverse=True)
    of_known = target[np.isfinite(learnt)]
    if not len(known):
        return Answers(np.full(len(asked), np.median(target)))
    means = np.bincount(place, of_known) / np.bincount(place)
    return Answers(np.where(np.isfinite(asked), np.interp(asked, known, means), np.median(target)))


def _by_category(cells: pd.Series, target: np.ndarray, learns: np.ndarray) -> np.ndarray:
    """A category as numbers, (rows, columns): the mean of its target among the rows that learn; of classes the share of each."""
    known = cells[learns]
    numbers = []
    for values in _as_numbers(target):
        of = values[learns].astype("float64")
        means = pd.Series(of, index=known.index).groupby(known).mean()
        numbers.append(cells.map(means).fillna(float(of.mean())).to_numpy("float64"))
    return np.column_stack(numbers)


def _as_numbers(target: np.ndarray) -> list[np.ndarray]:
    """The target as one column of numbers; of classes whether it is each of the first ones."""
    return (
        [target == label for label in sorted(set(target.tolist()))[:MOST_LABELS]]
        if target.dtype == object
        else [target]
    )
