"""A model's columns, as its package and its snapshot keep them.

A package that was built before schemas (its manifest has no `schema`) has numbers and texts only, and says neither which categories
were learnt nor the smallest and largest numbers. Its requests are read by the rules that it was released with: `strict`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pipeline.serving.schema import spelling as spellings
from pipeline.serving.schema import texts, times
from pipeline.serving.schema.spelling import Spelling, Unreadable, shown

Kind = Literal["number", "integer", "boolean", "datetime", "text", "category"]
Precision = Literal["float32", "float64"]
FILE = "schema.json"
LARGEST = {precision: float(np.finfo(precision).max) for precision in ("float32", "float64")}


@dataclass(frozen=True)
class Column:
    """One feature. `min` and `max` are for numbers. `allowed` holds values as the model takes them; empty means any.

    `learnt` are the categories that training saw; None where that is not known. `precision` is float64 for a number that float32 cannot
    hold: the model gets it as it is, and any other rounded to float32. `parts` are those of `times.PARTS`, and the age, that the model gets of a
    datetime beside its days, and `groups` the groups of words of a text; a package from before these has none.
    """

    name: str
    kind: Kind = "number"
    nullable: bool = True
    min: float | None = None
    max: float | None = None
    allowed: tuple[Any, ...] = ()
    spelling: Spelling = "text"
    precision: Precision = "float32"
    parts: tuple[str, ...] = ()
    groups: int = 0
    learnt: frozenset[str] | None = field(default=None, compare=False)

    @property
    def is_category(self) -> bool:
        """Whether a model gets it as a category; all others it gets as numbers."""
        return self.kind == "category"

    @property
    def matrix(self) -> tuple[str, ...]:
        """Its columns in the matrix of numbers, and in the prediction log: two for a text and none for a category.

        They say what they hold: a column that was a number before must not be taken for the days of a time.
        """
        match self.kind:
            case "text":
                return texts.names(self.name, self.groups)
            case "datetime":
                return (f"{self.name} days", *(f"{self.name} {part}" for part in self.parts))
        return () if self.is_category else (self.name,)

    @property
    def watched(self) -> tuple[str, ...]:
        """Those of `matrix` that drift is looked for in: a month always drifts, and a group of words says nothing alone."""
        match self.kind:
            case "text":
                return texts.names(self.name)
            case "datetime":
                return self.matrix[:1]
        return self.matrix

    @property
    def datatype(self) -> str:
        """Its datatype in the v2 protocol's metadata; others are taken too."""
        bytes_ = dict.fromkeys(("datetime", "text", "category"), "BYTES")
        number = "FP64" if self.precision == "float64" else "FP32"
        return {"boolean": "BOOL", **bytes_}.get(self.kind, number)

    def read(self, cell: Any, zone: tzinfo = UTC) -> float | str | None:
        """The one value that a cell means; None when it is missing. `zone` is that of times without one. Raises Unreadable."""
        match self.kind:
            case "category":
                return spellings.category(cell, self.spelling)
            case "text":
                return spellings.free_text(cell)
            case "boolean":
                return spellings.truth(cell)
            case "datetime":
                return times.days(cell, zone)
        value = spellings.number(cell if self.precision == "float32" else spellings.undamaged(cell))
        if value is not None and abs(value) > LARGEST[self.precision]:
            raise Unreadable("must be a finite number")
        return value

    def numbers(self, value: float | str | None, zone: tzinfo = UTC) -> tuple[float, ...]:
        """A value of `read` in the columns of `matrix`; a missing one is NaN, and an age until `Ages.fill`, which has the event time. `zone`
        is that of the parts of a time."""
        if self.kind == "text":
            return texts.encoded(value if isinstance(value, str) else None, self.groups)
        number = math.nan if value is None else float(value)
        return (number, *times.calendar(number, self.parts, zone)) if self.parts else (number,)

    def of_numbers(self, values: Sequence[float]) -> Any:
        """The values of its columns in `matrix` as a JSON request has them; of a text they know its size and its groups of words only. A
        time with parts is for `ages.spelt_again`."""
        return texts.stand_in(values) if self.kind == "text" else self.written(values[0])

    def written(self, value: float | str | datetime | None) -> Any:
        """A value of `read`, or a time, as a JSON request has it. A missing value is null."""
        if value is None or value != value or value == "":
            return None
        match self.kind:
            case "boolean":
                return bool(value)
            case "integer":
                return int(value)  # type: ignore[arg-type]
            case "datetime":
                return times.canonical(times.of_days(value) if isinstance(value, float) else value)
        return value

    def example(self) -> Any:
        """A value that the contract allows, and that tells nothing about any row."""
        match self.kind:
            case "category" if not self.allowed:
                return {"text": "text", "number": "0", "truth": "true"}[self.spelling]
            case "boolean":
                return bool(self.allowed[0]) if self.allowed else True
            case "datetime":
                return "2000-01-01T00:00:00Z"
            case "text":
                return "some text"
        if self.allowed:
            return self.allowed[0]
        value = min(max(0.0, self.min or 0.0), self.max if self.max is not None else math.inf)
        return int(value) if self.kind == "integer" else value

    def breach(self, value: float | str | None) -> str:
        """Which rule a value breaks, in words that follow the column's name; '' when it breaks none."""
        if value is None:
            return "" if self.nullable else "must not be missing"
        if isinstance(value, float):
            if self.kind == "integer" and value % 1:
                return f"must be a whole number; got {shown(value)}"
            if self.min is not None and self._held(value) < self._held(self.min):
                return f"must be at least {self.min:g}; got {shown(value)}"
            if self.max is not None and self._held(value) > self._held(self.max):
                return f"must be at most {self.max:g}; got {shown(value)}"
        if self.allowed and not self._allows(value):
            return f"must be one of {', '.join(map(_said, self.allowed))}; got {shown(value)}"
        return ""

    def _allows(self, value: float | str) -> bool:
        """Compares numbers as a model takes them: a client's float32 0.1 is 0.1."""
        if isinstance(value, float) and value not in self.allowed:
            return bool(np.isin(self._held(value), np.array(self.allowed, self.precision)))
        return value in self.allowed

    def _held(self, value: float) -> np.floating[Any]:
        return np.dtype(self.precision).type(value)

    def fault(self, cell: Any, zone: tzinfo = UTC) -> str:
        """What is wrong with a cell, in words that follow the column's name; '' when nothing is."""
        try:
            return self.breach(self.read(cell, zone))
        except Unreadable as error:
            return str(error)

    def with_allowed(self, values: Iterable[Any]) -> Column:
        """The same column, which takes only `values`, in any spelling. Raises Unreadable for one that it cannot take at all."""
        read = [self.read(value) for value in values]
        return replace(self, allowed=tuple(value for value in dict.fromkeys(read) if value is not None))

    def as_json(self) -> dict[str, Any]:
        """All but what was learnt, without what is as for any column."""
        plain = asdict(replace(self, learnt=None))
        usual = asdict(Column(""))
        return {"name": self.name, "kind": self.kind} | {k: v for k, v in plain.items() if v != usual[k]}

    @classmethod
    def from_json(cls, given: Mapping[str, Any], learnt: Iterable[str] | None = None) -> Column:
        """Reads `as_json` back. Raises TypeError or KeyError for anything else."""
        rules = {**given, "allowed": tuple(given.get("allowed", ())), "parts": tuple(given.get("parts", ()))}
        return cls(**rules, learnt=None if learnt is None else frozenset(learnt))

    @classmethod
    def before_schemas(cls, feature: Mapping[str, Any]) -> Column:
        """The column of a feature in a manifest without a schema."""
        kind: Kind = "category"
        if feature["kind"] == "number":
            kind = "integer" if feature.get("integer") else "number"
        return cls(feature["name"], kind, feature.get("nullable", True), allowed=tuple(feature.get("allowed") or ()))


