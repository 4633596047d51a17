"""The contract of a request: its columns, their kinds, and which values may be missing. Turns rows into a model's input.

Most requests keep the contract, so whole columns are checked at once. Only a request that breaks it is searched value by value,
to name the row and the column.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np

from pipeline.serving.errors import BadRequest

NONE = type(None)
NUMBERS, TEXTS, KEYS = frozenset({float, int, NONE}), frozenset({str}), frozenset({str, int, NONE})
LARGEST = float(np.finfo("float32").max)


@dataclass(frozen=True)
class Field:
    """One feature. `allowed` empty means any value."""

    name: str
    number: bool
    nullable: bool = True
    integer: bool = False
    allowed: tuple[Any, ...] = ()

    @classmethod
    def from_manifest(cls, feature: dict[str, Any]) -> Field:
        """The field of a feature in the manifest."""
        rules = {k: feature[k] for k in ("nullable", "integer") if k in feature}
        return cls(feature["name"], feature["kind"] == "number", **rules, allowed=tuple(feature.get("allowed") or ()))

    def example(self) -> Any:
        """A value that the contract allows, and that tells nothing about any row."""
        if self.allowed:
            return self.allowed[0]
        return (0 if self.integer else 0.0) if self.number else "text"

    def fault(self, value: Any) -> str:
        """What is wrong with a value, in words that follow the column's name; '' when nothing is."""
        if value is None or value != value:
            return "" if self.nullable else "must not be missing"
        if not self.number:
            if type(value) is not str:
                return f"must be text; got {shown(value)}"
            return self._not_allowed(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"must be a number; got {shown(value)}"
        if abs(value) > LARGEST:
            return "must be a finite number"
        if self.integer and value != int(value):
            return f"must be a whole number; got {shown(value)}"
        return self._not_allowed(value)

    def _not_allowed(self, value: Any) -> str:
        if not self.allowed or value in self.allowed:
            return ""
        return f"must be one of {', '.join(map(str, self.allowed))}; got {shown(value)}"


@dataclass(slots=True)
class Rows:
    """Rows that keep the contract. `numbers` is float32 (rows, numbers), `texts` object (rows, texts).

    A missing number is NaN, a missing text "", a missing key or time None.
    """

    numbers: np.ndarray
    texts: np.ndarray
    keys: Sequence[str | None]
    times: Sequence[str | None]

    def __len__(self) -> int:
        return len(self.keys)


class Signature:
    """The contract of one package's model. Numbers come first, then texts, each in the manifest's order."""

    def __init__(self, manifest: dict[str, Any]) -> None:
        self.fields = [Field.from_manifest(feature) for feature in manifest["features"]]
        self.key, self.event_time = manifest["key"], manifest["event_time"]
        self.numbers = [f.name for f in self.fields if f.number]
        self.texts = [f.name for f in self.fields if not f.number]
        self._known = frozenset([*self.numbers, *self.texts, self.key, self.event_time])
        # How many columns a request can have.
        self.columns = len(self._known - {None, ""})
        self._by_name = {f.name: f for f in self.fields}
        self._pick_numbers, self._pick_texts = _picker(self.numbers), _picker(self.texts)
        numbers = [self._by_name[n] for n in self.numbers]
        self._required_numbers = [i for i, f in enumerate(numbers) if not f.nullable]
        self._integers = [i for i, f in enumerate(numbers) if f.integer]
        self._allowed_numbers = [(i, np.array(f.allowed, "float32")) for i, f in enumerate(numbers) if f.allowed]
        texts = [self._by_name[n] for n in self.texts]
        self._allowed_texts = [
            (i, frozenset([*f.allowed, *([""] if f.nullable else [])])) for i, f in enumerate(texts) if f.allowed
        ]
        self._required_texts = [i for i, f in enumerate(texts) if not f.nullable]

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
            times = [record.get(self.event_time) for record in records]
        except (KeyError, AttributeError, TypeError):
            raise BadRequest(self._record_fault(records)) from None
        return self._rows(numbers, texts, keys, times)

    def of_table(self, names: Sequence[str], rows: Sequence[Sequence[Any]]) -> Rows:
        """Rows from sequences of values, in the order of `names`. Raises BadRequest."""
        self._refuse_columns(names)
        place = {name: i for i, name in enumerate(names)}
        numbers = list(map(_picker([place[n] for n in self.numbers]), rows))
        texts = list(map(_picker([place[n] for n in self.texts]), rows))
        keys, times = (
            [row[place[name]] for row in rows] if name in place else [None] * len(rows)
            for name in (self.key, self.event_time)
        )
        return self._rows(numbers, texts, keys, times)

    def of_columns(self, columns: Mapping[str, Sequence[Any]]) -> Rows:
        """Rows from columns that all have the same length. Raises BadRequest."""
        self._refuse_columns(list(columns))
        rows = len(next(iter(columns.values())))
        matrix, words = np.empty((rows, len(self.numbers)), "float32"), np.empty((rows, len(self.texts)), object)
        number_types: set[type] = set().union(*(map(type, columns[name]) for name in self.numbers))
        text_types: set[type] = set().union(*(map(type, columns[name]) for name in self.texts))
        faulty = not (number_types <= NUMBERS and text_types <= TEXTS | {NONE})
        if not faulty:
            try:
                with np.errstate(over="ignore"):
                    for i, name in enumerate(self.numbers):
                        matrix[:, i] = np.array(columns[name], "float32")
            except OverflowError:
                faulty = True
            for i, name in enumerate(self.texts):
                column = columns[name]
                words[:, i] = column if NONE not in text_types else ["" if v is None else v for v in column]
        if faulty or self._columns_break(matrix, words):
            # Reads row by row, to name the row in the refusal.
            return self.of_table(list(columns), list(zip(*columns.values(), strict=True)))
        missing = [None] * rows
        keys, times = (list(columns.get(name, missing)) for name in (self.key, self.event_time))
        return Rows(matrix, words, _key_texts(keys, self.key), _checked_times(times, self.event_time))

    def _columns_break(self, matrix: np.ndarray, words: np.ndarray) -> bool:
        """`_rows_break` for columns: whether a value breaks the contract."""
        if not math.isfinite(matrix.sum()) and (
            np.isinf(matrix).any() or np.isnan(matrix[:, self._required_numbers]).any()
        ):
            return True
        if any((matrix[:, i] % 1 > 0).any() for i in self._integers):
            return True
        if any(
            not (np.isnan(matrix[:, i]) | np.isin(matrix[:, i], allowed)).all() for i, allowed in self._allowed_numbers
        ):
            return True
        if any("" in words[:, i].tolist() for i in self._required_texts):
            return True
        return any(not allowed.issuperset(words[:, i].tolist()) for i, allowed in self._allowed_texts)

    def _refuse_columns(self, names: Sequence[str]) -> None:
        if missing := [n for n in (*self.numbers, *self.texts) if n not in names]:
            raise BadRequest(f"row 0: column {missing[0]} is missing")
        if unknown := [n for n in names if n not in self._known]:
            raise BadRequest(f"row 0: column {unknown[0]} is unknown to the model")
        if len(set(names)) < len(names):
            twice = next(n for n in names if list(names).count(n) > 1)
            raise BadRequest(f"row 0: column {twice} is given twice")

    def _rows(self, numbers: list[Any], texts: list[Any], keys: list[Any], times: list[Any]) -> Rows:
        if not set(map(type, chain.from_iterable(numbers))) <= NUMBERS:
            raise self._value_fault(numbers, texts)
        text_types = set(map(type, chain.from_iterable(texts)))
        if not text_types <= TEXTS:
            if not text_types <= TEXTS | {NONE}:
                raise self._value_fault(numbers, texts)
            texts = [tuple("" if v is None else v for v in row) for row in texts]
        try:
            with np.errstate(over="ignore"):
                matrix = np.array(numbers, "float32").reshape(len(keys), len(self.numbers))
        except OverflowError:
            raise self._value_fault(numbers, texts) from None
        words = np.empty((len(keys), len(self.texts)), object)
        if self.texts:
            words[:] = texts
        if self._rows_break(matrix, numbers, texts):
            raise self._value_fault(numbers, texts)
        return Rows(matrix, words, _key_texts(keys, self.key), _checked_times(times, self.event_time))

    def _rows_break(self, matrix: np.ndarray, numbers: list[Any], texts: list[Any]) -> bool:
        """Whether a value breaks the contract: infinite, missing, not whole or not allowed."""
        # A finite sum means finite numbers. A missing number makes it NaN, and then each number is checked.
        if not math.isfinite(matrix.sum()):
            if np.isinf(matrix).any():
                return True
            if any(None in map(itemgetter(i), numbers) for i in self._required_numbers):
                return True
        if any(row[i] is not None and row[i] % 1 for i in self._integers for row in numbers):
            return True
        if any(
            not (np.isnan(matrix[:, i]) | np.isin(matrix[:, i], allowed)).all() for i, allowed in self._allowed_numbers
        ):
            return True
        if any(not row[i] for i in self._required_texts for row in texts):
            return True
        return any(row[i] not in words for i, words in self._allowed_texts for row in texts)

    def _value_fault(self, numbers: Iterable[Any], texts: Iterable[Any]) -> BadRequest:
        for row, (number_values, text_values) in enumerate(zip(numbers, texts, strict=True)):
            for name, value in zip((*self.numbers, *self.texts), (*number_values, *text_values), strict=True):
                field = self._by_name[name]
                value = None if not field.number and value == "" else value
                if fault := field.fault(value):
                    return BadRequest(f"row {row}: column {name} {fault}")
        return BadRequest("a value breaks the contract of its column")

    def _record_fault(self, records: Sequence[Any]) -> str:
        for row, record in enumerate(records):
            if not isinstance(record, dict):
                return f"row {row}: must be an object with a value for each column"
            if missing := [n for n in (*self.numbers, *self.texts) if n not in record]:
                return f"row {row}: column {missing[0]} is missing"
            if unknown := [str(n) for n in record if n not in self._known]:
                return f"row {row}: column {unknown[0]} is unknown to the model"
        return "each row must be an object with a value for each column"


def _picker(places: Sequence[Any]) -> Callable[[Any], tuple[Any, ...]]:
    """itemgetter for names or indexes that always returns a tuple, also for one place or none."""
    if len(places) > 1:
        return itemgetter(*places)
    return lambda row: tuple([row[place] for place in places])


def _key_texts(keys: list[Any], column: str) -> list[str | None]:
    if set(map(type, keys)) <= {str, NONE}:
        return keys
    for row, key in enumerate(keys):
        if type(key) not in KEYS:
            raise BadRequest(f"row {row}: column {column} must be text or a whole number")
    return [None if key is None else str(key) for key in keys]


def _checked_times(times: list[Any], column: str) -> list[str | None]:
    for row, time in enumerate(times):
        if time is None:
            continue
        try:
            datetime.fromisoformat(time)
        except (TypeError, ValueError):
            raise BadRequest(f"row {row}: column {column} must be a time like 2024-02-01T00:00:00Z") from None
    return times


def shown(value: Any) -> str:
    """A value as a refusal quotes it: at most 40 characters, whatever its size."""
    text = ""
    try:
        for part in json.JSONEncoder().iterencode(value):
            text += part[:40]
            if len(text) >= 40:
                break
        return text[:40]
    except (TypeError, ValueError):
        return type(value).__name__
