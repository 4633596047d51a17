"""Scores what can be scored of a block of rows, and says of each other row why it is refused, as the live slot would."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pipeline.data import unread
from pipeline.runs.block_columns import cells_of, event_days, output_rows, rows_of, with_breaches
from pipeline.serving.runtime import Runtime
from pipeline.serving.schema import Reader, RowRefused, Rows, times

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class RefusedRow:
    """`row` counts the rows of the interval or the file from 0; `values` are the row's cells, as texts where JSON has no such value."""

    row: int
    reason: str
    values: dict[str, Any] = field(default_factory=dict)


class BlockScorer:
    """One version for all blocks of an interval or a file: a champion that changes meanwhile does not mix.

    Ages of rows without an event time are counted to `as_of`, and `at_as_of` counts these rows; without it they are refused.
    """

    def __init__(
        self, runtime: Runtime, version: str, on_breach: Literal["refuse", "flag"], as_of: datetime | None = None
    ) -> None:
        self._runtime, self._version, self._flag = runtime, version, on_breach == "flag"
        self._as_of, self.at_as_of = times.days(as_of), 0
        # It says of all rows of a block at once which break a rule; a strict one stops at the first.
        self._reader = Reader(runtime.reader.schema, "flag")

    def score(self, block: pa.RecordBatch, first_row: int) -> tuple[pa.Table, list[RefusedRow]]:
        """The output rows of what is scored, as `predict` writes them, and the other rows."""
        import pyarrow as pa

        reader = self._reader
        refused = self._unread(block)
        asked = self._asked(block, refused)
        if not refused and (read := self._whole(block, asked)) is not None:
            return self._written(block, read, first_row), []
        cells = {name: self._cells(block[name], name, refused) for name in self._runtime.features}
        refused |= self._unreadable(cells, asked, 0, len(block))
        good = _without(len(block), refused)
        if len(good) and not self._flag:
            broken = reader.of_arrays(*_picked(cells, asked, good)).breaches
            refused |= {int(good[row]): f"column {rules[0]}" for row, rules in broken.items()}
            good = _without(len(block), refused)
        if len(good):
            read = reader.of_arrays(*_picked(cells, asked, good))
            scored = self._written(block.take(pa.array(good)), read, first_row)
            if "row" in scored.column_names:
                # Of all rows, not of those that are left.
                scored = scored.set_column(scored.column_names.index("row"), "row", pa.array(good + first_row))
        else:
            scored = self.empty(block.schema)
        return scored, [_refused_row(block, row, first_row, refused[row]) for row in sorted(refused)]

    def _asked(self, block: pa.RecordBatch, refused: dict[int, str]) -> np.ndarray | None:
        """To what the ages of the rows are counted, in days, float64 (rows,); None where there are none. A row for which nobody knows is
        `refused`."""
        reader, name = self._reader, self._reader.event_time
        if not reader.ages:
            return None
        while True:
            try:
                asked = event_days(block, reader)
                break
            except RowRefused as error:
                refused.setdefault(error.row, error.fault)
                known = _without_cell(block[name], error.row)
                block = block.set_column(block.schema.get_field_index(name), name, known)
        for row in np.flatnonzero(np.isnan(asked)).tolist():
            if self._as_of is None:
                refused.setdefault(row, reader.ages.lacking(name))
            elif row not in refused:
                asked[row] = self._as_of
                self.at_as_of += 1
        return asked

    def _whole(self, block: pa.RecordBatch, asked: np.ndarray | None) -> Rows | None:
        """The rows as the model takes them; None when one of them is refused."""
        try:
            read = rows_of(block, self._reader, asked)
        except RowRefused:
            return None
        return read if self._flag or not read.breaches else None

    def _written(self, block: pa.RecordBatch, read: Rows, first_row: int) -> pa.Table:
        scored = output_rows(block, self._runtime, self._runtime.predict(read), self._version, first_row)
        return with_breaches(scored, read) if self._flag else scored

    def _cells(self, column: pa.Array, name: str, refused: dict[int, str]) -> np.ndarray:
        """The column's cells; a time that no text can say is missing here, and its row is `refused`."""
        while True:
            try:
                return cells_of(column, self._reader.schema[name])
            except RowRefused as error:
                refused.setdefault(error.row, error.fault)
                column = _without_cell(column, error.row)

    def empty(self, schema: pa.Schema) -> pa.Table:
        """No rows, in the columns that rows would have: those of the golden request's first row show which."""
        import orjson
        import pyarrow as pa

        reader = self._reader
        records = orjson.loads(self._runtime.golden)["request"]["dataframe_records"][:1]
        read = reader.of_records(records)
        nothing = pa.RecordBatch.from_arrays([pa.nulls(1, column.type) for column in schema], names=schema.names)
        return self._written(nothing, read, 0).slice(0, 0)

    def _unread(self, block: pa.RecordBatch) -> dict[int, str]:
        """The rows in which the source could not read a text: their cell is NULL, and must not become a missing value."""
        if unread.COLUMN not in block.schema.names:
            return {}
        features = self._runtime.features
        found: dict[int, str] = {}
        for row, text in enumerate(block[unread.COLUMN].to_pylist()):
            for column, cell in unread.cells(text).items():
                if column in features:
                    kind = "a time" if self._reader.schema[column].kind == "datetime" else "a number"
                    found.setdefault(row, f"column {column} must be {kind}; got {cell!r:.60}")
        return found

    def _unreadable(
        self, cells: dict[str, np.ndarray], asked: np.ndarray | None, start: int, end: int
    ) -> dict[int, str]:
        """By row, why a cell of rows [start, end) is no value of its column. Halves what is refused until single rows are left."""
        if start == end:
            return {}
        try:
            self._reader.of_arrays(*_picked(cells, asked, slice(start, end)))
        except RowRefused as error:
            if end - start == 1:
                return {start: error.fault}
            half = (start + end) // 2
            return self._unreadable(cells, asked, start, half) | self._unreadable(cells, asked, half, end)
        return {}


def _picked(
    cells: dict[str, np.ndarray], asked: np.ndarray | None, rows: np.ndarray | slice
) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    return {name: column[rows] for name, column in cells.items()}, None if asked is None else asked[rows]


def _without_cell(column: pa.Array, row: int) -> pa.Array:
    """The column with a missing value in that row."""
    import pyarrow as pa
    from pyarrow import compute

    return compute.if_else(pa.array(np.arange(len(column)) != row), column, None)


def _without(rows: int, refused: dict[int, str]) -> np.ndarray:
    keep = np.ones(rows, bool)
    keep[list(refused)] = False
    return np.flatnonzero(keep)


def _refused_row(block: pa.RecordBatch, row: int, first_row: int, reason: str) -> RefusedRow:
    texts = unread.cells(block[unread.COLUMN][row].as_py()) if unread.COLUMN in block.schema.names else {}
    cells = {name: block[name][row].as_py() for name in block.schema.names if name != unread.COLUMN}
    return RefusedRow(first_row + row, reason, {name: _as_json(cell) for name, cell in (cells | dict(texts)).items()})


def _as_json(cell: Any) -> Any:
    try:
        json.dumps(cell, allow_nan=False)
    except (TypeError, ValueError):
        return cell.isoformat() if hasattr(cell, "isoformat") else str(cell)
    return cell
