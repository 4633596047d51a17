"""What guesses that need no model answer to the held-out rows: constants that evaluation took from the rows that were learnt from, and the
last value.

The last value of a row is the target that became known last before it, by `source.label_time`. It is a strong guess where the target is a
time series, and a poor one elsewhere. Rows from before any held-out label get the last one that was learnt from. Without
`source.label_time` nobody knows which values were known at a row's time: there is no last value then.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.gates.base import PackagedModel
from pipeline.training.tasks import Answers

LAST = "last value"


def naive_guesses(packaged: PackagedModel) -> dict[str, Answers]:
    """From a guess's name to its answers; {} for an evaluation of before guesses were recorded."""
    naive, rows = dict(packaged.evaluation.naive), packaged.held_out
    classes = packaged.package.classes
    first = naive.pop(LAST, None)
    found = {name: Answers(_repeated(value, len(rows)), classes) for name, value in naive.items()}
    if first is not None and len(rows) and packaged.model.source.label_time in rows.columns:
        found[LAST] = _of_labels(_last_values(packaged, first), classes)
    return found


def _repeated(value: Any, rows: int) -> np.ndarray:
    return np.tile(np.asarray(value, "float64"), (rows, 1) if isinstance(value, list) else rows)


def _last_values(packaged: PackagedModel, first: Any) -> np.ndarray:
    """The last value of each held-out row, in the target's own type; `first` for rows before any label was known."""
    source, target, rows = packaged.model.source, packaged.model.training.target, packaged.held_out
    moments, known_by = (rows[time].to_numpy("datetime64[us]") for time in (source.event_time, source.label_time))
    # By the time it was known; of those known at once the newest row comes last.
    order = np.lexsort((moments, known_by))
    targets = rows[target].to_numpy()
    values = np.concatenate([np.array([first], targets.dtype), targets[order]])
    # A label known at the very moment of the row is not known before it.
    return values[np.searchsorted(known_by[order], moments, "left")]


def _of_labels(values: np.ndarray, classes: tuple[str, ...]) -> Answers:
    """Numbers as they are; a label as the class that is certain, and one that was never learnt as none."""
    if not classes:
        return Answers(values.astype("float64"))
    return Answers((values[:, None] == np.array(classes, object)[None, :]).astype("float64"), classes)
