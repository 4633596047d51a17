"""Which slices a reference has: the largest of those that the columns of `monitor.slices` form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from pipeline.monitoring.profiles.layout import ColumnLayout, Layout
from pipeline.monitoring.profiles.profile import Profile
from pipeline.monitoring.profiles.slices import Slice

# Of so many slices and features there are columns at most, so that a daily look takes a second and an hourly one some: the smallest slices give way.
MOST_COLUMNS = 300
# Of a column without frequent values there are so many slices at most.
MOST_A_COLUMN = 16


def with_slices(layout: Layout, whole: Profile, by: Sequence[str]) -> Layout:
    """The layout with a column for each feature in each slice that the columns `by` form; `whole` counts the reference's rows in it."""
    own = [column for column in layout.columns if not column.of and column.where is None]
    named = {column.name: column for column in own}
    found: list[tuple[int, Slice]] = []
    for name in by:
        if name in named and name in whole.cells:
            found += sorted(_slices(named[name], whole.cells[name]), key=_largest)[:MOST_A_COLUMN]
    kept = {of for _, of in sorted(found, key=_largest)[: max(1, MOST_COLUMNS // max(len(own) - 1, 1))]}
    sliced = (of_slice(column, of) for _, of in found if of in kept for column in own if column.name != of.column)
    return replace(layout, columns=(*layout.columns, *sliced))


def of_slice(column: ColumnLayout, where: Slice) -> ColumnLayout:
    """The column of a feature's values in the rows of the slice."""
    return replace(column, name=f"{column.name} where {where}", base=column.name, where=where)


def _largest(counted: tuple[int, Slice]) -> tuple[int, str]:
    return -counted[0], str(counted[1])


def _slices(column: ColumnLayout, cells: np.ndarray) -> Iterator[tuple[int, Slice]]:
    """(rows, slice) of each bucket that has some."""
    if column.kind == "category":
        for value, rows in zip(column.top, cells.tolist(), strict=False):
            # A value with a line break, or the like, is nothing that a page or a query can name.
            if value.isprintable():
                yield rows, Slice(column.name, value)
        return
    for bucket in range(1, len(column.edges)):
        if rows := int(cells[bucket]):
            yield rows, Slice(column.name, None, column.edges[bucket - 1], column.edges[bucket])
