"""What can be seen in a table before anything is trained: one class, too few rows to judge by, features that know the answer."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipeline.errors import DataError
from pipeline.init.draft import WORD_GROUPS
from pipeline.init.request import LeftOut, Request
from pipeline.init.roles import Roles
from pipeline.init.windows import FEWEST_HELD_OUT, Windows
from pipeline.serving.schema.texts import encoded
from pipeline.settings.gates import Gates
from pipeline.training.tasks import TASKS

# Rows that are looked at, evenly over time; a feature that alone predicts the target better than this knows it.
LOOKED_AT, TOO_GOOD = 20_000, 0.99
# A tree of this depth finds a rule that one column states.
DEPTH, LEAF = 4, 20
SEED = 0


def refuse_unjudgeable(target: np.ndarray, is_held_out: np.ndarray, task: str, windows: Windows) -> None:
    """Raises DataError when rows to train on, rows to judge by, or a class in either are missing. Arrays: shape (rows,)."""
    parts = {"before": target[~is_held_out], "from": target[is_held_out]}
    for side, values in parts.items():
        which = f"{side} {windows.holdout_start:%Y-%m-%d %H:%M}, {'to train on' if side == 'before' else 'to judge by'}"
        if len(values) < FEWEST_HELD_OUT:
            raise DataError(
                "--holdout-days",
                f"{windows.holdout_days:g} leaves {len(values):,} rows {which}; {FEWEST_HELD_OUT} are the fewest",
                "give another number of days",
            )
        if TASKS[task].estimator == "classifier" and len(np.unique(values)) < 2:
            raise DataError(
                "--holdout-days",
                f"{windows.holdout_days:g} leaves only rows of the class {values[0] if TASKS[task].of_labels else format(values[0], 'g')} {which}",
                "give another number of days, or data with all classes in each part",
            )


def mostly_new(frame: pd.DataFrame, is_held_out: np.ndarray, request: Request, roles: Roles) -> list[LeftOut]:
    """The categories that no flag names and of which most held-out rows have a value that no row before had: nothing is known of it."""
    found = []
    for column in roles.features["categorical"]:
        cells = frame[column]
        new = (cells.notna() & ~cells.isin(cells[~is_held_out].unique()))[is_held_out].mean()
        if new > Gates.model_fields["unknown_share"].default and column not in request.categorical:
            why = f"{new:.0%} of the held-out rows have a value that no row before them had, so nothing can be learnt of it"
            found.append(LeftOut(column, why, "--categorical keeps it, with gates.unknown_share set higher"))
    return found


def leaks(frame: pd.DataFrame, is_held_out: np.ndarray, roles: Roles) -> list[LeftOut]:
    """The features that alone predict the target nearly without a fault on held-out rows; `frame` is in order of time.

    No feature that is known before the label does that; one that is written after it does.
    """
    step = max(1, len(frame) // LOOKED_AT)
    some, held = frame.iloc[::step], is_held_out[::step]
    target = some[roles.target.name].to_numpy()
    found = []
    numeric = roles.features["numeric"]
    texts = roles.features["text"]
    for column in [*numeric, *roles.features["categorical"], *texts]:
        cells = some[column]
        values = _words(cells) if column in texts else _as_numbers(cells, target, held, column in numeric)
        score = _alone(values, target, held, roles.task)
        if score > TOO_GOOD:
            metric = "roc_auc" if TASKS[roles.task].estimator == "classifier" else "r2"
            why = f"it alone predicts {roles.target.name} with {metric} {score:.3f}, so it is probably written after it"
            flag = "numeric" if column in numeric else "text" if column in texts else "categorical"
            found.append(LeftOut(column, why, f"--{flag} keeps it"))
    return found


def _words(cells: pd.Series) -> np.ndarray:
    """Shape (rows, 2 + groups): what a model gets of a free text."""
    given = cells.astype(object).where(cells.notna(), None)
    return np.array([encoded(text, WORD_GROUPS) for text in given], "float64")


def _as_numbers(cells: pd.Series, target: np.ndarray, held: np.ndarray, is_number: bool) -> np.ndarray:
    """Shape (rows, 1), or of a category (rows, classes): the mean of its target, or each class's share, among the rows that are not held
    out. A number becomes its rank, which is the same to a tree, and no number is too large for it then."""
    if is_number:
        numbers = pd.Series(cells.to_numpy(dtype="float64", na_value=np.nan))
        return numbers.rank(method="dense").to_numpy().reshape(-1, 1)
    texts = cells.astype(object).where(cells.notna(), "")
    learnt = target[~held]
    # One class in each column; of two the second says all.
    parts = [learnt == label for label in np.unique(learnt)] if target.dtype == object else [learnt]
    means = [pd.Series(part).groupby(texts[~held].to_numpy()).mean() for part in parts]
    return np.column_stack([texts.map(mean).to_numpy(dtype="float64") for mean in means])


def _alone(values: np.ndarray, target: np.ndarray, held: np.ndarray, task: str) -> float:
    from sklearn.metrics import r2_score, roc_auc_score
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    if TASKS[task].estimator == "classifier":
        if len(np.unique(target[held])) < 2 or len(np.unique(target[~held])) < 2:
            return 0.0
        tree = DecisionTreeClassifier(max_depth=DEPTH, min_samples_leaf=LEAF, random_state=SEED)
        tree.fit(values[~held], target[~held])
        probabilities = tree.predict_proba(values[held])
        if len(tree.classes_) == 2:
            return float(roc_auc_score(target[held], probabilities[:, 1]))
        # What knows the answer knows each class.
        areas = [
            roc_auc_score(target[held] == label, probabilities[:, place])
            for place, label in enumerate(tree.classes_)
            if 0 < (target[held] == label).sum() < held.sum()
        ]
        return float(min(areas, default=0.0))
    tree = DecisionTreeRegressor(max_depth=10, min_samples_leaf=LEAF, random_state=SEED)
    tree.fit(values[~held], target[~held])
    return float(r2_score(target[held], tree.predict(values[held])))
