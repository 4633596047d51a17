"""XGBoost and LightGBM: what is theirs alone in saving and serving. Both are installed by `make boosters`."""

from __future__ import annotations

import re
import sys
from typing import Any

import numpy as np

# The types of their models in a skops file: they read their own model's bytes or text, and unpickle nothing. The serving image does not
# have them, so a slot serves such a model from ONNX only.
TRUSTED = [
    *("xgboost.core.Booster", "xgboost.sklearn.XGBClassifier", "xgboost.sklearn.XGBRegressor"),
    *("lightgbm.basic.Booster", "lightgbm.sklearn.LGBMClassifier", "lightgbm.sklearn.LGBMRegressor"),
    *("collections.OrderedDict", "collections.defaultdict"),
]
DEFAULT_LEFT, MISSING_IS_NAN, MISSING_TYPE = 2, 8, 12


def is_booster(estimator: Any) -> bool:
    """Whether the fitted estimator is of XGBoost or LightGBM, which need not be installed."""
    return type(estimator).__module__.partition(".")[0] in ("xgboost", "lightgbm")


def is_xgboost(estimator: Any) -> bool:
    return type(estimator).__module__.startswith("xgboost.")


def requirement(estimator: Any) -> str:
    """The library of a booster, for pip."""
    library = type(estimator).__module__.partition(".")[0]
    return f"{library}=={sys.modules[library].__version__}"


def with_own_model_only(estimator: Any) -> Any:
    """The same model without what the process or the machine adds to it, such as its number of threads."""
    if is_xgboost(estimator):
        from xgboost import Booster

        content = estimator.get_booster().save_raw("ubj")
        estimator._Booster = Booster(params={"nthread": 1}, model_file=content)
    return estimator


def with_plain_splits(estimator: Any, single: bool) -> Any:
    """A fitted LightGBM model whose text says of each split what ONNX can hold too.

    With `single`, a split is the next float32 below it: no float32 value lies between. A split of a column that had no missing
    value in training takes a missing one for 0; the text then names the side that 0 is on, which is the same answer.
    """
    from lightgbm import Booster

    text = estimator.booster_.model_to_string()
    trees, end, rest = text.partition("\nend of trees")
    blocks = re.split(r"(?=^Tree=\d+$)", trees, flags=re.MULTILINE)
    # The sizes of the trees' texts, which change; LightGBM reads a model without them.
    blocks[0] = re.sub(r"^tree_sizes=.*\n", "", blocks[0], flags=re.MULTILINE)
    rewritten = blocks[0] + "".join(_with_plain_splits(block, single) for block in blocks[1:])
    estimator._Booster = Booster(model_str=f"{rewritten}{end}{rest}")
    return estimator


def _with_plain_splits(tree: str, single: bool) -> str:
    lines = {line.partition("=")[0]: line.partition("=")[2] for line in tree.splitlines()}
    if not lines.get("threshold"):
        return tree
    splits = np.array(lines["threshold"].split(), "float64")
    kinds = np.array(lines["decision_type"].split(), "int64")
    without_missing = (kinds & MISSING_TYPE) == 0
    zero_side = MISSING_IS_NAN + np.where(splits >= 0, DEFAULT_LEFT, 0)
    kinds = np.where(without_missing, (kinds & ~(MISSING_TYPE | DEFAULT_LEFT)) | zero_side, kinds)
    if single:
        splits = below_in_float32(splits)
    written = {"threshold": " ".join(f"{s:.17g}" for s in splits), "decision_type": " ".join(map(str, kinds))}
    for name, values in written.items():
        tree = re.sub(rf"^{name}=.*$", f"{name}={values}", tree, flags=re.MULTILINE)
    return tree


def below_in_float32(splits: np.ndarray) -> np.ndarray:
    """Each split at the next float32 that is not above it."""
    near = splits.astype("float32")
    return np.where(near > splits, np.nextafter(near, np.float32(-np.inf)), near)
