"""How much a version needs each of its features: by how much its metric gets worse when the feature's values are dealt anew to the rows.

It says what the version uses, and not what causes the target: of two features that say the same, each seems to matter little.
Source: Breiman 2001, Random Forests, section 10, in the form of Fisher, Rudin & Dominici 2019, All Models are Wrong, but Many are Useful.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from pipeline.serving.schema import Column

MOST_ROWS = 2000
REPEATS = 3
# Rows that are predicted in all, whatever the number of features.
BUDGET = 600_000


def importances(
    features: pd.DataFrame,
    columns: tuple[Column, ...],
    loss: Callable[[pd.DataFrame, np.ndarray], float],
    seed: int,
) -> dict[str, float]:
    """By the name that drift has for a feature, of `columns`: the mean growth of `loss`, at least 0. Empty when a loss is no number.

    `features` are held-out rows as the model takes them, and `loss(frame, places)` is of their rows at `places`, whose features are in
    `frame`. Of many rows some are taken, at random by `seed`; all numbers of a time or a text move together.
    """
    random = np.random.default_rng(seed)
    rows = min(len(features), MOST_ROWS, max(1, BUDGET // (REPEATS * max(len(columns), 1))))
    places = np.sort(random.choice(len(features), rows, replace=False))
    taken = features.iloc[places].reset_index(drop=True)
    usual = loss(taken, places)
    grown: dict[str, float] = {}
    for column in columns:
        names = [column.name] if column.is_category else list(column.matrix)
        losses = [loss(_dealt(taken, names, random.permutation(rows)), places) for _ in range(REPEATS)]
        mean = max(0.0, float(np.mean(losses)) - usual)
        grown |= dict.fromkeys(column.watched or (column.name,), mean)
    return grown if np.isfinite([usual, *grown.values()]).all() else {}


def _dealt(rows: pd.DataFrame, names: list[str], order: np.ndarray) -> pd.DataFrame:
    other: Mapping[str, pd.Series] = {name: rows[name].iloc[order].set_axis(rows.index) for name in names}
    return rows.assign(**other)
