"""A table in Parquet files, one column of which is in memory at a time: to count it takes the memory of a column, not of the table."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

# What pandas calls an index that has no name.
UNNAMED = re.compile(r"__index_level_\d+__")
Change = Callable[[pd.Series], pd.Series]


@dataclass(frozen=True)
class FileColumns:
    """Reads like a table: `columns`, the length, a column by its name, and some of the rows. The files have the same columns. `changes` are made of
    a column whenever it is read; `taken` are the rows that count, bool (rows,), or all."""

    files: Sequence[Path]
    changes: Mapping[str, Change] = field(default_factory=dict)
    taken: np.ndarray | None = None

    @cached_property
    def columns(self) -> list[str]:
        return names_of(self.files[0])

    @cached_property
    def _rows(self) -> int:
        import pyarrow.parquet as pq

        return sum(pq.read_metadata(file).num_rows for file in self.files) if self.taken is None else self.taken.sum()

    def __len__(self) -> int:
        return int(self._rows)

    @property
    def empty(self) -> bool:
        return not len(self)

    def __getitem__(self, name: str) -> pd.Series:
        column = pd.concat([part_of(file, [name])[name] for file in self.files], ignore_index=True)
        if name in self.changes:
            column = self.changes[name](column)
        return column if self.taken is None else column[self.taken]

    def rows_of(self, taken: np.ndarray) -> FileColumns:
        """Only these rows, bool (rows,)."""
        return replace(self, taken=taken)

    def changed(self, changes: Mapping[str, Change]) -> FileColumns:
        return replace(self, changes={**self.changes, **changes})

    def some(self, columns: Sequence[str], rows: int) -> pd.DataFrame:
        """At most so many rows in memory, each as far from the next."""
        places = np.arange(len(self)) if len(self) <= rows else np.arange(rows) * len(self) // rows
        return pd.DataFrame({name: self[name].iloc[places] for name in columns}).reset_index(drop=True)


def changed(table: pd.DataFrame | FileColumns, changes: Mapping[str, Change]) -> pd.DataFrame | FileColumns:
    """The table with these changes, after those that it has."""
    if isinstance(table, FileColumns):
        return table.changed({c: _after(table.changes.get(c), change) for c, change in changes.items()})
    return table.assign(**{c: change(table[c]) for c, change in changes.items()})


def _after(first: Change | None, change: Change) -> Change:
    return (lambda column: change(first(column))) if first else change


def names_of(file: Path) -> list[str]:
    """The columns of the file; of a pandas index those that have a name, as in a CSV."""
    import pyarrow.parquet as pq

    return [str(name) for name in pq.ParquetDataset(str(file)).schema.names if not UNNAMED.fullmatch(str(name))]


def part_of(file: Path, columns: Sequence[str]) -> pd.DataFrame:
    """These columns of the file, those of a pandas index too."""
    part = pd.read_parquet(file, columns=list(columns))
    names = {*columns}
    if not names <= {str(name) for name in part.columns}:
        part = part.reset_index()
    # pandas gives numbers, and those of several levels, back as what they were.
    return part.set_axis([str(name) for name in part.columns], axis=1)
