"""Reads the cells of one column of a request. How is decided once for each column, when a model is loaded, and not for each cell.

Most cells are spelt as a model takes them and are taken as they are, all at once. Each other spelling is read once, by `Column.read`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import tzinfo
from typing import Any, TypeVar

import numpy as np

from pipeline.serving.schema import spelling, texts, times
from pipeline.serving.schema.columns import Column
from pipeline.serving.schema.spelling import Unreadable

T = TypeVar("T")
Cells = Sequence[Any]
# Reads a cell into its places in the matrix of numbers; or all cells, float64 (rows,) or (places, rows). Both raise Unreadable.
ReadNumbers = Callable[[Any], tuple[float, ...]]
ReadColumn = Callable[[Cells], np.ndarray]
NONE = type(None)
NUMBERS: frozenset[type] = frozenset({float, int, NONE})
TEXTS: frozenset[type] = frozenset({str, NONE})
# By kind, the types of the cells that are their own value; None is a missing one.
AS_THEY_ARE: dict[str, frozenset[type]] = {"number": NUMBERS, "integer": NUMBERS, "boolean": frozenset({bool, NONE})}


def number_reader(column: Column, zone: tzinfo) -> ReadNumbers:
    """Reads one cell of a column that a model gets as numbers."""
    match column.kind:
        case "boolean":
            return lambda cell: (float(cell),) if type(cell) is bool else column.numbers(spelling.truth(cell))
        case "datetime":
            if column.parts:
                return lambda cell: column.numbers(times.days(cell, zone), zone)
            return lambda cell: (math.nan if (days := times.days(cell, zone)) is None else days,)
        case "text":
            return lambda cell: texts.encoded(spelling.free_text(cell), column.groups)
    return lambda cell: column.numbers(column.read(cell))


def numbers_reader(column: Column, zone: tzinfo, strict: bool) -> ReadColumn:
    """Reads all cells of a column that a model gets as numbers; with `strict` those only that are taken as they are."""
    as_they_are, read = AS_THEY_ARE.get(column.kind, frozenset()), number_reader(column, zone)

    def read_column(cells: Cells) -> np.ndarray:
        types = set(map(type, cells))
        if types <= as_they_are:
            if NONE in types:
                cells = [math.nan if cell is None else cell for cell in cells]
            return np.fromiter(cells, "float64", len(cells))
        if strict:
            raise Unreadable("must be a number")
        return np.array(read_once(read, cells)).reshape(len(cells), len(column.matrix)).T

    return read_column


class CategoryReader:
    """Reads all cells of a column of categories."""

    def __init__(self, column: Column, strict: bool) -> None:
        self._column, self._strict = column, strict
        self._learnt = None if column.learnt is None else column.learnt | {""}
        # What needs no reading, but for the empty text in place of None. Without a list of it that is each text, if its spelling is its own.
        self._known = None if self._learnt is None else self._learnt | {None}
        self._any_text = self._learnt is None and column.spelling == "text"

    def __call__(self, cells: Cells) -> tuple[Sequence[str], Sequence[int]]:
        """(the text of each cell, "" for a missing one; the rows whose category no training saw). Raises Unreadable."""
        try:
            if self._learnt is not None and self._learnt.issuperset(cells):
                return cells, ()
            known = self._known is not None and self._known.issuperset(cells)
        except TypeError:
            raise Unreadable("must be text") from None
        types = set(map(type, cells))
        if known or (self._any_text and types <= TEXTS):
            return ["" if cell is None else cell for cell in cells], ()
        if self._strict and not types <= TEXTS:
            raise Unreadable("must be text")
        read = read_once(self.read, cells)
        learnt = self._learnt
        return read, [] if learnt is None else [row for row, text in enumerate(read) if text not in learnt]

    def read(self, cell: Any) -> str:
        """The text of one cell, "" for a missing one. Raises Unreadable."""
        return spelling.category(cell, self._column.spelling) or ""


def read_once(read: Callable[[Any], T], cells: Cells) -> list[T]:
    """What `read` gives for each cell, each different one read once. Raises Unreadable for one that is no single value."""
    # By type too: 1, 1.0 and True are equal, and not the same text.
    spelt = list(zip(map(type, cells), cells, strict=True))
    try:
        different = set(spelt)
    except TypeError:
        raise Unreadable("must be one value") from None
    known = {one: read(one[1]) for one in different}
    return [known[one] for one in spelt]
