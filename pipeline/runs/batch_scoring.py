"""Scores a file of any size with a model's champion, block by block, as its live slot would answer.

Each block that is done is a part beside the output: a run that was cut short goes on after the last of them, as long as
input and version are the same. At the end the parts become the output, which appears at once and whole.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from csv import reader as read_csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import DataError, RegistryError
from pipeline.registry.versions import Registry
from pipeline.serving.runtime import Runtime
from pipeline.serving.signature import LARGEST, Field, Rows
from pipeline.training.evaluate import PREDICTION

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK_ROWS = 65_536
SAY_EVERY_S = 2.0
KINDS = {".parquet": "Parquet", ".csv": "CSV"}
PART = re.compile(r"^(\d{12})-(\d{12})\.parquet$")


def score(registry: Registry, model: str, given: Path, output: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Writes the predictions for all rows of `given` to `output`, each Parquet or CSV by its name.

    The output has the key and the event time where the input has them, else `row`, the number from 0; `prediction`, and
    `version`. Returns {"model", "version", "rows", "resumed_after", "wall_s"}. Raises DataError for a row that does not
    keep the model's contract; the parts before it stay.
    """
    start = time.monotonic()
    for path in (given, output):
        if path.suffix not in KINDS:
            raise DataError(str(path), "is neither .parquet nor .csv", "name it by what it is")
    version = registry.champion(model)
    if version is None:
        raise RegistryError(
            f"model {model}", "has no champion to ask", f"`python -m pipeline retrain {model} --deploy`"
        )
    runtime = Runtime.load(registry.package_folder(model, version))
    source = Source(given)
    parts = Parts(output, [source.identity(), model, version, runtime.manifest["files"]])
    resumed = done = parts.rows()
    if resumed:
        say(f"goes on after row {resumed:,}, where it was cut short")
    said = start
    for block in source.blocks(runtime, done):
        predictions = runtime.predict(_rows_of(block, runtime, given, done))
        parts.add(done, _answered(block, runtime, predictions, version, done))
        done += len(block)
        if time.monotonic() - said > SAY_EVERY_S:
            said = time.monotonic()
            say(f"{done:,}{source.of()} rows, {(done - resumed) / (said - start):,.0f} a second")
    if done == 0:
        raise DataError(str(given), "has no rows", "look at what writes it")
    parts.become_output()
    wall_s = time.monotonic() - start
    return {"model": model, "version": version, "rows": done, "resumed_after": resumed, "wall_s": round(wall_s, 3)}


class Source:
    """The file that is scored, read in blocks."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._total: int | None = None

    def identity(self) -> list[Any]:
        """What tells this file from another, or from itself before it was changed."""
        try:
            told = self._path.stat()
        except OSError as error:
            raise DataError(str(self._path), f"cannot be read ({error.strerror})", "is it there?") from error
        return [str(self._path.resolve()), told.st_size, told.st_mtime_ns]

    def of(self) -> str:
        return f" of {self._total:,}" if self._total is not None else ""

    def blocks(self, runtime: Runtime, skip: int) -> Iterator[pa.RecordBatch]:
        """Batches of the columns that are wanted, after the first `skip` rows. Raises DataError."""
        import pyarrow as pa

        reading = self._parquet if self._path.suffix == ".parquet" else self._csv
        try:
            yield from reading(runtime, skip)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            observed = f"cannot be read as {KINDS[self._path.suffix]} ({str(error).splitlines()[0][:200]})"
            raise DataError(
                str(self._path), observed, "is it whole, and a number in every column of numbers?"
            ) from error

    def _parquet(self, runtime: Runtime, skip: int) -> Iterator[pa.RecordBatch]:
        import pyarrow.parquet as pq

        # With pre_buffer Arrow holds all that it has read until the end of the file.
        file = pq.ParquetFile(self._path, pre_buffer=False)
        self._total = file.metadata.num_rows
        names = file.schema_arrow.names
        nested = "features" in names and "features" not in runtime.features
        columns = ["features"] if nested else self._wanted(names, runtime)
        columns += [name for name in (("key", "event_time") if nested else _carried(runtime)) if name in names]
        groups, before = [], 0
        for group in range(file.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            if before + count > skip:
                groups.append(group)
            else:
                before += count
        batches = file.iter_batches(BLOCK_ROWS, row_groups=groups, columns=columns, use_threads=False)
        for batch in _after(batches, skip - before):
            yield self._flat(batch, runtime) if nested else batch

    def _flat(self, batch: pa.RecordBatch, runtime: Runtime) -> pa.RecordBatch:
        """A prediction log's columns by the names that the model has for them."""
        import pyarrow as pa

        features = batch["features"]
        names = [one.name for one in features.type]
        columns = {name: features.field(names.index(name)) for name in self._wanted(names, runtime)}
        for own, name in zip(("key", "event_time"), _carried(runtime), strict=True):
            if own in batch.schema.names:
                columns[name] = batch[own]
        return pa.RecordBatch.from_pydict(columns)

    def _csv(self, runtime: Runtime, skip: int) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa
        from pyarrow import csv

        with self._path.open(encoding="utf-8", newline="") as file:
            names = next(read_csv(file), [])
        columns = self._wanted(names, runtime) + [name for name in _carried(runtime) if name in names]
        kinds = {name: pa.float64() if name in runtime.signature.numbers else pa.string() for name in columns}
        options = csv.ConvertOptions(column_types=kinds, include_columns=columns, strings_can_be_null=False)
        reading = csv.ReadOptions(use_threads=False, block_size=8 * 2**20)
        yield from _after(csv.open_csv(self._path, reading, convert_options=options), skip)

    def _wanted(self, names: list[str], runtime: Runtime) -> list[str]:
        if missing := [name for name in runtime.features if name not in names]:
            raise DataError(str(self._path), f"has no column {missing[0]}", f"it has {', '.join(names)}"[:300])
        return list(runtime.features)


