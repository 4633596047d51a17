"""Reads the rows of a request into a model's input.

Most requests are spelt as a model takes them and keep the contract, so whole columns are checked at once. Any other is read cell by cell,
and what breaks the contract is found value by value, to name the row and the column.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import tzinfo
from operator import itemgetter
from typing import Any, Literal
from zoneinfo import ZoneInfoNotFoundError

import numpy as np
import orjson

from pipeline.serving.errors import BadRequest, PackageRefused
from pipeline.serving.schema import spelling, times
from pipeline.serving.schema.ages import Ages, EventTime
from pipeline.serving.schema.blocks import RowRefused, held, number_block, positive_zeros, values_of
from pipeline.serving.schema.cells import NONE, CategoryReader, numbers_reader
from pipeline.serving.schema.columns import Column, Schema
from pipeline.serving.schema.few_rows import FEW_ROWS, FewRows
from pipeline.serving.schema.rules import Rules
from pipeline.serving.schema.spelling import Unreadable, shown


@dataclass(slots=True)
class Rows:
    """Rows as a model takes them. `numbers` is (rows, schema.numbers) in the schema's precision, `texts` object (rows, schema.texts).

    A missing number is NaN, a missing text "", a missing key or time None. `unknown` has, by row, the columns whose category no
    training saw, `breaches` the rules that a row breaks where the slot only flags them; both in words, without the other rows.
    `received`, in seconds since 1970, is what ages were counted to where a row has no event time; None for rows without ages.
    """

    numbers: np.ndarray
    texts: np.ndarray
    keys: Sequence[str | None]
    times: Sequence[str | None]
    unknown: Mapping[int, Sequence[str]] = field(default_factory=dict)
    breaches: Mapping[int, Sequence[str]] = field(default_factory=dict)
    received: float | None = None

    def __len__(self) -> int:
        return len(self.keys)


class Reader:
    """Reads cells by one model's schema. `names` are a request's columns: categories come last, all else is in the schema's order.

    Rows that break a rule are refused; with `flag` they are read, and `breaches` names the rules. A cell that is no value of its column
    is refused always.

    A row without an event time has its ages at `received`, the time of the request's receipt in seconds since 1970; without that it is
    refused where the schema has `ages`.
    """

    def __init__(self, schema: Schema, on_breach: Literal["refuse", "flag"] = "refuse") -> None:
        self.schema, self._flag = schema, on_breach == "flag"
        self.fields = list(schema.columns)
        self.key, self.event_time = schema.key, schema.event_time
        try:
            self.zone: tzinfo = schema.zone
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
        # By the very texts that orjson makes of the names in each request: those it finds in half the time.
        self._pick = _picker(list(orjson.loads(orjson.dumps(dict.fromkeys(self.names)))))
        self._pick_others = _picker(list(self._known.difference(self.names)))
        # The columns whose numbers are taken as they are.
        self.plain_numbers = [c.name for c in self._number_columns if c.kind in ("number", "integer")]
        # The places in the matrix of numbers that float32 cannot hold, by name and by place.
        self.doubles = frozenset(schema.doubles)
        self._double_places = np.array([name in self.doubles for name in self.numbers], bool)
        self._rules = Rules(self._places, self._text_columns)
        self.ages = Ages(self._number_columns)
        self._event_time = EventTime(self.event_time or "", "datetime", epoch=schema.epoch)
        self._few = FewRows(self._number_columns, self._text_columns, self.zone, schema.strict)
        self._read_numbers = [numbers_reader(column, self.zone, schema.strict) for column in self._number_columns]
        self._read_texts = [CategoryReader(column, schema.strict) for column in self._text_columns]

    def of_records(self, records: Sequence[Any], received: float | None = None) -> Rows:
        """Rows from objects with a value for each column. Raises BadRequest."""
        known, features = self._known, len(self.fields)
        try:
            for record in records:
                # All features are picked below: a record with as many values has no others.
                if (count := len(record)) == features:
                    continue
                if count == self.columns:
                    self._pick_others(record)
                elif not record.keys() <= known:
                    raise KeyError
            rows = list(map(self._pick, records))
            keys = [record.get(self.key) for record in records]
            moments = [record.get(self.event_time) for record in records]
        except (KeyError, AttributeError, TypeError):
            raise self._record_fault(records) from None
        return self._of_rows(rows, keys, moments, received)

    def of_table(self, names: Sequence[str], rows: Sequence[Sequence[Any]], received: float | None = None) -> Rows:
        """Rows from sequences of values, in the order of `names`. Raises BadRequest."""
        self._refuse_columns(names)
        place = {name: i for i, name in enumerate(names)}
        keys, moments = (
            [row[place[name]] for row in rows] if name in place else [None] * len(rows)
            for name in (self.key, self.event_time)
        )
        return self._of_rows(list(map(_picker([place[n] for n in self.names]), rows)), keys, moments, received)

    def of_columns(self, columns: Mapping[str, Sequence[Any]], received: float | None = None) -> Rows:
        """Rows from columns that all have the same length. Raises BadRequest."""
        self._refuse_columns(list(columns))
        cells = [columns[name] for name in self.names]
        missing = [None] * len(cells[0])
        keys, moments = (list(columns.get(name, missing)) for name in (self.key, self.event_time))
        if len(missing) <= FEW_ROWS:
            return self._of_rows(list(zip(*cells, strict=True)), keys, moments, received)
        return self._of_cells(cells, keys, moments, self._asked(moments, received), received)

    def of_arrays(self, columns: Mapping[str, np.ndarray], asked: np.ndarray | None = None) -> Rows:
        """Rows from many: float64 arrays of plain numbers, or of days for a datetime, NaN where one is missing; datetime64 arrays of
        times without a zone; and arrays of one object a cell. Ages are counted to `asked`, which is of `event_days`.

        Raises RowRefused.
        """
        rows = len(next(iter(columns.values())))
        matrix, words = np.empty((rows, len(self.numbers))), np.empty((rows, len(self.texts)), object)
        place = 0
        for column in self._number_columns:
            end = place + len(column.matrix)
            matrix[:, place:end] = number_block(column, columns[column.name], self.zone)
            place = end
        for i, column in enumerate(self._text_columns):
            cells = columns[column.name]
            if self.schema.strict:
                _refuse_other_kinds(column, cells)
            words[:, i] = ["" if value is None else value for value in values_of(column, cells, self.zone)]
        self.ages.fill(matrix, asked)
        read = self._checked(matrix, words, self.spell(words), [None] * rows, [None] * rows)
        if read is None:
            raise self._rule_fault(matrix, words)
        return read

    def event_days(self, cells: np.ndarray) -> np.ndarray:
        """Event times, as `of_arrays` takes the cells of a datetime, in days, float64; NaN where one is missing. Raises RowRefused."""
        return number_block(self._event_time, cells, self.zone)[:, 0]

    def _asked(self, moments: Sequence[Any], received: float | None) -> np.ndarray | None:
        """To what the ages of each row are counted, in days, float64; None where there are none. Raises BadRequest."""
        if not self.ages:
            return None
        # To the millisecond that the prediction log has.
        receipt = None if received is None else times.days_since_1970(int(received * 1000))
        days = [receipt if moment is None else times.days(moment) for moment in self._time_texts(list(moments))]
        if None in days:
            raise RowRefused(days.index(None), self.ages.lacking(self.event_time))
        return np.array(days, "float64")

    def _refuse_columns(self, names: Sequence[str]) -> None:
        if missing := [n for n in self.names if n not in names]:
            raise BadRequest(f"row 0: column {missing[0]} is missing", "columns")
        if unknown := [n for n in names if n not in self._known]:
            raise BadRequest(f"row 0: column {unknown[0]} is unknown to the model", "columns")
        if len(set(names)) < len(names):
            twice = next(n for n in names if list(names).count(n) > 1)
            raise BadRequest(f"row 0: column {twice} is given twice", "columns")

    def _of_rows(
        self, rows: Sequence[tuple[Any, ...]], keys: list[Any], moments: list[Any], received: float | None
    ) -> Rows:
        """Rows from the cells of each row, in the order of `names`."""
        asked = self._asked(moments, received)
        if len(rows) <= FEW_ROWS and (read := self._few.read(rows, asked)) is not None:
            return self._received(Rows(*read, self._key_texts(keys), self._time_texts(moments)), received)
        cells = list(zip(*rows, strict=True)) if rows else [()] * len(self.names)
        return self._of_cells(cells, keys, moments, asked, received)

    def _received(self, rows: Rows, received: float | None) -> Rows:
        if self.ages:
            rows.received = received
        return rows

    def _of_cells(
        self,
        cells: Sequence[Sequence[Any]],
        keys: list[Any],
        moments: list[Any],
        asked: np.ndarray | None,
        received: float | None,
    ) -> Rows:
        """Rows from the cells of each column, in the order of `names`."""
        count = len(keys)
        block, words = np.empty((len(self.numbers), count)), np.empty((count, len(self.texts)), object)
        unknown: dict[int, list[str]] = {}
        columns, place = iter(cells), 0
        try:
            for column, read in zip(self._number_columns, self._read_numbers, strict=True):
                end = place + len(column.matrix)
                block[place:end] = read(next(columns))
                place = end
            for i, (name, read_texts) in enumerate(zip(self.texts, self._read_texts, strict=True)):
                words[:, i], never_learnt = read_texts(next(columns))
                for row in never_learnt:
                    unknown.setdefault(row, []).append(name)
        except (OverflowError, Unreadable):
            raise self._value_fault(cells) from None
        matrix = np.ascontiguousarray(block.T)
        self.ages.fill(matrix, asked)
        checked = self._checked(matrix, words, unknown, keys, moments)
        if checked is None:
            raise self._value_fault(cells)
        return self._received(checked, received)

    def _checked(
        self,
        matrix: np.ndarray,
        words: np.ndarray,
        unknown: Mapping[int, Sequence[str]],
        keys: list[Any],
        moments: list[Any],
    ) -> Rows | None:
        """The rows of a float64 matrix and of texts; None where one breaks the contract and the slot refuses that."""
        matrix = positive_zeros(matrix)
        numbers = self.held(matrix)
        # A finite sum means finite numbers. A missing number makes it NaN, and then each number is checked.
        if not math.isfinite(numbers.sum()) and np.isinf(numbers).any():
            return None
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
        for i, (name, read) in enumerate(zip(self.texts, self._read_texts, strict=True)):
            texts, never_learnt = read(words[:, i].tolist())
            words[:, i] = texts
            for row in never_learnt:
                unknown.setdefault(row, []).append(name)
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
        broken = {} if self._flag else self._breaches(matrix, words)
        rows, columns = np.nonzero(np.isinf(self.held(matrix)))
        if len(rows) and (not broken or rows[0] <= min(broken)):
            return RowRefused(int(rows[0]), f"column {self.numbers[columns[0]]} must be a finite number")
        row = min(broken)
        return RowRefused(row, f"column {broken[row][0]}", "rule")

    def _value_fault(self, cells: Sequence[Sequence[Any]]) -> BadRequest:
        columns = [*self._number_columns, *self._text_columns]
        for row, values in enumerate(zip(*cells, strict=True)):
            for column, value in zip(columns, values, strict=True):
                if fault := self._fault(column, value):
                    return RowRefused(row, f"column {column.name} {fault}", self._kind(column, value))
        return BadRequest("a value breaks the contract of its column", "value")

    def _kind(self, column: Column, value: Any) -> str:
        """Of a refused value: whether it cannot be read, or breaks a rule."""
        try:
            return "rule" if column.breach(column.read(value, self.zone)) else "value"
        except Unreadable:
            return "value"

    def _fault(self, column: Column, value: Any) -> str:
        if self.schema.strict and (fault := _strict_fault(column, value)):
            return fault
        if not self._flag:
            return column.fault(value, self.zone)
        try:
            column.read(value, self.zone)
        except Unreadable as error:
            return str(error)
        return ""

    def _record_fault(self, records: Sequence[Any]) -> BadRequest:
        for row, record in enumerate(records):
            if not isinstance(record, dict):
                return BadRequest(f"row {row}: must be an object with a value for each column")
            if missing := [n for n in self.names if n not in record]:
                return BadRequest(f"row {row}: column {missing[0]} is missing", "columns")
            if unknown := [str(n) for n in record if n not in self._known]:
                return BadRequest(f"row {row}: column {unknown[0]} is unknown to the model", "columns")
        return BadRequest("each row must be an object with a value for each column")

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
                raise BadRequest(f"row {row}: column {self.key} {error}", "value") from None
        return texts

    def _time_texts(self, moments: list[Any]) -> list[str | None]:
        if set(map(type, moments)) == {NONE}:
            return moments
        texts: list[str | None] = []
        for row, moment in enumerate(moments):
            try:
                texts.append(times.canonical(moment, self.zone, self.schema.epoch))
            except Unreadable as error:
                raise BadRequest(f"row {row}: column {self.event_time} {error}", "value") from None
        return texts


def _refuse_other_kinds(column: Column, cells: np.ndarray) -> None:
    for row, cell in enumerate(cells.tolist()):
        if fault := _strict_fault(column, cell):
            raise RowRefused(row, f"column {column.name} {fault}")


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
