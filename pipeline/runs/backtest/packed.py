"""A fitted pipeline as a file that is read soon: all boosted trees of an estimator are three arrays together, in place of three each.

skops reads and audits an array in a fifth of a millisecond, which is most of what a backtest of boosted models takes for one more window.
The trees are the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.training import skops_file

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator

# What a tree of scikit-learn's histogram boosting is: its nodes, and the categories that go left, by their bins and by their numbers.
PARTS = ("nodes", "binned_left_cat_bitsets", "raw_left_cat_bitsets")


def save(fitted: BaseEstimator, file: Path) -> None:
    """Raises StageError as `skops_file.save` does."""
    with _packed(fitted):
        skops_file.save(fitted, file)


def load(file: Path) -> BaseEstimator:
    """What `save` wrote."""
    from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor

    loaded = skops_file.load(file)
    for boosted in _boosted(loaded, set()):
        held = boosted._predictors
        ends = np.cumsum(held["sizes"], axis=0)
        trees = [
            TreePredictor(*(held[part][end - size : end].copy() for part, size, end in zip(PARTS, *of, strict=True)))
            for of in zip(held["sizes"], ends, strict=True)
        ]
        boosted._predictors = [trees[i : i + held["at_once"]] for i in range(0, len(trees), held["at_once"])]
    return loaded


@contextmanager
def _packed(fitted: BaseEstimator) -> Iterator[None]:
    """In the block its boosted trees are together."""
    found = [(boosted, boosted._predictors) for boosted in _boosted(fitted, set())]
    try:
        for boosted, grown in found:
            trees = [tree for trees in grown for tree in trees]
            boosted._predictors = {
                **{part: np.concatenate([getattr(tree, part) for tree in trees]) for part in PARTS},
                "sizes": np.array([[len(getattr(tree, part)) for part in PARTS] for tree in trees]),
                "at_once": len(grown[0]),
            }
        yield
    finally:
        for boosted, grown in found:
            boosted._predictors = grown


def _boosted(part: Any, seen: set[int]) -> Iterator[Any]:
    """The fitted estimators of histogram boosting in a fitted one, such as the folds of a calibrated one, which also has one that is not fitted.
    All that is seen by its id lives as long as the whole: another object may get the id of one that is gone."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    if id(part) in seen:
        return
    seen.add(id(part))
    if isinstance(part, HistGradientBoostingClassifier | HistGradientBoostingRegressor):
        if hasattr(part, "_predictors"):
            yield part
        return
    inner: Iterable[Any] = ()
    if isinstance(part, list | tuple):
        inner = part
    elif isinstance(part, dict):
        inner = part.values()
    elif type(part).__module__.startswith("sklearn.") and hasattr(part, "__dict__"):
        inner = vars(part).values()
    for each in inner:
        yield from _boosted(each, seen)
