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


def groups_of(rows: pd.DataFrame, column: str, least_rows: int = 1) -> list[Group]:
    """The groups of at least so many rows, in the order of their values; rows without a value come last."""
    cells = rows[column]
    if not pd.api.types.is_numeric_dtype(cells):
        cells = cells.astype(object).where(cells.notna() & (cells != ""), None)
        numbers = pd.to_numeric(cells, errors="coerce")
        if cells.nunique() > FEW_TEXTS_OF_NUMBERS and bool((numbers.notna() | cells.isna()).all()):
            return _of_numbers(column, numbers.to_numpy("float64"), least_rows)
        return _of_values(column, cells, least_rows)
    return _of_numbers(column, cells.to_numpy("float64"), least_rows)


def _of_values(column: str, cells: pd.Series, least_rows: int) -> list[Group]:
    codes, values = pd.factorize(cells, sort=True)
    # A category may have thousands of values, and each mask is as long as the rows: those of small groups are not made.
    counts = np.bincount(codes + 1, minlength=len(values) + 1)
    found = [Group(column, str(values[code])[:40], codes == code) for code in np.flatnonzero(counts[1:] >= least_rows)]
    return found + ([Group(column, MISSING, codes == -1)] if counts[0] >= max(least_rows, 1) else [])


def _of_numbers(column: str, numbers: np.ndarray, least_rows: int) -> list[Group]:
    gone = ~np.isfinite(numbers)
    there = numbers[~gone]
    last = [Group(column, MISSING, gone)] if gone.any() else []
    values = np.unique(there)
    if len(values) <= FEW_NUMBERS:
        return _large([Group(column, f"{value:g}", numbers == value) for value in values] + last, least_rows)
    edges = np.unique(np.quantile(there, TENTHS))
    place = np.clip(np.searchsorted(edges, numbers, side="right") - 1, 0, max(len(edges) - 2, 0))
    shown = [f"{low:.4g} to {high:.4g}" for low, high in zip(edges[:-1], edges[1:], strict=True)]
    tenths = [Group(column, name, ~gone & (place == at)) for at, name in enumerate(shown)]
    return _large(tenths + last, least_rows)


def _large(groups: list[Group], least_rows: int) -> list[Group]:
    return [group for group in groups if group.rows.sum() >= max(least_rows, 1)]
