"""The age of a time: how many days before its row's event time it lies, as a float; negative for one that lies after it.

Both are moments in UTC, each after the rules of its own zone, in days as `times.days` gives them, and what a model gets is the difference
of the two, rounded as all numbers are. A row whose event time nobody knows has no age; it is refused, and never read as a missing one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any

import numpy as np

from pipeline.serving.schema import times
from pipeline.serving.schema.columns import Column


@dataclass(frozen=True)
class EventTime(Column):
    """The event time, which may be a number where the schema has an `epoch`."""

    epoch: times.Unit | None = None

    def read(self, cell: Any, zone: tzinfo = UTC) -> float | None:
        return times.days(cell, zone, self.epoch)


class Ages:
    """The ages among the numbers of `columns`; false where there is none. `of` names the first column that has one."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._places: list[tuple[int, int]] = []
        self.of, first = "", 0
        for column in columns:
            if times.AGE in column.parts:
                self._places.append((first + 1 + column.parts.index(times.AGE), first))
                self.of = self.of or column.name
            first += len(column.matrix)

    def __bool__(self) -> bool:
        return bool(self._places)

    def fill(self, matrix: np.ndarray, asked: np.ndarray | None) -> None:
        """Writes the ages into float64 (rows, numbers). `asked` has the event times in days, float64 (rows,); None is for no ages only."""
        if self._places and asked is None:
            raise ValueError(f"the age of {self.of} is counted to the event time, which is not given")
        for age, days in self._places:
            matrix[:, age] = asked - matrix[:, days]

    def lacking(self, event_time: str) -> str:
        """What is wrong with a row that has no event time, in words."""
        return f"column {event_time} must not be missing: the age of {self.of} is counted to it"


def spelt_again(column: Column, values: Sequence[float], asked: float | None, zone: tzinfo) -> datetime | None:
    """A time that has the `values` of a logged datetime column: its days, the parts of its calendar, and its age at `asked`, in days. None
    for a missing one.

    Days and age were each rounded to float32, one to a minute and the other maybe to a second, so a time made of one of them seldom has the
    other. The middle of the times that have both does.
    """
    days, *parts = values
    if days != days:
        return None
    calendar = [part for part in column.parts if part != times.AGE]
    given = [value for part, value in zip(column.parts, parts, strict=True) if part != times.AGE]
    if asked is not None and times.AGE in column.parts:
        age = parts[column.parts.index(times.AGE)]
        (low, high), (least, most) = _rounded_to(days, column), _rounded_to(age, column)
        days = (max(low, asked - most) + min(high, asked - least)) / 2
    return times.in_calendar(days, calendar, given, zone)


def _rounded_to(value: float, column: Column) -> tuple[float, float]:
    """The smallest and the largest number that are rounded to `value` in the column's precision."""
    if column.precision == "float64":
        return value, value
    single = np.float32(value)
    below, above = (float(np.nextafter(single, np.float32(end))) for end in (-np.inf, np.inf))
    return (below + float(single)) / 2, (above + float(single)) / 2
