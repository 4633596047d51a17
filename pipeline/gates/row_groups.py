"""The groups that a column forms of rows: its values, or the tenths of a column of many numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

TENTHS = np.linspace(0, 1, 11)
# A column of numbers with more different ones is cut into tenths.
FEW_NUMBERS, FEW_TEXTS_OF_NUMBERS = 10, 20
MISSING = "missing"


@dataclass(frozen=True)
class Group:
    """`rows` is a mask, bool (rows,)."""

    column: str
    value: str
    rows: np.ndarray

    def __str__(self) -> str:
        return f"{self.column} {self.value}"


def groups_of(rows: pd.DataFrame, column: str) -> list[Group]:
    """The groups in the order of their values; rows without a value come last."""
    cells = rows[column]
    if not pd.api.types.is_numeric_dtype(cells):
        cells = cells.astype(object).where(cells.notna() & (cells != ""), None)
        numbers = pd.to_numeric(cells, errors="coerce")
        if cells.nunique() > FEW_TEXTS_OF_NUMBERS and bool((numbers.notna() | cells.isna()).all()):
            return _of_numbers(column, numbers.to_numpy("float64"))
        return _of_values(column, cells)
    return _of_numbers(column, cells.to_numpy("float64"))


def _of_values(column: str, cells: pd.Series) -> list[Group]:
    codes, values = pd.factorize(cells, sort=True)
    found = [Group(column, str(value)[:40], codes == code) for code, value in enumerate(values)]
    return found + ([Group(column, MISSING, codes == -1)] if (codes == -1).any() else [])


def _of_numbers(column: str, numbers: np.ndarray) -> list[Group]:
    gone = ~np.isfinite(numbers)
    there = numbers[~gone]
    last = [Group(column, MISSING, gone)] if gone.any() else []
    values = np.unique(there)
    if len(values) <= FEW_NUMBERS:
        return [Group(column, f"{value:g}", numbers == value) for value in values] + last
    edges = np.unique(np.quantile(there, TENTHS))
    place = np.clip(np.searchsorted(edges, numbers, side="right") - 1, 0, max(len(edges) - 2, 0))
    shown = [f"{low:.4g} to {high:.4g}" for low, high in zip(edges[:-1], edges[1:], strict=True)]
    tenths = [Group(column, name, ~gone & (place == at)) for at, name in enumerate(shown)]
    return [group for group in tenths if group.rows.any()] + last
