"""Reads a few rows in plain Python.

numpy takes a microsecond or two to begin anything, and all of a row is read in five. So few rows are read cell by cell, as long as they
keep the contract. Any other is for the reader's whole matrices, which also say what is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import tzinfo
from operator import contains, le
from typing import Any

import numpy as np

from pipeline.serving.schema import spelling
from pipeline.serving.schema.ages import Ages
from pipeline.serving.schema.blocks import held, positive_zeros
from pipeline.serving.schema.cells import NONE, NUMBERS, TEXTS, number_reader
from pipeline.serving.schema.columns import Column
from pipeline.serving.schema.rules import limits
from pipeline.serving.schema.spelling import Unreadable

# More rows are read faster as whole matrices.
FEW_ROWS = 8
Numbers = Sequence[float | None]


class FewRows:
    """Reads rows that have the cells of the columns `numbers`, then those of `texts`, the categories."""

    def __init__(self, numbers: Sequence[Column], texts: Sequence[Column], zone: tzinfo, strict: bool) -> None:
        self._numbers = (_PlainNumbers if all(map(_is_plain, numbers)) else _Numbers)(numbers, zone, strict)
        self._categories = _Categories(texts, strict)
        self._columns, self._texts = len(numbers), len(texts)
        self._doubles = np.array([c.precision == "float64" for c in numbers for _ in c.matrix], bool)
        self._single = not self._doubles.any()
        self._ages = Ages(numbers)

    def read(
        self, rows: Sequence[Sequence[Any]], asked: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """The rows' numbers and texts as `Rows` has them; None when one breaks a rule, or has a category that no training saw. Ages are
        counted to `asked`, the event times in days, float64 (rows,)."""
        columns = self._columns
        try:
            numbers = [self._numbers.of_row(row[:columns]) for row in rows]
            texts = [self._categories.of_row(row[columns:]) for row in rows]
        except (_NotUsual, Unreadable, TypeError, OverflowError):
            return None
        matrix = np.array(numbers, "float64").reshape(len(rows), len(self._doubles))
        self._ages.fill(matrix, asked)
        words = np.empty((len(rows), self._texts), object)
        words[:] = texts
        # None is too large for a float32.
        return positive_zeros(matrix).astype("float32") if self._single else held(matrix, self._doubles), words


class _NotUsual(Exception):
    """A row is not for this reader."""


def _is_plain(column: Column) -> bool:
    return column.kind in ("number", "integer")


class _PlainNumbers:
    """The cells of columns that are all numbers."""

    def __init__(self, columns: Sequence[Column], _zone: tzinfo, strict: bool) -> None:
        self._columns, self._strict = columns, strict
        self._low, self._high = [limits(c)[0] for c in columns], [limits(c)[1] for c in columns]
        self._required = [i for i, c in enumerate(columns) if not c.nullable]
        self._whole = [i for i, c in enumerate(columns) if c.kind == "integer"]
        self._listed = [(i, frozenset([*c.allowed, None])) for i, c in enumerate(columns) if c.allowed]

    def of_row(self, cells: Sequence[Any]) -> Numbers:
        """The numbers of a row's cells, None for a missing one. Raises _NotUsual or Unreadable."""
        types = set(map(type, cells))
        if not types <= NUMBERS:
            if self._strict:
                raise _NotUsual
            cells = [
                cell if type(cell) in NUMBERS else column.read(cell)
                for column, cell in zip(self._columns, cells, strict=True)
            ]
            types = set(map(type, cells))
        if NONE in types:
            within = all(v is None or a <= v <= b for a, v, b in zip(self._low, cells, self._high, strict=True))
        else:
            within = all(map(le, self._low, cells)) and all(map(le, cells, self._high))
        if not within:
            raise _NotUsual
        for i in self._required:
            if cells[i] is None:
                raise _NotUsual
        for i in self._whole:
            # What is no whole number has a remainder.
            if cells[i] and cells[i] % 1:
                raise _NotUsual
        for i, allowed in self._listed:
            if cells[i] not in allowed:
                raise _NotUsual
        return cells


class _Numbers:
    """The cells of columns of which some are numbers, and others what a model gets as numbers."""

    def __init__(self, columns: Sequence[Column], zone: tzinfo, strict: bool) -> None:
        places = [len(column.matrix) for column in columns]
        first = [sum(places[:i]) for i in range(len(columns))]
        self._plain = [i for i, column in enumerate(columns) if _is_plain(column)]
        self._plain_places = [first[i] for i in self._plain]
        self._of_plain = _PlainNumbers([columns[i] for i in self._plain], zone, strict)
        self._unread: list[float | None] = [None] * sum(places)
        # Each with its place among the cells, and its places in the matrix.
        self._others = [
            (
                i,
                slice(first[i], first[i] + places[i]),
                number_reader(column, zone),
                column if _has_rules(column) else None,
            )
            for i, column in enumerate(columns)
            if not _is_plain(column)
        ]

    def of_row(self, cells: Sequence[Any]) -> Numbers:
        """As `_PlainNumbers.of_row`."""
        numbers = self._unread.copy()
        plain = self._of_plain.of_row([cells[i] for i in self._plain])
        for place, number in zip(self._plain_places, plain, strict=True):
            numbers[place] = number
        for i, places, read, ruled in self._others:
            parts = read(cells[i])
            # Where one of its numbers is missing, all are, but for an age, which is not known yet.
            if ruled and ruled.breach(None if parts[0] != parts[0] else parts[0]):
                raise _NotUsual
            numbers[places] = parts
        return numbers


def _has_rules(column: Column) -> bool:
    return not column.nullable or bool(column.allowed) or column.min is not None or column.max is not None


class _Categories:
    """The cells of columns of categories."""

    def __init__(self, columns: Sequence[Column], strict: bool) -> None:
        self._columns, self._strict = columns, strict
        # By column what needs no reading; an empty set where nobody knows.
        self._usual = [usual_texts(column) for column in columns]

    def of_row(self, cells: Sequence[Any]) -> Sequence[str]:
        """The texts of a row's cells, "" for a missing one. Raises _NotUsual or Unreadable."""
        if not all(map(contains, self._usual, cells)):
            cells = [
                cell if cell in usual else self._read(column, usual, cell)
                for column, usual, cell in zip(self._columns, self._usual, cells, strict=True)
            ]
        return ["" if cell is None else cell for cell in cells] if None in cells else cells

    def _read(self, column: Column, usual: frozenset[str | None], cell: Any) -> str:
        if self._strict and type(cell) not in TEXTS:
            raise _NotUsual
        text = spelling.category(cell, column.spelling) or ""
        anything = column.learnt is None and not column.allowed
        if not (text in usual or (anything and text)):
            raise _NotUsual
        return text


def usual_texts(column: Column) -> frozenset[str | None]:
    """The texts that a column of categories is known to take as they are; None and "" where a value may be missing."""
    known = frozenset(column.allowed) if column.learnt is None else column.learnt
    if column.learnt is not None and column.allowed:
        known &= frozenset(column.allowed)
    return (known | {"", None}) if column.nullable else known - {""}
