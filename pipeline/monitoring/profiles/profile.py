"""The counts of some rows, by column and cell. Two profiles of one layout are added, and the sum is the profile of both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np

from pipeline.monitoring.profiles.layout import ColumnLayout, Layout


@dataclass(frozen=True)
class Profile:
    """`cells` has for each column the counts of its layout's cells, int64 (cells,). A column that the rows did not have is not in it."""

    rows: int
    cells: Mapping[str, np.ndarray]

    def __add__(self, other: Profile) -> Profile:
        """The profile of both. A column that one of them lacks is in none, for its rows are not known."""
        both = [name for name in self.cells if name in other.cells]
        return Profile(self.rows + other.rows, {name: self.cells[name] + other.cells[name] for name in both})

    def rows_of(self, column: ColumnLayout) -> int:
        """All rows, or those of the column's slice; 0 where it was not counted."""
        if column.where is None:
            return self.rows
        return int(self.cells[column.name].sum()) if column.name in self.cells else 0


def empty(layout: Layout) -> Profile:
    """The profile of no rows."""
    return Profile(0, {column.name: np.zeros(column.cells, dtype=np.int64) for column in layout.columns})


def total(profiles: Iterable[Profile], layout: Layout) -> Profile:
    """The sum, in any order; of none it is that of no rows."""
    return reduce(add, profiles, empty(layout))
