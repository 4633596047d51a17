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
    return large_and_small(rows, column, least_rows)[0]


def large_and_small(rows: pd.DataFrame, column: str, least_rows: int) -> tuple[list[Group], list[tuple[str, int]]]:
    """(the groups of `groups_of`, the others by name and number of rows). A column may have a value for each row."""
    cells = rows[column]
    if not pd.api.types.is_numeric_dtype(cells):
        cells = cells.astype(object).where(cells.notna() & (cells != ""), None)
        numbers = pd.to_numeric(cells, errors="coerce")
        if cells.nunique() > FEW_TEXTS_OF_NUMBERS and bool((numbers.notna() | cells.isna()).all()):
            return _of_numbers(column, numbers.to_numpy("float64"), least_rows)
        return _of_values(column, cells, least_rows)
    return _of_numbers(column, cells.to_numpy("float64"), least_rows)


def _of_values(column: str, cells: pd.Series, least_rows: int) -> tuple[list[Group], list[tuple[str, int]]]:
    codes, values = pd.factorize(cells, sort=True)
    # A category may have thousands of values, and each mask is as long as the rows: those of small groups are not made.
    counts = np.bincount(codes + 1, minlength=len(values) + 1)
    large, small = [], []
    for code in [*range(len(values)), -1]:
        name, count = MISSING if code < 0 else str(values[code])[:40], int(counts[code + 1])
        if count >= max(least_rows, 1):
            large.append(Group(column, name, codes == code))
        elif count:
            small.append((f"{column} {name}", count))
    return large, small


def _of_numbers(column: str, numbers: np.ndarray, least_rows: int) -> tuple[list[Group], list[tuple[str, int]]]:
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


def _large(groups: list[Group], least_rows: int) -> tuple[list[Group], list[tuple[str, int]]]:
    counts = [(group, int(group.rows.sum())) for group in groups]
    large = [group for group, count in counts if count >= max(least_rows, 1)]
    return large, [(str(group), count) for group, count in counts if 0 < count < least_rows]