@dataclass(frozen=True)
class Schema:
    """The columns of a model in its order, and the names of its key and its event time ('' for none).

    `timezone` is that of times without a zone, at the source as in requests, and `epoch` the unit of times that are numbers.
    """

    columns: tuple[Column, ...]
    key: str = ""
    event_time: str = ""
    timezone: str = "UTC"
    epoch: times.Unit | None = None
    strict: bool = False

    @property
    def zone(self) -> tzinfo:
        """The zone of times without one, and of the parts of times. Raises ZoneInfoNotFoundError."""
        return times.zone_of(self.timezone)

    @property
    def names(self) -> list[str]:
        """The columns of a request in the model's order: categories come last."""
        given = [column.name for column in self.columns if not column.is_category]
        return given + self.texts

    @property
    def numbers(self) -> list[str]:
        """The columns of the matrix of numbers, where a text has two."""
        return [name for column in self.columns for name in column.matrix]

    @property
    def texts(self) -> list[str]:
        """The columns of the matrix of categories."""
        return [column.name for column in self.columns if column.is_category]

    @property
    def doubles(self) -> list[str]:
        """The columns of the matrix of numbers that float32 cannot hold."""
        return [name for column in self.columns if column.precision == "float64" for name in column.matrix]

    @property
    def precision(self) -> Precision:
        """The dtype of the matrix of numbers: float64 where one column needs it."""
        return "float64" if self.doubles else "float32"

    def __getitem__(self, name: str) -> Column:
        """The column of that name. Raises KeyError."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    def as_json(self) -> dict[str, Any]:
        """The schema without what was learnt: equal schemas give equal bytes."""
        return {
            "columns": [column.as_json() for column in self.columns],
            "key": self.key,
            "event_time": self.event_time,
            "timezone": self.timezone,
        } | ({"epoch": self.epoch} if self.epoch else {})

    @classmethod
    def from_json(cls, given: Mapping[str, Any], learnt: Mapping[str, Iterable[str]] | None = None) -> Schema:
        """Reads `as_json` back; `learnt` has the categories by column. Raises TypeError or KeyError for anything else."""
        known = learnt or {}
        columns = tuple(Column.from_json(column, known.get(column["name"])) for column in given["columns"])
        return cls(columns, given["key"], given["event_time"], given.get("timezone", "UTC"), given.get("epoch"))

    def write(self, folder: Path) -> None:
        """Writes the schema of a snapshot, beside its partitions."""
        (folder / FILE).write_text(json.dumps(self.as_json(), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def of_snapshot(cls, folder: Path) -> Schema | None:
        """The schema of a snapshot; None for one from before schemas."""
        file = folder / FILE
        return cls.from_json(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else None

    @classmethod
    def of_manifest(cls, manifest: Mapping[str, Any], learnt: Mapping[str, Iterable[str]] | None = None) -> Schema:
        """The schema of a package. Raises TypeError or KeyError when the manifest has none."""
        if "schema" in manifest:
            return cls.from_json(manifest["schema"], learnt)
        columns = [Column.before_schemas(feature) for feature in manifest["features"]]
        return cls(tuple(columns), manifest["key"], manifest["event_time"], strict=True)


def _said(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
