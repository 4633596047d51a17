"""The columns of a block of rows: as the model takes them, and as its answers are written."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.serving.class_answers import likeliest
from pipeline.serving.runtime import Runtime
from pipeline.serving.schema import Column, Reader, Rows
from pipeline.serving.schema.blocks import instants_in_days
from pipeline.serving.schema.spelling import MISSING
from pipeline.training.tasks import PREDICTION

if TYPE_CHECKING:
    import pyarrow as pa


def identifying(runtime: Runtime) -> tuple[str, str]:
    """(key column, event time column): they are copied to the output."""
    return runtime.reader.key, runtime.reader.event_time


def rows_of(block: pa.RecordBatch, reader: Reader, asked: np.ndarray | None = None) -> Rows:
    """The model's input. Raises RowRefused for the first row, counted from 0, that breaks the contract. Ages are counted to `asked`, of
    `event_days`."""
    return reader.of_arrays({name: cells_of(block[name], reader.schema[name]) for name in reader.names}, asked)


def event_days(block: pa.RecordBatch, reader: Reader) -> np.ndarray:
    """The event times of the rows in days, float64 (rows,); NaN where a row, or the whole block, has none. Raises RowRefused."""
    if reader.event_time not in block.schema.names:
        return np.full(len(block), np.nan)
    return reader.event_days(cells_of(block[reader.event_time], Column(reader.event_time, "datetime")))


def cells_of(column: pa.Array, read_as: Column) -> np.ndarray:
    """The cells as the schema reads them: float64 for numbers, and for times with a zone, else one object or one time a cell.

    In a column of float64 the schema refuses a file's float32 with lost digits.
    """
    import pyarrow as pa

    number = read_as.kind in ("number", "integer")
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if number and pa.types.is_duration(column.type):
        # The number that the file holds, as DuckDB reads it for the source.
        column = column.cast(pa.int64())
    held = column.type
    single = read_as.precision == "float64" and pa.types.is_floating(held) and held.bit_width < 64
    if number and not single and (pa.types.is_integer(held) or pa.types.is_floating(held) or pa.types.is_decimal(held)):
        return column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    if read_as.kind == "datetime" and pa.types.is_timestamp(held):
        instants = column.to_numpy(zero_copy_only=False)
        return instants_in_days(read_as, instants) if held.tz is not None else instants
    if number and pa.types.is_string(held) and (read := _numbers(column)) is not None:
        return read
    # A float as numpy has it: the text of a float32 is shorter than that of the double beside it.
    cells = column.to_numpy(zero_copy_only=False) if pa.types.is_floating(held) else column.to_pylist()
    objects = np.empty(len(column), object)
    objects[:] = list(cells)
    return objects


def _numbers(column: pa.Array) -> np.ndarray | None:
    """A CSV's texts as numbers; None where Arrow reads one in another way than the schema, or cannot."""
    import pyarrow as pa
    from pyarrow import compute

    texts = compute.ascii_trim_whitespace(column)
    texts = compute.if_else(compute.is_in(texts, pa.array(sorted(MISSING))), None, texts)
    try:
        numbers = texts.cast(pa.float64())
    except pa.ArrowInvalid:
        return None
    read = numbers.to_numpy(zero_copy_only=False)
    return read if int(np.isnan(read).sum()) == numbers.null_count else None


def output_rows(
    block: pa.RecordBatch, runtime: Runtime, predictions: np.ndarray, version: str, first_row: int
) -> pa.Table:
    """The answers as they are written, with the key and the event time where the block has them, else `row`."""
    import pyarrow as pa

    names = [name for name in identifying(runtime) if name and name in block.schema.names]
    columns: dict[str, Any] = {name: block[name] for name in names}
    if not names:
        columns["row"] = np.arange(first_row, first_row + len(block))
    classes = runtime.classes
    said = likeliest(predictions, classes) if classes else predictions
    columns = {**columns, PREDICTION: said, "version": [version] * len(block)}
    return pa.table({**columns, **{probability_column(name): predictions[:, i] for i, name in enumerate(classes)}})


def probability_column(name: str) -> str:
    return f"probability_{name}"


def with_breaches(scored: pa.Table, read: Rows) -> pa.Table:
    """The table with the rules that each row breaks, as a JSON list; NULL for none."""
    import pyarrow as pa

    broken = [json.dumps(read.breaches[row]) if row in read.breaches else None for row in range(len(read))]
    return scored.append_column("breaches", pa.array(broken, pa.string()))
