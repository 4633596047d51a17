"""What moves a version's predictions, as a whole: the SHAP values of some held-out rows (Lundberg & Lee 2017).

They are those that a slot gives for a single prediction (pipeline.serving.explain), of the package that is served, in the unit of its
answers and by the columns of a request: whatever the estimator, its encodings and its calibration are. The library `shap` takes five
seconds for a model-agnostic picture, and its explainer of trees rescales probabilities instead of explaining them; a test compares.

Where SHAP would take too long, for hundreds of columns, the permutation importances of the evaluation stand in.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from pipeline.serving.explain import FEWEST_BACKGROUND, Explainer
from pipeline.serving.runtime import Runtime
from pipeline.serving.schema import Rows
from pipeline.training.evaluate import Evaluation
from pipeline.training.package import background_rows

SHAP, IMPORTANCE = "SHAP", "permutation importance"
EVALUATIONS = 2048
# As many rows as the first of these that takes at most so many seconds, by the time of one row.
ROWS, MOST_S = (100, 50, 20), 3.0
# To explain a row takes as many cells of the model's input at most, as for 250 columns.
MOST_CELLS = 2_000_000


@dataclass(frozen=True)
class Explanation:
    """`how` is SHAP or permutation importance, and `why` says it in words.

    `importance` has each column, the largest first: with SHAP the mean size of its effects on `rows` predictions, in their unit; else the
    growth of the metric's loss. `points` has each column's effects, each with the place of its value among the rows, from 0 for the smallest
    to 1, None for what has no order. `base` is the mean prediction that effects start from; None for several classes.
    """

    how: str
    why: str
    rows: int
    importance: Mapping[str, float]
    base: float | None = None
    points: Mapping[str, Sequence[Sequence[float | None]]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Explanation:
        """Reads `as_dict` back. Raises KeyError or TypeError for anything else."""
        return cls(**{name: values[name] for name in cls.__dataclass_fields__ if name in values})


def explanation(runtime: Runtime, held_out: pd.DataFrame, evaluation: Evaluation, seed: int) -> Explanation:
    """What moves the predictions of a package for the rows `held_out`, which `evaluate` scored."""
    names = list(runtime.reader.names)
    background = runtime.rows_of_frame(background_rows(held_out))
    width = background.numbers.shape[1] + background.texts.shape[1]
    if max(EVALUATIONS, 2 * len(names) * FEWEST_BACKGROUND) * width > MOST_CELLS:
        become = f" ({width:,} values)" if width > len(names) else ""
        why = f"{len(names)} column{'s' * (len(names) != 1)}{become}, whose SHAP values would take too long"
        return _by_importances(evaluation, runtime, why)
    reader, classes = runtime.reader, runtime.classes
    explainer = Explainer(runtime.predict, reader, lambda: background, classes, EVALUATIONS)
    sampled = held_out.sample(min(ROWS[0], len(held_out)), random_state=seed)
    asked = runtime.rows_of_frame(sampled)
    predictions = runtime.predict(asked)
    begun = time.process_time()
    explainer.explain(_first(asked, 1), predictions[:1])
    spent = time.process_time() - begun
    count = min(len(sampled), next((rows for rows in ROWS if rows * spent <= MOST_S), ROWS[-1]))
    explained = explainer.explain(_first(asked, count), predictions[:count])
    if not np.isfinite(explained.effects).all():
        return _by_importances(evaluation, runtime, "SHAP values that are no numbers")
    sizes = np.abs(explained.effects).mean(axis=0)
    order = np.argsort(-sizes, kind="stable").tolist()
    places = _places(asked, runtime, count)
    return Explanation(
        SHAP,
        f"SHAP values of {count} held-out rows, beside {len(background.numbers)} others"
        + ("; of each row its likeliest class" if classes else ""),
        count,
        {names[i]: float(sizes[i]) for i in order},
        None if classes else float(explained.base[0]),
        {
            names[i]: [[round(e, 6), p] for e, p in zip(explained.effects[:, i].tolist(), places[i], strict=True)]
            for i in order
        },
    )


def _first(rows: Rows, count: int) -> Rows:
    return Rows(rows.numbers[:count], rows.texts[:count], rows.keys[:count], rows.times[:count])


def _places(rows: Rows, runtime: Runtime, count: int) -> list[list[float | None]]:
    """By column, in the order of a request's, the place of each of the first values among them."""
    found: list[list[float | None]] = []
    place = 0
    for column in (column for column in runtime.reader.fields if not column.is_category):
        values = rows.numbers[:count, place].astype("float64")
        place += len(column.matrix)
        ranks = np.searchsorted(np.unique(values[~np.isnan(values)]), values)
        most = ranks[~np.isnan(values)].max(initial=0) or 1
        known = column.kind != "text"
        found.append(
            [round(r / most, 3) if known and v == v else None for r, v in zip(ranks.tolist(), values, strict=True)]
        )
    return found + [[None] * count for _ in runtime.reader.texts]


def _by_importances(evaluation: Evaluation, runtime: Runtime, why: str) -> Explanation:
    found = {
        column.name: max(evaluation.importances.get(name, 0.0) for name in (column.watched or (column.name,)))
        for column in runtime.reader.fields
        if evaluation.importances
    }
    ordered = dict(sorted(found.items(), key=lambda pair: -pair[1]))
    words = f"permutation importance by {evaluation.metric}, because of {why}"
    return Explanation(IMPORTANCE, words, evaluation.rows, ordered)
