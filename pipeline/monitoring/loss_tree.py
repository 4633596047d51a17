"""A small regression tree that says how large a model's loss is on rows like this one, kept as plain numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

LEAVES, DEPTH = 32, 6
# A leaf's mean rests on this share of the rows at least, and on so many.
SHARE_OF_A_LEAF, FEWEST_OF_A_LEAF = 0.02, 20
# Of a category its most frequent values have a mean loss of their own, all others that of all rows.
TOP = 50
LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class LossTree:
    """Node i sends a row left where its number `feature[i]` is at most `threshold[i]`, or is missing and `missing_left[i]`; a leaf's
    `left[i]` is -1 and its mean loss `value[i]`. The numbers are the features `numbers`, the mean losses of the categories in
    `mean_losses` (`usual` for values that it lacks), and the prediction."""

    numbers: tuple[str, ...]
    mean_losses: Mapping[str, Mapping[str, float]]
    usual: float
    left: tuple[int, ...]
    right: tuple[int, ...]
    feature: tuple[int, ...]
    threshold: tuple[float, ...]
    missing_left: tuple[bool, ...]
    value: tuple[float, ...]

    @classmethod
    def grown(cls, features: pd.DataFrame, predictions: np.ndarray, losses: np.ndarray, seed: int) -> LossTree:
        """`features` are as a model takes them: numbers, and categories as texts; `losses` float64 (rows,)."""
        import pandas as pd
        from sklearn.tree import DecisionTreeRegressor

        numbers = tuple(name for name in features.columns if pd.api.types.is_numeric_dtype(features[name]))
        means: dict[str, dict[str, float]] = {}
        for name in features.columns:
            if name not in numbers:
                of_value = pd.Series(losses).groupby(features[name].to_numpy(object)).agg(["size", "mean"])
                means[name] = of_value.nlargest(TOP, "size")["mean"].to_dict()
        usual = float(losses.mean())
        leaf = max(FEWEST_OF_A_LEAF, int(len(losses) * SHARE_OF_A_LEAF))
        grown = DecisionTreeRegressor(max_leaf_nodes=LEAVES, max_depth=DEPTH, min_samples_leaf=leaf, random_state=seed)
        tree = grown.fit(_matrix(features, predictions, numbers, means, usual), losses).tree_
        return cls(
            numbers,
            means,
            usual,
            tuple(tree.children_left.tolist()),
            tuple(tree.children_right.tolist()),
            tuple(tree.feature.tolist()),
            tuple(tree.threshold.tolist()),
            tuple(bool(left) for left in tree.missing_go_to_left),
            tuple(tree.value[:, 0, 0].tolist()),
        )

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> LossTree:
        known: dict[str, Any] = {n: tuple(value) if isinstance(value, list) else value for n, value in values.items()}
        return cls(**known)

    def losses(self, rows: pd.DataFrame, predictions: np.ndarray) -> np.ndarray:
        """The loss that each row is likely to have, float64 (rows,)."""
        matrix = _matrix(rows, predictions, self.numbers, self.mean_losses, self.usual)
        left, right, feature = np.array(self.left), np.array(self.right), np.array(self.feature)
        threshold, missing_left = np.array(self.threshold), np.array(self.missing_left)
        node, every = np.zeros(len(rows), dtype=np.int64), np.arange(len(rows))
        for _ in range(DEPTH):
            cell = matrix[every, np.maximum(feature[node], 0)]
            goes_left = np.where(np.isnan(cell), missing_left[node], cell <= threshold[node])
            node = np.where(left[node] < 0, node, np.where(goes_left, left[node], right[node]))
        return np.array(self.value)[node]


def _matrix(
    rows: pd.DataFrame,
    predictions: np.ndarray,
    numbers: tuple[str, ...],
    means: Mapping[str, Mapping[str, float]],
    usual: float,
) -> np.ndarray:
    """float32, as scikit-learn's trees compare."""
    columns = [rows[name].to_numpy("float64", na_value=np.nan) for name in numbers]
    columns += [
        rows[name].fillna("").map(of_value).fillna(usual).to_numpy("float64") for name, of_value in means.items()
    ]
    return np.clip(np.column_stack([*columns, predictions]), -LARGEST, LARGEST).astype(np.float32)
