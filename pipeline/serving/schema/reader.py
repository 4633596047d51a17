"""Reads the rows of a request into a model's input.

Most requests are spelt as a model takes them and keep the contract, so whole columns are checked at once. Any other is read cell by cell,
and what breaks the contract is found value by value, to name the row and the column.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from itertools import chain
from operator import itemgetter
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from pipeline.serving.errors import BadRequest, PackageRefused
from pipeline.serving.schema import spelling, times
from pipeline.serving.schema.blocks import RowRefused, held, number_block, values_of
from pipeline.serving.schema.columns import LARGEST, Column, Schema
from pipeline.serving.schema.spelling import Unreadable, shown

NONE = type(None)
NUMBERS, TEXTS = frozenset({float, int, NONE}), frozenset({str})


@dataclass(slots=True)
class Rows:
    """Rows as a model takes them. `numbers` is (rows, schema.numbers) in the schema's precision, `texts` object (rows, schema.texts).

    A missing number is NaN, a missing text "", a missing key or time None. `unknown` has, by row, the columns whose category no
    training saw, `breaches` the rules that a row breaks where the slot only flags them; both in words, without the other rows.
    """

    numbers: np.ndarray
    texts: np.ndarray
    keys: Sequence[str | None]
    times: Sequence[str | None]
    unknown: Mapping[int, Sequence[str]] = field(default_factory=dict)
    breaches: Mapping[int, Sequence[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.keys)


class Reader:
    """Reads cells by one model's schema. `names` are a request's columns: categories come last, all else is in the schema's order.

    Rows that break a rule are refused; with `flag` they are read, and `breaches` names the rules. A cell that is no value of its column
    is refused always.
    """

    def __init__(self, schema: Schema, on_breach: Literal["refuse", "flag"] = "refuse") -> None:
        self.schema, self._flag = schema, on_breach == "flag"
        self.fields = list(schema.columns)
        self.key, self.event_time = schema.key, schema.event_time
        try:
            self._zone: tzinfo = UTC if schema.timezone == "UTC" else ZoneInfo(schema.timezone)
        except ZoneInfoNotFoundError:
            raise PackageRefused(f"package: no data of the time zone {schema.timezone}; install tzdata") from None
        self.numbers, self.texts, self.names = schema.numbers, schema.texts, schema.names
        self._known = frozenset([*self.names, self.key, self.event_time]) - {"", None}
        # How many columns a request can have.
        self.columns = len(self._known)
        self._number_columns = [column for column in self.fields if not column.is_category]
        self._text_columns = [column for column in self.fields if column.is_category]
        # The column of each place in the matrix of numbers.
        self._places = [column for column in self._number_columns for _ in column.matrix]
        self._picked = [column.name for column in self._number_columns]
        self._pick_numbers, self._pick_texts = _picker(self._picked), _picker(self.texts)
        # The columns whose numbers are taken as they are.
        self.plain_numbers = [c.name for c in self._number_columns if c.kind in ("number", "integer")]
        self._all_plain = self.plain_numbers == self.numbers
        # The places in the matrix of numbers that float32 cannot hold, by name and by place.
        self.doubles = frozenset(schema.doubles)
        self._double_places = np.array([name in self.doubles for name in self.numbers], bool)
        # All others are read cell by cell: (its place among the picked, its first place in the matrix, the column).
        self._pick_plain = _picker([i for i, name in enumerate(self._picked) if name in self.plain_numbers])
        self._plain_places = [i for i, name in enumerate(self.numbers) if name in self.plain_numbers]
        self._others = [
            (i, self.numbers.index(column.matrix[0]), column)
            for i, column in enumerate(self._number_columns)
            if column.name not in self.plain_numbers
        ]
        # Texts that need no reading: canonical, and learnt or missing. None where a text is taken as it is.
        self._learnt = [None if c.learnt is None else c.learnt | {""} for c in self._text_columns]
        self._spelt = any(learnt is not None for learnt in self._learnt) or any(
            column.spelling != "text" for column in self._text_columns
        )
        self._rules = _Rules(self._places, self._text_columns)

    def of_records(self, records: Sequence[Any]) -> Rows:
        """Rows from objects with a value for each column. Raises BadRequest."""
        known, features = self._known, len(self.fields)
        try:
            for record in records:
                # All features are picked below: a record with as many values has no others.
                if len(record) != features and not record.keys() <= known:
                    raise KeyError
            numbers = list(map(self._pick_numbers, records))
            texts = list(map(self._pick_texts, records))
            keys = [record.get(self.key) for record in records]
            moments = [record.get(self.event_time) for record in records]
        except (KeyError, AttributeError, TypeError):
            raise BadRequest(self._record_fault(records)) from None
        return self._rows(numbers, texts, keys, moments)

    def of_table(self, names: Sequence[str], rows: Sequence[Sequence[Any]]) -> Rows:
        """Rows from sequences of values, in the order of `names`. Raises BadRequest."""
        self._refuse_columns(names)
        place = {name: i for i, name in enumerate(names)}
        numbers = list(map(_picker([place[n] for n in self._picked]), rows))
        texts = list(map(_picker([place[n] for n in self.texts]), rows))
        keys, moments = (
            [row[place[name]] for row in rows] if name in place else [None] * len(rows)
            for name in (self.key, self.event_time)
        )
        return self._rows(numbers, texts, keys, moments)

    def of_columns(self, columns: Mapping[str, Sequence[Any]]) -> Rows:
        """Rows from columns that all have the same length. Raises BadRequest."""
        self._refuse_columns(list(columns))
        rows = len(next(iter(columns.values())))
        missing = [None] * rows
        keys, moments = (list(columns.get(name, missing)) for name in (self.key, self.event_time))
        number_types: set[type] = set().union(*(map(type, columns[name]) for name in self._picked))
        text_types: set[type] = set().union(*(map(type, columns[name]) for name in self.texts))
        matrix, words = np.empty((rows, len(self.numbers))), np.empty((rows, len(self.texts)), object)
        if self._all_plain and number_types <= NUMBERS and text_types <= TEXTS | {NONE}:
            try:
                for i, name in enumerate(self.numbers):
                    matrix[:, i] = np.array(columns[name], "float64")
                for i, name in enumerate(self.texts):
                    column = columns[name]
                    words[:, i] = column if NONE not in text_types else ["" if v is None else v for v in column]
            except OverflowError:
                pass
            else:
                if (read := self._checked(matrix, words, keys, moments)) is not None:
                    return read
        # Reads row by row: in another spelling, or to name the row in the refusal.
        return self.of_table(list(columns), list(zip(*columns.values(), strict=True)))

    def of_arrays(self, columns: Mapping[str, np.ndarray]) -> Rows:
        """Rows from many: float64 arrays of plain numbers, or of days for a datetime, NaN where one is missing; datetime64 arrays of
        times without a zone; and arrays of one object a cell.

        Raises RowRefused.
        """
        rows = len(next(iter(columns.values())))
        matrix, words = np.empty((rows, len(self.numbers))), np.empty((rows, len(self.texts)), object)
        place = 0
        for column in self._number_columns:
            end = place + len(column.matrix)
            matrix[:, place:end] = number_block(column, columns[column.name], self._zone)
            place = end
        for i, column in enumerate(self._text_columns):
            cells = columns[column.name]
            if self.schema.strict:
                _refuse_other_kinds(column, cells)
            words[:, i] = ["" if value is None else value for value in values_of(column, cells, self._zone)]
        read = self._checked(matrix, words, [None] * rows, [None] * rows)
        if read is None:
            raise self._rule_fault(matrix, words)
        return read

    def _refuse_columns(self, names: Sequence[str]) -> None:
        if missing := [n for n in self.names if n not in names]:
            raise BadRequest(f"row 0: column {missing[0]} is missing")
        if unknown := [n for n in names if n not in self._known]:
            raise BadRequest(f"row 0: column {unknown[0]} is unknown to the model")
        if len(set(names)) < len(names):
            twice = next(n for n in names if list(names).count(n) > 1)
            raise BadRequest(f"row 0: column {twice} is given twice")

    def _rows(self, numbers: list[Any], texts: list[Any], keys: list[Any], moments: list[Any]) -> Rows:
        given = numbers, texts
        text_types = set(map(type, chain.from_iterable(texts)))
        plain = numbers if self._all_plain else list(map(self._pick_plain, numbers))
        as_it_is = set(map(type, chain.from_iterable(plain))) <= NUMBERS and text_types <= TEXTS | {NONE}
        if not as_it_is and self.schema.strict:
            raise self._value_fault(*given)
        try:
            if as_it_is:
                matrix = self._matrix(plain, numbers)
            else:
                values, texts = self._read(numbers, texts)
                matrix = np.array(values, "float64").reshape(len(keys), len(self.numbers))
        except (OverflowError, Unreadable):
            raise self._value_fault(*given) from None
        if not text_types <= TEXTS:
            texts = [tuple("" if v is None else v for v in row) for row in texts]
        words = np.empty((len(keys), len(self.texts)), object)
        if self.texts:
            words[:] = texts
        read = self._checked(matrix, words, keys, moments)
        if read is None:
            raise self._value_fault(*given)
        return read

    def _read(self, numbers: list[Any], texts: list[Any]) -> tuple[list[Any], list[Any]]:
        """The values of all cells. Raises Unreadable for one that is no value of its column."""
        columns, zone = self._number_columns, self._zone
        return (
            [
                tuple(chain.from_iterable(c.numbers(c.read(cell, zone)) for c, cell in zip(columns, row, strict=True)))
                for row in numbers
            ],
            [tuple(c.read(cell) for c, cell in zip(self._text_columns, row, strict=True)) for row in texts],
        )

    def _matrix(self, plain: list[Any], numbers: list[Any]) -> np.ndarray:
        """The matrix of numbers of which the `plain` ones need no reading. Raises Unreadable."""
        values = np.array(plain, "float64").reshape(len(numbers), len(self._plain_places))
        if self._all_plain:
            return values
        matrix = np.empty((len(numbers), len(self.numbers)))
        matrix[:, self._plain_places] = values
        for picked, place, column in self._others:
            read = [column.numbers(column.read(row[picked], self._zone)) for row in numbers]
            matrix[:, place : place + len(column.matrix)] = np.array(read).reshape(len(numbers), len(column.matrix))
        return matrix

    def _checked(self, matrix: np.ndarray, words: np.ndarray, keys: list[Any], moments: list[Any]) -> Rows | None:
        """The rows of a float64 matrix and of texts; None where one breaks the contract and the slot refuses that."""
        numbers = self.held(matrix)
        # A finite sum means finite numbers. A missing number makes it NaN, and then each number is checked.
        if not math.isfinite(numbers.sum()) and np.isinf(numbers).any():
            return None
        unknown: Mapping[int, Sequence[str]] = {}
        if self._spelt and not all(
            learnt is not None and learnt.issuperset(column)
            for learnt, column in zip(self._learnt, words.T.tolist(), strict=True)
        ):
            unknown = self.spell(words)
        breaches: Mapping[int, Sequence[str]] = {}
        if self._rules.broken(matrix, numbers, words):
            if not self._flag:
                return None
            breaches = self._breaches(matrix, words)
        return Rows(numbers, words, self._key_texts(keys), self._time_texts(moments), unknown, breaches)

    def held(self, matrix: np.ndarray) -> np.ndarray:
        """Numbers, float64 (rows, numbers), as the model takes them: rounded to float32 but for `doubles`. What is too large is infinite."""
        return held(matrix, self._double_places)

    def spell(self, words: np.ndarray) -> dict[int, list[str]]:
        """Gives each category of (rows, texts) its one text, in place; returns by row the columns whose category was never learnt."""
        unknown: dict[int, list[str]] = {}
        for i, (column, learnt) in enumerate(zip(self._text_columns, self._learnt, strict=True)):
            texts = words[:, i].tolist()
            if learnt is not None and learnt.issuperset(texts):
                continue
            for row, text in enumerate(texts):
                if learnt is not None and text in learnt:
                    continue
                read = spelling.category(text, column.spelling) or ""
                words[row, i] = read
                if learnt is not None and read not in learnt:
                    unknown.setdefault(row, []).append(column.name)
        return unknown

    def _breaches(self, matrix: np.ndarray, words: np.ndarray) -> dict[int, list[str]]:
        found: dict[int, list[str]] = {}
        for columns, cells in ((self._places, matrix), (self._text_columns, words)):
            for i, column in enumerate(columns):
                for row, cell in enumerate(cells[:, i].tolist()):
                    value = None if cell != cell or cell == "" else cell
                    # A missing text is missing in each of its places.
                    if (fault := column.breach(value)) and f"{column.name} {fault}" not in found.get(row, ()):
                        found.setdefault(row, []).append(f"{column.name} {fault}")
        return found

    def _rule_fault(self, matrix: np.ndarray, words: np.ndarray) -> RowRefused:
        """The first row that breaks a rule or holds a number that is too large, of rows that were read."""
        broken = self._breaches(matrix, words)
        rows, columns = np.nonzero(np.isinf(self.held(matrix)))
        if len(rows) and (not broken or rows[0] <= min(broken)):
            return RowRefused(int(rows[0]), f"column {self.numbers[columns[0]]} must be a finite number")
        row = min(broken)
        return RowRefused(row, f"column {broken[row][0]}")

    def _value_fault(self, numbers: Iterable[Any], texts: Iterable[Any]) -> BadRequest:
        columns = [*self._number_columns, *self._text_columns]
        for row, (number_values, text_values) in enumerate(zip(numbers, texts, strict=True)):
            for column, value in zip(columns, (*number_values, *text_values), strict=True):
                if fault := self._fault(column, value):
                    return RowRefused(row, f"column {column.name} {fault}")
        return BadRequest("a value breaks the contract of its column")

    def _fault(self, column: Column, value: Any) -> str:
        if self.schema.strict and (fault := _strict_fault(column, value)):
            return fault
        return column.fault(value, self._zone)

    def _record_fault(self, records: Sequence[Any]) -> str:
        for row, record in enumerate(records):
            if not isinstance(record, dict):
                return f"row {row}: must be an object with a value for each column"
            if missing := [n for n in self.names if n not in record]:
                return f"row {row}: column {missing[0]} is missing"
            if unknown := [str(n) for n in record if n not in self._known]:
                return f"row {row}: column {unknown[0]} is unknown to the model"
        return "each row must be an object with a value for each column"

    def _key_texts(self, keys: list[Any]) -> list[str | None]:
        if self.key and self.key == self.event_time:
            return self._time_texts(keys)
        if set(map(type, keys)) == {NONE}:
            return keys
        texts: list[str | None] = []
        for row, key in enumerate(keys):
            try:
                texts.append(spelling.key(key))
            except Unreadable as error:
                raise BadRequest(f"row {row}: column {self.key} {error}") from None
        return texts

    def _time_texts(self, moments: list[Any]) -> list[str | None]:
        if set(map(type, moments)) == {NONE}:
            return moments
        texts: list[str | None] = []
        for row, moment in enumerate(moments):
            try:
                texts.append(times.canonical(moment, self._zone, self.schema.epoch))
            except Unreadable as error:
                raise BadRequest(f"row {row}: column {self.event_time} {error}") from None
        return texts


def _refuse_other_kinds(column: Column, cells: np.ndarray) -> None:
    for row, cell in enumerate(cells.tolist()):
        if fault := _strict_fault(column, cell):
            raise RowRefused(row, f"column {column.name} {fault}")


class _Rules:
    """The rules of the contract over whole matrices."""

    def __init__(self, numbers: Sequence[Column], texts: Sequence[Column]) -> None:
        self._required = [i for i, c in enumerate(numbers) if not c.nullable]
        self._integers = [i for i, c in enumerate(numbers) if c.kind == "integer"]
        self._bounded = any(c.min is not None or c.max is not None for c in numbers)
        self._low = np.array(
            [np.array(-LARGEST[c.precision] if c.min is None else c.min, c.precision) for c in numbers]
        )
        self._high = np.array(
            [np.array(LARGEST[c.precision] if c.max is None else c.max, c.precision) for c in numbers]
        )
        self._listed = [(i, np.array(c.allowed, c.precision)) for i, c in enumerate(numbers) if c.allowed]
        self._required_texts = [i for i, c in enumerate(texts) if not c.nullable]
        self._listed_texts = [(i, frozenset([*c.allowed, ""])) for i, c in enumerate(texts) if c.allowed]

    def broken(self, matrix: np.ndarray, numbers: np.ndarray, words: np.ndarray) -> bool:
        """Whether a value breaks a rule; whole numbers are judged in `matrix`, float64, all else as the model takes it."""
        if self._required and np.isnan(numbers[:, self._required]).any():
            return True
        if any((np.abs(matrix[:, i] % 1) > 0).any() for i in self._integers):
            return True
        if self._bounded and ((numbers < self._low).any() or (numbers > self._high).any()):
            return True
        if any(not (np.isnan(numbers[:, i]) | np.isin(numbers[:, i], allowed)).all() for i, allowed in self._listed):
            return True
        if any("" in words[:, i].tolist() for i in self._required_texts):
            return True
        return any(not allowed.issuperset(words[:, i].tolist()) for i, allowed in self._listed_texts)


def _strict_fault(column: Column, value: Any) -> str:
    """What a version from before schemas refuses, that others read."""
    if value is None or value != value or (value == "" and column.is_category):
        return ""
    if column.is_category:
        return "" if type(value) is str else f"must be text; got {shown(value)}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"must be a number; got {shown(value)}"
    return ""


def _picker(places: Sequence[Any]) -> Callable[[Any], tuple[Any, ...]]:
    """itemgetter for names or indexes that always returns a tuple, also for one place or none."""
    if len(places) > 1:
        return itemgetter(*places)
    return lambda row: tuple([row[place] for place in places])