def _carried(runtime: Runtime) -> tuple[str, str]:
    return runtime.signature.key, runtime.signature.event_time


def _after(batches: Any, skip: int) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        if skip >= len(batch):
            skip -= len(batch)
            continue
        yield batch.slice(skip)
        skip = 0


def _rows_of(block: pa.RecordBatch, runtime: Runtime, given: Path, at: int) -> Rows:
    """What the model takes. Raises DataError naming the first row, counted from 0, that breaks the contract."""
    fields = {f.name: f for f in runtime.signature.fields}
    numbers = [_numbers(block[n], fields[n], given, at) for n in runtime.signature.numbers]
    texts = [_texts(block[n], fields[n], given, at) for n in runtime.signature.texts]
    nothing = [None] * len(block)
    return Rows(_matrix(numbers, len(block), "float32"), _matrix(texts, len(block), object), nothing, nothing)


def _matrix(columns: list[np.ndarray], rows: int, dtype: Any) -> np.ndarray:
    matrix = np.empty((rows, len(columns)), dtype)
    for i, column in enumerate(columns):
        matrix[:, i] = column
    return matrix


def _numbers(column: pa.Array, field: Field, given: Path, at: int) -> np.ndarray:
    import pyarrow as pa

    kind = column.type
    if not (
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind)
    ):
        raise DataError(str(given), f"column {field.name} is {kind}, not a number", "look at what writes it")
    values = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    missing = np.isnan(values)
    bad = np.abs(values) > LARGEST
    if not field.nullable:
        bad |= missing
    if field.integer:
        bad |= ~missing & (values != np.floor(values))
    if field.allowed:
        bad |= ~missing & ~np.isin(values, np.array(field.allowed, "float64"))
    _refuse_first(bad, values, field, given, at)
    return values


def _texts(column: pa.Array, field: Field, given: Path, at: int) -> np.ndarray:
    import pyarrow as pa

    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type) or pa.types.is_null(column.type)):
        if not pa.types.is_dictionary(column.type):
            raise DataError(str(given), f"column {field.name} is {column.type}, not text", "look at what writes it")
        column = column.cast(pa.string())
    values = column.cast(pa.string()).fill_null("").to_numpy(zero_copy_only=False)
    bad = np.zeros(len(values), bool)
    if not field.nullable:
        bad |= values == ""
    if field.allowed:
        bad |= ~np.isin(values, [*field.allowed, *([""] if field.nullable else [])])
    _refuse_first(bad, values, field, given, at)
    return values


def _refuse_first(bad: np.ndarray, values: np.ndarray, field: Field, given: Path, at: int) -> None:
    if bad.any():
        row = int(bad.argmax())
        value = values[row].item() if field.number else values[row] or None
        raise DataError(
            f"{given} row {at + row}", f"column {field.name} {field.fault(value)}", "correct it, and run it again"
        )


def _answered(block: pa.RecordBatch, runtime: Runtime, predictions: np.ndarray, version: str, at: int) -> pa.Table:
    import pyarrow as pa

    names = [name for name in _carried(runtime) if name in block.schema.names]
    columns: dict[str, Any] = {name: block[name] for name in names}
    if not names:
        columns["row"] = np.arange(at, at + len(block))
    return pa.table({**columns, PREDICTION: predictions, "version": [version] * len(block)})


@dataclass(frozen=True)
class Parts:
    """What is done of an output. `of` says what it is made from; parts of anything else are thrown away."""

    output: Path
    of: list[Any]

    @property
    def _folder(self) -> Path:
        return self.output.with_name(f".{self.output.name}.parts")

    def rows(self) -> int:
        """How many rows are done."""
        told = self._folder / "of.json"
        mine = json.dumps(self.of, sort_keys=True)
        if not told.is_file() or told.read_text(encoding="utf-8") != mine:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir(parents=True)
            told.write_text(mine, encoding="utf-8")
        return self._all()[-1][1] if self._all() else 0

    def _all(self) -> list[tuple[int, int, Path]]:
        """(first row, row after the last, file) of each part."""
        found = [(told, path) for path in sorted(self._folder.iterdir()) if (told := PART.match(path.name))]
        return [(int(told[1]), int(told[2]), path) for told, path in found]

    def add(self, first: int, table: pa.Table) -> None:
        import pyarrow.parquet as pq

        path = self._folder / f"{first:012d}-{first + len(table):012d}.parquet"
        pq.write_table(table, path.with_suffix(".writing"))
        os.replace(path.with_suffix(".writing"), path)

    def become_output(self) -> None:
        """Writes the output from the parts, aside, and puts it in its place."""
        import pyarrow.parquet as pq
        from pyarrow import csv

        aside = self._folder / "output"
        paths = [path for _, _, path in self._all()]
        schema = pq.read_schema(paths[0])
        writer = csv.CSVWriter if self.output.suffix == ".csv" else pq.ParquetWriter
        with writer(str(aside), schema) as writing:
            for path in paths:
                writing.write_table(pq.read_table(path).cast(schema))
        os.replace(aside, self.output)
        shutil.rmtree(self._folder)
