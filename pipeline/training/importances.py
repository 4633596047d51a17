"""How much a version needs each of its features: by how much its metric gets worse when the feature's values are dealt anew to the rows.

It says what the version uses, and not what causes the target: of two features that say the same, each seems to matter little.
Source: Breiman 2001, Random Forests, section 10, in the form of Fisher, Rudin & Dominici 2019, All Models are Wrong, but Many are Useful.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from pipeline.serving.schema import Column
from pipeline.training.tasks import Answers

MOST_ROWS = 2000
REPEATS = 3
# Rows that are predicted in all, whatever the number of features.
BUDGET = 600_000
# A pipeline takes longer to begin than for a thousand rows, so several features' rows are predicted at once: so many rows, or cells.
AT_ONCE_ROWS, AT_ONCE_CELLS = 100_000, 10_000_000


def importances(
    features: pd.DataFrame,
    columns: tuple[Column, ...],
    predict: Callable[[pd.DataFrame], Answers],
    loss: Callable[[Answers, np.ndarray], float],
    seed: int,
) -> dict[str, float]:
    """By the name that drift has for a feature, of `columns`: the growth of `loss`, at least 0. Empty when a loss is no number.

    `features` are held-out rows as the model takes them, and `loss(answers, places)` is of their rows at `places`. Of many rows some are
    taken, at random by `seed`, and each feature is dealt to them REPEATS times; all numbers of a time or a text move together.
    """
    random = np.random.default_rng(seed)
    rows = min(len(features), MOST_ROWS, max(1, BUDGET // (REPEATS * max(len(columns), 1))))
    places = np.sort(random.choice(len(features), rows, replace=False))
    taken = features.iloc[places].reset_index(drop=True)
    usual = loss(predict(taken), places)
    repeated, each = np.tile(places, REPEATS), rows * REPEATS
    at_once = max(1, min(AT_ONCE_ROWS, AT_ONCE_CELLS // max(features.shape[1], 1)) // each)
    grown: dict[str, float] = {}
    for first in range(0, len(columns), at_once):
        some = columns[first : first + at_once]
        dealt = [_dealt(taken, column, random.permutation(rows)) for column in some for _ in range(REPEATS)]
        answers = predict(pd.concat(dealt, ignore_index=True))
        for place, column in enumerate(some):
            own = Answers(answers.values[place * each : (place + 1) * each], answers.classes)
            grown |= dict.fromkeys(column.watched or (column.name,), max(0.0, loss(own, repeated) - usual))
    return grown if np.isfinite([usual, *grown.values()]).all() else {}


def _dealt(rows: pd.DataFrame, column: Column, order: np.ndarray) -> pd.DataFrame:
    names = [column.name] if column.is_category else list(column.matrix)
    other: Mapping[str, pd.Series] = {name: rows[name].iloc[order].set_axis(rows.index) for name in names}
    return rows.assign(**other)
