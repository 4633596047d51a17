"""Why a prediction is what it is: by how much each column moved it away from the mean prediction for some rows of the data.

These are Shapley values (Shapley 1953; Štrumbelj & Kononenko 2014): a column's mean effect over all orders in which the row's values can
take the place of another row's. The other rows are the package's `background`, so that no column takes a value that the data never had
(Janzing, Minorics & Blöbaum 2020 call this interventional). With few columns all subsets are computed. With more some orders are drawn,
the same for each request, each with its reverse: that is exact for a model in which columns act alone or by twos (Mitchell et al. 2022).

All that a model gets of a column moves together: a time with its parts and its age, a text with its words. Of classes the probability of
the likeliest one is explained.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import orjson

from pipeline.serving.schema import Reader, Rows

if TYPE_CHECKING:
    from pipeline.serving.runtime import Runtime

# As a default: then effects of a boosting with 16 columns are off by about 1 % of the predictions' spread.
EVALUATIONS = 4096
# The fewest background rows that still say what is usual, where many columns make each of them dear.
FEWEST_BACKGROUND = 16
# Rows in one run of the model: between two runs other requests get their turn.
RUN_ROWS = 512


@dataclass(frozen=True)
class Explanations:
    """Of each row the `base`, float64 (rows,), and each column's effect on the prediction, float64 (rows, columns).

    A row's base and effects add up to its prediction, of classes to that of its likeliest one, which `classes` names.
    """

    columns: Sequence[str]
    base: np.ndarray
    effects: np.ndarray
    classes: Sequence[str] = ()


class Explainer:
    """Explains what `predict` says of rows that `reader` has read; `background` has the rows that they are compared with, in the order of
    their predictions. `evaluations` are the rows that are predicted to explain one, about."""

    def __init__(
        self,
        predict: Callable[[Rows], np.ndarray],
        reader: Reader,
        background: Callable[[], Rows],
        classes: Sequence[str] = (),
        evaluations: int = EVALUATIONS,
    ) -> None:
        self._predict, self._read_background, self._classes = predict, background, tuple(classes)
        self._evaluations = evaluations
        numbers = [field for field in reader.fields if not field.is_category]
        self.columns = list(reader.names)
        # The column of each place in the matrix of numbers, and in that of texts.
        self._of_numbers = np.array([i for i, field in enumerate(numbers) for _ in field.matrix], "int64")
        self._of_texts = np.arange(len(numbers), len(self.columns))

    @classmethod
    def of(cls, runtime: Runtime) -> Explainer | None:
        """The explainer of a package; None where it carries no background rows, so that its model's block does not allow it."""
        if (content := runtime.background) is None:
            return None
        reader = runtime.reader
        # Not at the start: a slot forks before it runs the model.
        return cls(runtime.predict, reader, lambda: reader.of_records(orjson.loads(content)), runtime.classes)

    def explain(self, rows: Rows, predictions: np.ndarray) -> Explanations:
        """Explains the `predictions` for the rows, float64 (rows,) or (rows, classes), which `predict` gave."""
        targets = predictions.argmax(axis=1).tolist() if self._classes else [0] * len(rows)
        base, effects = np.empty(len(rows)), np.empty((len(rows), len(self.columns)))
        for i, target in enumerate(targets):
            usual = self._usual[:, target]
            base[i] = usual.mean()
            answer = float(predictions[i, target] if self._classes else predictions[i])
            effects[i] = self._effects(rows.numbers[i], rows.texts[i], answer, target)
        return Explanations(self.columns, base, effects, [self._classes[target] for target in targets if self._classes])

    @cached_property
    def _background(self) -> Rows:
        rows = self._read_background()
        # Two runs of a model for each column after the first, in an order and its reverse.
        dear = max(1, 2 * (len(self.columns) - 1))
        count = min(len(rows.numbers), max(FEWEST_BACKGROUND, self._evaluations // dear))
        # Spread over all of them.
        places = np.linspace(0, len(rows.numbers) - 1, count).round().astype("int64")
        return Rows(rows.numbers[places], rows.texts[places], (), ())

    @cached_property
    def _usual(self) -> np.ndarray:
        """The predictions for the background, float64 (rows, classes or 1)."""
        return self._values(self._background.numbers, self._background.texts)

    @cached_property
    def _all_subsets(self) -> bool:
        return 2 ** len(self.columns) * len(self._background.numbers) <= self._evaluations

    @cached_property
    def _orders(self) -> np.ndarray:
        """The place of each column in each order, whole numbers (orders, columns). Order i is of background row i modulo their number."""
        rows, columns = len(self._background.numbers), len(self.columns)
        pairs = max(1, self._evaluations // (rows * max(1, 2 * (columns - 1))))
        drawn = np.random.default_rng(0).permuted(np.tile(np.arange(columns), (pairs * rows, 1)), axis=1)
        return np.concatenate([drawn, columns - 1 - drawn])

    def _effects(self, numbers: np.ndarray, texts: np.ndarray, answer: float, target: int) -> np.ndarray:
        """Each column's effect, float64 (columns,): their sum is `answer` less the base."""
        if self._all_subsets:
            return self._of_all_subsets(numbers, texts, answer, target)
        rows, columns = len(self._background.numbers), len(self.columns)
        usual, total = self._usual[:, target], np.zeros(columns)
        some = max(1, RUN_ROWS // (columns - 1))
        for first in range(0, len(self._orders), some):
            orders = self._orders[first : first + some]
            of = np.arange(first, first + len(orders)) % rows
            # After one column has its value of the row, after two, and so on to all but the last.
            taken = orders[:, None, :] < np.arange(1, columns)[None, :, None]
            mixed = self._mixed(numbers, texts, taken.reshape(-1, columns), np.repeat(of, columns - 1), target)
            path = np.column_stack([usual[of], mixed.reshape(len(orders), columns - 1), np.full(len(orders), answer)])
            total += np.take_along_axis(np.diff(path, axis=1), orders, axis=1).sum(axis=0)
        return total / len(self._orders)

    def _of_all_subsets(self, numbers: np.ndarray, texts: np.ndarray, answer: float, target: int) -> np.ndarray:
        rows, columns = len(self._background.numbers), len(self.columns)
        subsets = (np.arange(2**columns)[:, None] >> np.arange(columns) & 1).astype(bool)
        inner = subsets[1:-1]
        mixed = self._mixed(
            numbers, texts, np.repeat(inner, rows, axis=0), np.tile(np.arange(rows), len(inner)), target
        )
        values = np.array([self._usual[:, target].mean(), *mixed.reshape(len(inner), rows).mean(axis=1), answer])
        effects = np.empty(columns)
        for column in range(columns):
            without = np.flatnonzero(~subsets[:, column])
            sizes = subsets[without].sum(axis=1)
            weights = 1 / (columns * np.array([math.comb(columns - 1, size) for size in sizes.tolist()]))
            effects[column] = (weights * (values[without | (1 << column)] - values[without])).sum()
        return effects

    def _mixed(
        self, numbers: np.ndarray, texts: np.ndarray, taken: np.ndarray, of: np.ndarray, target: int
    ) -> np.ndarray:
        """The predictions, float64 (rows,), for background rows `of` with the row's value in the columns `taken`, bool (rows, columns)."""
        return np.concatenate([np.empty(0), *self._runs(numbers, texts, taken, of, target)])

    def _runs(
        self, numbers: np.ndarray, texts: np.ndarray, taken: np.ndarray, of: np.ndarray, target: int
    ) -> Iterator[np.ndarray]:
        background = self._background
        for first in range(0, len(of), RUN_ROWS):
            some, rows = taken[first : first + RUN_ROWS], of[first : first + RUN_ROWS]
            yield self._values(
                np.where(some[:, self._of_numbers], numbers, background.numbers[rows]),
                np.where(some[:, self._of_texts], texts, background.texts[rows]),
            )[:, target]

    def _values(self, numbers: np.ndarray, texts: np.ndarray) -> np.ndarray:
        return self._predict(Rows(numbers, texts, (), ())).reshape(len(numbers), -1)
