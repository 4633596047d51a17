"""Many cells of one column at once, as files and frames have them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, tzinfo
from typing import Any

import numpy as np

from pipeline.serving.errors import BadRequest
from pipeline.serving.schema import texts, times
from pipeline.serving.schema.ages import Ages
from pipeline.serving.schema.columns import Column
from pipeline.serving.schema.spelling import Unreadable, shown

IN_YEARS = "a time in the years 1 to 9999"
FIRST, LAST = np.datetime64("0001-01-01T00:00:00", "s"), np.datetime64("9999-12-31T23:59:59", "s")


class RowRefused(BadRequest):
    """`row`, counted from 0, cannot be read or breaks the contract: its column and why are the `fault`."""

    def __init__(self, row: int, fault: str, kind: str = "value") -> None:
        super().__init__(f"row {row}: {fault}", kind)
        self.row, self.fault = row, fault


def number_block(column: Column, cells: np.ndarray, zone: tzinfo = UTC) -> np.ndarray:
    """Many cells of one column in its columns of the matrix, float64 (rows, matrix), of texts float32; `cells` as for `of_arrays`. Raises
    RowRefused."""
    if cells.dtype == "float64" and column.kind != "text":
        return _with_parts(column, cells, zone)
    if cells.dtype.kind == "M" and zone is UTC and column.kind == "datetime":
        return _with_parts(column, instants_in_days(column, cells), zone)
    values = values_of(column, cells, zone)
    if column.kind == "text":
        return texts.block(values, column.groups)
    return np.array([column.numbers(value, zone) for value in values]).reshape(len(cells), len(column.matrix))


def _with_parts(column: Column, numbers: np.ndarray, zone: tzinfo) -> np.ndarray:
    """The numbers, float64 (rows,), with the parts of times beside them."""
    if not column.parts:
        return numbers[:, None]
    return np.column_stack([numbers, times.calendars(numbers, column.parts, zone)])


def instants_in_days(column: Column, instants: np.ndarray) -> np.ndarray:
    """Times in UTC, datetime64 of any unit, as a model gets them, float64. Raises RowRefused for one that no text can say."""
    seconds = instants.astype("datetime64[s]")
    outside = np.flatnonzero((seconds < FIRST) | (seconds > LAST))
    if len(outside):
        raise RowRefused(int(outside[0]), f"column {column.name} must be {IN_YEARS}")
    return times.days_of(instants)


def values_of(column: Column, cells: np.ndarray, zone: tzinfo) -> list[Any]:
    """The values of the cells, each different one read once; None for a missing one. Raises RowRefused."""
    read: dict[Any, Any] = {}
    values = []
    # Of times finer than a microsecond numpy makes whole numbers.
    for row, cell in enumerate(cells if cells.dtype.kind == "M" else cells.tolist()):
        try:
            # By type too: 1, 1.0 and True are equal, and not the same text. NaN is equal to nothing.
            spelt = (type(cell), None if cell != cell else cell)
            if spelt not in read:
                read[spelt] = column.read(cell, zone)
            values.append(read[spelt])
        except Unreadable as error:
            raise RowRefused(row, f"column {column.name} {error}") from None
        except TypeError:
            raise RowRefused(row, f"column {column.name} must be one value; got {shown(cell)}") from None
        except OverflowError:
            raise RowRefused(row, f"column {column.name} must be {IN_YEARS}") from None
    return values


def number_matrix(frame: Any, columns: Sequence[Column], zone: tzinfo = UTC, event_time: str = "") -> np.ndarray:
    """The matrix of numbers, in the columns' precision, of a pandas frame that has them in their neutral form: times with a zone. `zone`
    is that of the parts of times, and ages are counted to the column `event_time`."""
    numbers = [column for column in columns if not column.is_category]
    doubles = np.array([column.precision == "float64" for column in numbers for _ in column.matrix], bool)
    asked = times.days_of(frame[event_time].to_numpy("datetime64[us]")) if event_time and Ages(numbers) else None
    matrix = np.empty((len(frame), len(doubles)), "float64" if doubles.any() else "float32")
    # Column by column: the groups of words of a text are many, and no more than one copy of them is held beside the matrix.
    end = 0
    for column in numbers:
        start, end = end, end + len(column.matrix)
        block = _of_frame(frame[column.name], column, zone)
        Ages([column]).fill(block, asked)
        matrix[:, start:end] = held(block, doubles[start:end])
    return matrix


def held(matrix: np.ndarray, doubles: np.ndarray) -> np.ndarray:
    """Numbers, float64 (rows, numbers), as a model takes them: rounded to float32 but for `doubles`, bool (numbers,). What is too large is
    infinite."""
    matrix = positive_zeros(matrix)
    with np.errstate(over="ignore"):
        singles = matrix.astype("float32")
    return np.where(doubles, matrix, singles) if doubles.any() else singles


def positive_zeros(matrix: np.ndarray) -> np.ndarray:
    """The same numbers with 0 for -0.0: a model that splits on the sign must not see two values."""
    return matrix + 0.0


def _of_frame(cells: Any, column: Column, zone: tzinfo) -> np.ndarray:
    match column.kind:
        case "datetime":
            return _with_parts(column, instants_in_days(column, cells.to_numpy("datetime64[us]")), zone)
        case "text":
            return number_block(column, cells.astype(object).where(cells.notna(), None).to_numpy())
    return cells.to_numpy("float64")[:, None]
