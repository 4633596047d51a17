"""A table in Parquet files, one column of which is in memory at a time: to count it takes the memory of a column, not of the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

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
        some = [pd.read_parquet(file, columns=[name]).iloc[:, 0] for file in self.files]
        column = pd.concat(some, ignore_index=True).rename(name)
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


def names_of(file: Path) -> list[str]:
    """The columns as a table read from the file has them: without a pandas index, and with those of its folders' names."""
    import pyarrow.parquet as pq

    schema = pq.ParquetDataset(str(file)).schema
    index = (schema.pandas_metadata or {}).get("index_columns", [])
    return [str(name) for name in schema.names if name not in index]
