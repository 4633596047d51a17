"""Which buckets the values of a column are counted in. The reference fixes them once, so that all its profiles can be added.

A number's buckets lie between the reference's own deciles, with one below its least value and one above its largest; one of at most `FEW_VALUES` values has a bucket for each value and one for
each gap. A category has a bucket for each frequent value, and one for the rest, so that none is so small that chance fills it. Four
more cells of each column count what is no such value: missing, minus and plus infinity, and categories that were never learnt.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd

from pipeline.monitoring.profiles import differences, slices
from pipeline.monitoring.profiles.file_columns import FileColumns
from pipeline.monitoring.profiles.slices import Slice

Table: TypeAlias = pd.DataFrame | FileColumns

# Of the buckets' rule and the profiles' form. Profiles of another version are made anew from the reference's rows.
VERSION = 1
BUCKETS = 10
FEW_VALUES = 10
# A category with a bucket of its own has at least this share of the reference's rows; at most TOP have one.
TOP = 30
TOP_SHARE = 0.005
# The cells after the buckets.
SPECIAL = ("missing", "minus_infinity", "plus_infinity", "unknown")


@dataclass(frozen=True)
class ColumnLayout:
    """A number's bucket i holds the values in (edges[i - 1], edges[i]], and `points` has a value that stands for each bucket; `scale` is
    the reference's standard deviation. A category's bucket i is of top[i], the last one of all others that were learnt.
    Of a difference (see pipeline.monitoring.profiles.differences) `of` has the two columns; of a feature in a slice `where` has the slice, and
    `base` the feature."""

    name: str
    kind: Literal["number", "category"]
    edges: tuple[float, ...] = ()
    points: tuple[float, ...] = ()
    scale: float = 1.0
    top: tuple[str, ...] = ()
    of: tuple[str, ...] = ()
    base: str = ""
    where: Slice | None = None

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> ColumnLayout:
        # A layout from before differences, or before slices, has none.
        sequences: dict[str, Any] = {name: tuple(values.get(name, ())) for name in ("edges", "points", "top", "of")}
        of_slice = values.get("base", ""), slices.read(values.get("where"))
        return cls(values["name"], values["kind"], scale=values["scale"], **sequences).in_slice(*of_slice)

    def in_slice(self, base: str, where: Slice | None) -> ColumnLayout:
        return replace(self, base=base, where=where)

    @property
    def feature(self) -> str:
        """The column whose values are counted."""
        return self.base or self.name

    @property
    def needs(self) -> frozenset[str]:
        """The columns that rows must have to be counted."""
        return frozenset([*(self.of or (self.feature,)), *([self.where.column] if self.where else [])])

    @property
    def buckets(self) -> int:
        return 1 + (len(self.edges) if self.kind == "number" else len(self.top))

    @property
    def cells(self) -> int:
        return self.buckets + len(SPECIAL)

    def special(self, cell: str) -> int:
        """The index of one of SPECIAL."""
        return self.buckets + SPECIAL.index(cell)

    def bucket_name(self, bucket: int) -> str:
        if self.kind == "category":
            return self.top[bucket] if bucket < len(self.top) else "all others"
        if not self.edges:
            return "all values"
        if bucket == 0:
            return f"up to {self.edges[0]:g}"
        if bucket == len(self.edges):
            return f"over {self.edges[-1]:g}"
        return f"{self.edges[bucket - 1]:g} to {self.edges[bucket]:g}"


@dataclass(frozen=True)
class Layout:
    """The cells of each column, in which profiles count: two profiles can be compared and added where their layouts are
    equal."""

    columns: tuple[ColumnLayout, ...]

    def as_dict(self) -> dict[str, Any]:
        return {"version": VERSION, "columns": [asdict(column) for column in self.columns]}

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Layout:
        return cls(tuple(ColumnLayout.read(column) for column in values["columns"]))

    def write(self, file: Path) -> None:
        file.write_text(json.dumps(self.as_dict(), separators=(",", ":")) + "\n", encoding="utf-8")

    @classmethod
    def of_file(cls, file: Path) -> Layout:
        """What `write` wrote."""
        return cls.read(json.loads(file.read_text(encoding="utf-8")))

    def only(self, names: Sequence[str]) -> Layout:
        """The layout of these columns, of their differences and their slices. One that it does not have is there by its name, and no profile will
        have it."""
        own = {column.name: column for column in self.columns if not column.of and column.where is None}
        made = (column for column in self.columns if column.of and {*column.of} <= {*names} or column.base in names)
        return Layout((*(own.get(name) or ColumnLayout(name, "number") for name in names), *made))

    def sliced_by(self, names: Collection[str]) -> Layout:
        """The layout without the slices of other columns than these."""
        return Layout(tuple(column for column in self.columns if column.where is None or column.where.column in names))


def layout_of(rows: Table, numeric: Sequence[str], categorical: Sequence[str]) -> Layout:
    """The layout that the rows of a reference fix."""
    every = differences.every(len(rows), len(numeric))
    near = differences.near({name: as_float(rows[name].iloc[::every]) for name in numeric}, {*numeric, *categorical})
    return Layout(
        (
            *(_number(name, as_float(rows[name])) for name in numeric),
            *(_category(name, rows[name]) for name in categorical),
            *(_number(name, difference(rows, of), of) for name, of in near.items()),
        )
    )


def as_float(column: pd.Series) -> np.ndarray:
    """Whatever a table in memory holds numbers as, float64 (rows,); NaN for a missing one and for what is no number."""
    return pd.to_numeric(column, errors="coerce").to_numpy(dtype="float64", na_value=np.nan)


def difference(rows: Table, of: tuple[str, ...]) -> np.ndarray:
    """The first column of `of` minus the second, float64 (rows,)."""
    first, second = (as_float(rows[name]) for name in of)
    with np.errstate(invalid="ignore", over="ignore"):
        return first - second


def _number(name: str, values: np.ndarray, of: tuple[str, ...] = ()) -> ColumnLayout:
    values = np.sort(values[np.isfinite(values)])
    if not len(values):
        return ColumnLayout(name, "number", points=(0.0,), of=of)
    with np.errstate(over="ignore"):
        # Numbers near the largest of all have no square.
        scale = float(values.std()) or 1.0
    different = np.unique(values)
    if len(different) <= FEW_VALUES:
        # Each value alone between two edges: what is a little less or more than it is counted in the gap.
        below = np.nextafter(different, -np.inf)
        edges = np.column_stack([below, different]).ravel()
        gaps = [different[0], *((different[:-1] + different[1:]) / 2), different[-1]]
        points = [point for gap, value in zip(gaps, [*different, None], strict=True) for point in (gap, value)][:-1]
    else:
        ranks = np.arange(1, BUCKETS) * len(values) // BUCKETS
        # The outer two are of values that the reference never had.
        edges = np.unique([np.nextafter(values[0], -np.inf), *values[ranks], values[-1]])
        # The values are sorted, so that each bucket's are neighbours.
        ends = np.searchsorted(values, edges, side="right")
        inner = [float(np.median(values[begin:end])) for begin, end in pairwise(ends)]
        points = [float(values[0]), *inner, float(values[-1])]
    return ColumnLayout(name, "number", _floats(edges), _floats(points), scale, of=of)


def _floats(values: Any) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _category(name: str, column: pd.Series) -> ColumnLayout:
    counts = column.dropna().astype(str).value_counts()
    frequent = counts[counts >= max(2, TOP_SHARE * counts.sum())]
    # By count, then by name: the same rows give the same layout.
    ordered = sorted(((-int(count), str(value)) for value, count in frequent.items()))[:TOP]
    return ColumnLayout(name, "category", top=tuple(value for _, value in ordered))
