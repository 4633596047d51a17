"""The rules of a contract over whole matrices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.serving.schema.columns import LARGEST, Column


class Rules:
    """The rules of the columns of a matrix of numbers and of one of texts."""

    def __init__(self, numbers: Sequence[Column], texts: Sequence[Column]) -> None:
        self._required = [i for i, c in enumerate(numbers) if not c.nullable]
        self._integers = [i for i, c in enumerate(numbers) if c.kind == "integer"]
        self._bounded = any(c.min is not None or c.max is not None for c in numbers)
        precision = "float64" if any(c.precision == "float64" for c in numbers) else "float32"
        self._low, self._high = (np.array([limits(c)[end] for c in numbers], precision) for end in (0, 1))
        self._listed = [(i, np.array(c.allowed, c.precision)) for i, c in enumerate(numbers) if c.allowed]
        self._required_texts = [i for i, c in enumerate(texts) if not c.nullable]
        self._listed_texts = [(i, frozenset([*c.allowed, ""])) for i, c in enumerate(texts) if c.allowed]

    def broken(self, matrix: np.ndarray, numbers: np.ndarray, words: np.ndarray) -> bool:
        """Whether a value breaks a rule; whole numbers are judged in `matrix`, float64, all else as the model takes it."""
        if self._required and np.isnan(numbers[:, self._required]).any():
            return True
        if any((np.abs(matrix[:, i] % 1) > 0).any() for i in self._integers):
            return True
        if self._bounded and ((numbers < self._low).any() or (numbers > self._high).any()):
            return True
        if any(not (np.isnan(numbers[:, i]) | np.isin(numbers[:, i], allowed)).all() for i, allowed in self._listed):
            return True
        if any("" in words[:, i].tolist() for i in self._required_texts):
            return True
        return any(not allowed.issuperset(words[:, i].tolist()) for i, allowed in self._listed_texts)


def limits(column: Column) -> tuple[float, float]:
    """The smallest and the largest number that the column takes, as a model gets them."""
    largest = LARGEST[column.precision]
    low, high = (-largest if column.min is None else column.min), (largest if column.max is None else column.max)
    held = np.dtype(column.precision).type
    return float(held(low)), float(held(high))
