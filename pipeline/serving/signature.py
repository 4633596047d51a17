"""The contract of a request: which columns, of which kind, what may be missing. Turns rows into what a model takes.

Most requests keep it, so whole columns are checked at once; only one that does not is gone through value by value, to
say which row and which column it is.
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

NOTHING = type(None)
NUMBERS, TEXTS, KEYS = frozenset({float, int, NOTHING}), frozenset({str}), frozenset({str, int, NOTHING})
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
    def of(cls, told: dict[str, Any]) -> Field:
        """A feature as the manifest describes it."""
        rules = {k: told[k] for k in ("nullable", "integer") if k in told}
        return cls(told["name"], told["kind"] == "number", **rules, allowed=tuple(told.get("allowed") or ()))

    def fault(self, value: Any) -> str:
        """What is wrong with a value, or ''."""
        if value is None or value != value:
            return "" if self.nullable else "may not be missing"
        if not self.number:
            if type(value) is not str:
                return f"wants text, not {_shown(value)}"
            return self._not_allowed(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"wants a number, not {_shown(value)}"
        if abs(value) > LARGEST:
            return "wants a finite number"
        if self.integer and value != int(value):
            return f"wants a whole number, not {_shown(value)}"
        return self._not_allowed(value)

    def _not_allowed(self, value: Any) -> str:
        if not self.allowed or value in self.allowed:
            return ""
        return f"knows {', '.join(map(str, self.allowed))}, not {_shown(value)}"


@dataclass(slots=True)
class Rows:
    """Rows that keep the contract. `numbers` is float32 (rows, numbers), `texts` object (rows, texts)."""

    numbers: np.ndarray
    texts: np.ndarray
    keys: Sequence[str | None]
    times: Sequence[str | None]

    def __len__(self) -> int:
        return len(self.keys)


class Signature:
    """What a package's model takes. Numbers come first, then texts, each in the manifest's order."""

    def __init__(self, manifest: dict[str, Any]) -> None:
        self.fields = [Field.of(told) for told in manifest["features"]]
        self.key, self.event_time = manifest["key"], manifest["event_time"]
        self.numbers = [f.name for f in self.fields if f.number]
        self.texts = [f.name for f in self.fields if not f.number]
        self._known = frozenset([*self.numbers, *self.texts, self.key, self.event_time])
        self._by_name = {f.name: f for f in self.fields}
        self._number_picks, self._text_picks = _picks(self.numbers), _picks(self.texts)
        numbers = [self._by_name[n] for n in self.numbers]
        self._wanted = [i for i, f in enumerate(numbers) if not f.nullable]
        self._whole = [i for i, f in enumerate(numbers) if f.integer]
        self._listed = [(i, np.array(f.allowed, "float32")) for i, f in enumerate(numbers) if f.allowed]
        texts = [self._by_name[n] for n in self.texts]
        self._words = [
            (i, frozenset([*f.allowed, *([""] if f.nullable else [])])) for i, f in enumerate(texts) if f.allowed
        ]
        self._spoken = [i for i, f in enumerate(texts) if not f.nullable]

    def of_records(self, records: Sequence[Any]) -> Rows:
        """Rows from objects by column name. Raises BadRequest."""
        known, features = self._known, len(self.fields)
        try:
            for record in records:
                # As many as the features, which are all picked below, leave no place for another.
                if len(record) != features and not record.keys() <= known:
                    raise KeyError
            numbers = list(map(self._number_picks, records))
            texts = list(map(self._text_picks, records))
            keys = [record.get(self.key) for record in records]
            times = [record.get(self.event_time) for record in records]
        except (KeyError, AttributeError, TypeError):
            raise BadRequest(self._odd_record(records)) from None
        return self._rows(numbers, texts, keys, times)

    def of_table(self, names: Sequence[str], rows: Sequence[Sequence[Any]]) -> Rows:
        """Rows from sequences of values, in the order of `names`. Raises BadRequest."""
        self._refuse_columns(names)
        place = {name: i for i, name in enumerate(names)}
        numbers = list(map(_picks([place[n] for n in self.numbers]), rows))
        texts = list(map(_picks([place[n] for n in self.texts]), rows))
        keys, times = (
            [row[place[name]] for row in rows] if name in place else [None] * len(rows)
            for name in (self.key, self.event_time)
        )
        return self._rows(numbers, texts, keys, times)

    def of_columns(self, columns: Mapping[str, Sequence[Any]]) -> Rows:
        """Rows from whole columns of one length. Raises BadRequest."""
        self._refuse_columns(list(columns))
        rows = len(next(iter(columns.values())))
        matrix, words = np.empty((rows, len(self.numbers)), "float32"), np.empty((rows, len(self.texts)), object)
        kinds: set[type] = set().union(*(map(type, columns[name]) for name in self.numbers))
        spoken: set[type] = set().union(*(map(type, columns[name]) for name in self.texts))
        odd = not (kinds <= NUMBERS and spoken <= TEXTS | {NOTHING})
        if not odd:
            try:
                with np.errstate(over="ignore"):
                    for i, name in enumerate(self.numbers):
                        matrix[:, i] = np.array(columns[name], "float32")
            except OverflowError:
                odd = True
            for i, name in enumerate(self.texts):
                column = columns[name]
                words[:, i] = column if NOTHING not in spoken else ["" if v is None else v for v in column]
        if odd or self._breaks_somewhere(matrix, words):
            # Row by row, to say where.
            return self.of_table(list(columns), list(zip(*columns.values(), strict=True)))
        nothing = [None] * rows
        keys, times = (list(columns.get(name, nothing)) for name in (self.key, self.event_time))
        return Rows(matrix, words, _names(keys, self.key), _times(times, self.event_time))

    def _breaks_somewhere(self, matrix: np.ndarray, words: np.ndarray) -> bool:
        """The same as `_breaks`, of columns."""
        odd = not math.isfinite(matrix.sum())
        if odd and (np.isinf(matrix).any() or np.isnan(matrix[:, self._wanted]).any()):
            return True
        if any((matrix[:, i] % 1 > 0).any() for i in self._whole):
            return True
        if any(not (np.isnan(matrix[:, i]) | np.isin(matrix[:, i], allowed)).all() for i, allowed in self._listed):
            return True
        if any("" in words[:, i].tolist() for i in self._spoken):
            return True
        return any(not allowed.issuperset(words[:, i].tolist()) for i, allowed in self._words)

    def _refuse_columns(self, names: Sequence[str]) -> None:
        if missing := [n for n in (*self.numbers, *self.texts) if n not in names]:
            raise BadRequest(f"row 0: column {missing[0]} is missing")
        if unknown := [n for n in names if n not in self._known]:
            raise BadRequest(f"row 0: column {unknown[0]} is unknown to the model")
        if len(set(names)) < len(names):
            twice = next(n for n in names if list(names).count(n) > 1)
            raise BadRequest(f"row 0: column {twice} is there twice")

    def _rows(self, numbers: list[Any], texts: list[Any], keys: list[Any], times: list[Any]) -> Rows:
        kinds = set(map(type, chain.from_iterable(numbers)))
        if not kinds <= NUMBERS:
            raise self._odd_value(numbers, texts)
        spoken = set(map(type, chain.from_iterable(texts)))
        if not spoken <= TEXTS:
            if not spoken <= TEXTS | {NOTHING}:
                raise self._odd_value(numbers, texts)
            texts = [tuple("" if v is None else v for v in row) for row in texts]
        try:
            with np.errstate(over="ignore"):
                matrix = np.array(numbers, "float32").reshape(len(keys), len(self.numbers))
        except OverflowError:
            raise self._odd_value(numbers, texts) from None
        words = np.empty((len(keys), len(self.texts)), object)
        if self.texts:
            words[:] = texts
        if self._breaks(matrix, numbers, texts):
            raise self._odd_value(numbers, texts)
        return Rows(matrix, words, _names(keys, self.key), _times(times, self.event_time))

    def _breaks(self, matrix: np.ndarray, numbers: list[Any], texts: list[Any]) -> bool:
        """Whether a value is infinite, missing, broken or unheard of where it may not be."""
        # A sum is finite when every number is; missing ones make it NaN, and then each is looked at.
        if not math.isfinite(matrix.sum()):
            if np.isinf(matrix).any():
                return True
            if any(None in map(itemgetter(i), numbers) for i in self._wanted):
                return True
        if any(row[i] is not None and row[i] % 1 for i in self._whole for row in numbers):
            return True
        if any(not (np.isnan(matrix[:, i]) | np.isin(matrix[:, i], allowed)).all() for i, allowed in self._listed):
            return True
        if any(not row[i] for i in self._spoken for row in texts):
            return True
        return any(row[i] not in words for i, words in self._words for row in texts)

    def _odd_value(self, numbers: Iterable[Any], texts: Iterable[Any]) -> BadRequest:
        for row, (some, more) in enumerate(zip(numbers, texts, strict=True)):
            for name, value in zip((*self.numbers, *self.texts), (*some, *more), strict=True):
                field = self._by_name[name]
                value = None if not field.number and value == "" else value
                if fault := field.fault(value):
                    return BadRequest(f"row {row}: column {name} {fault}")
        return BadRequest("a value is out of its range")

    def _odd_record(self, records: Sequence[Any]) -> str:
        for row, record in enumerate(records):
            if not isinstance(record, dict):
                return f"row {row}: wants an object with a value a column"
            if missing := [n for n in (*self.numbers, *self.texts) if n not in record]:
                return f"row {row}: column {missing[0]} is missing"
            if unknown := [str(n) for n in record if n not in self._known]:
                return f"row {row}: column {unknown[0]} is unknown to the model"
        return "the rows are not objects with a value a column"


def _picks(at: Sequence[Any]) -> Callable[[Any], tuple[Any, ...]]:
    """Takes the values at these names or places, as a tuple whatever their number."""
    if len(at) > 1:
        return itemgetter(*at)
    return lambda row: tuple([row[place] for place in at])


def _names(keys: list[Any], column: str) -> list[str | None]:
    kinds = set(map(type, keys))
    if kinds <= {str, NOTHING}:
        return keys
    for row, key in enumerate(keys):
        if type(key) not in KEYS:
            raise BadRequest(f"row {row}: column {column} wants text or a whole number")
    return [None if key is None else str(key) for key in keys]


def _times(times: list[Any], column: str) -> list[str | None]:
    for row, time in enumerate(times):
        if time is None:
            continue
        try:
            datetime.fromisoformat(time)
        except (TypeError, ValueError):
            raise BadRequest(f"row {row}: column {column} wants a time like 2024-02-01T00:00:00Z") from None
    return times


def _shown(value: Any) -> str:
    try:
        return json.dumps(value)[:40]
    except (TypeError, ValueError):
        return type(value).__name__
