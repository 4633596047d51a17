"""Which differences of two numbers are counted as a column of their own: of those that go together, as a temperature and its dew point.

Such a difference varies far less than either column, so it shows what the seasons of each hide: two that were swapped, or one of them in
another unit. Each column has at most the one partner that it goes with best, so there are fewer differences than columns. Columns
of unlike scale need none: to swap them is seen in each.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

# The standard deviation of a difference, as a share of the smaller one of its columns.
NARROW = 0.75
# So many values say which columns go together: 20,000 rows of 30 columns, and fewer of a wider table, to take little memory.
VALUES = 600_000
FEWEST_ROWS = 100


def every(rows: int, columns: int) -> int:
    """One row in so many is looked at."""
    return max(1, -(-rows * columns // VALUES))


def near(columns: Mapping[str, np.ndarray], taken: Collection[str]) -> dict[str, tuple[str, str]]:
    """The two columns of each difference by its name, which is none of `taken`; `columns` have (rows,) float64 each."""
    names = list(columns)
    if len(names) < 2:
        return {}
    share = _narrowness(np.column_stack(list(columns.values())))
    found: dict[str, tuple[str, str]] = {}
    for row in range(len(names)):
        partner = int(np.argmin(share[row]))
        first, second = sorted((row, partner))
        called = f"{names[first]} minus {names[second]}"
        if share[row, partner] <= NARROW and called not in taken:
            found[called] = names[first], names[second]
    return found


def _narrowness(values: np.ndarray) -> np.ndarray:
    """The deviation of each difference by the smaller one of its columns, (columns, columns), over the rows (rows, columns) that have
    both; infinite where nothing is to be told, as of a column with itself."""
    there = np.isfinite(values).astype(float)
    rows = there.T @ there
    finite = np.where(there, values, 0.0)
    with np.errstate(all="ignore"):
        # Numbers near the largest of all have no square.
        centred = (finite - finite.sum(axis=0) / there.sum(axis=0)) * there
        sums, squares = centred.T @ there, (centred**2).T @ there
        variance = squares / rows - (sums / rows) ** 2
        together = centred.T @ centred / rows - sums * sums.T / rows**2
        of_difference = np.maximum(variance + variance.T - 2 * together, 0.0)
        share = np.sqrt(of_difference / np.minimum(variance, variance.T))
    np.fill_diagonal(share, np.inf)
    usable = (rows >= FEWEST_ROWS) & (variance > 0) & (variance.T > 0) & np.isfinite(share)
    return np.where(usable, share, np.inf)
