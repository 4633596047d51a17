"""Scores a file of any size with a model's live version, block by block, with the answers that its live slot would give.

Each finished block is a part beside the output. A run that was cut off continues after the last part, as long as input and
version are the same. At the end the parts become the output, which appears whole or not at all.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pipeline.data import unread
from pipeline.data.csv_files import CsvReader
from pipeline.errors import DataError, RegistryError
from pipeline.ledger.timeline import LiveVersion
from pipeline.registry.versions import Registry
from pipeline.serving.class_answers import likeliest
from pipeline.serving.runtime import Runtime
from pipeline.serving.schema import Column, Reader, RowRefused, Rows, times
from pipeline.serving.schema.blocks import instants_in_days
from pipeline.serving.schema.spelling import MISSING
from pipeline.settings.source import Csv
from pipeline.training.tasks import PREDICTION

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK_ROWS = 65_536
LOG_EVERY_S = 2.0
FORMATS = {".parquet": "Parquet", ".csv": "CSV"}
PART_NAME = re.compile(r"^(\d{12})-(\d{12})\.parquet$")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScoringResult:
    """`rows` are all rows of the output; the first `resumed_after` of them were scored by a run that was cut off."""

    model: str
    version: str
    rows: int
    resumed_after: int
    wall_s: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def score(
    registry: Registry,
    model: str,
    source_file: Path,
    output: Path,
    live: LiveVersion | None,
    form: Csv | None = None,
    on_breach: Literal["refuse", "flag"] = "refuse",
) -> ScoringResult:
    """Writes the predictions of the version `live` for all rows of `source_file` to `output`, both Parquet or CSV by suffix.

    A CSV is written as `form` says, the model's source.csv.
    The output has the key and the event time where the input has them, else `row`, the number from 0; then `prediction` and
    `version`, of classes the likeliest one and a column `probability_CLASS` for each. Raises DataError for a row that breaks the model's contract; the parts before it stay. With `flag`, as its slots have it,
    such a row is scored, and the column `breaches` names the rules.
    """
    start = time.monotonic()
    for path in (source_file, output):
        if path.suffix not in FORMATS:
            raise DataError(str(path), "ends in neither .parquet nor .csv", "rename it to match its format")
    if live is None:
        raise RegistryError(
            f"model {model}",
            "has no live version to score with",
            f"deploy one: `perennial retrain {model} --deploy`",
        )
    version = live.version
    runtime = registry.runtime(model, version, live.digest)
    runtime.reader = Reader(runtime.reader.schema, on_breach)
    _refuse_one_name(runtime, output)
    source = Source(source_file, CsvReader(form or Csv(), f"models.{model}.source.csv"))
    parts = Parts(output, [source.identity(), model, version, runtime.manifest["files"], on_breach])
    resumed_after = parts.rows()
    if resumed_after:
        log.info("%s: continues after row %s, where it was cut off", model, f"{resumed_after:,}")
    progress = Progress(model, resumed_after, start)
    rows = resumed_after
    for block in source.blocks(runtime, resumed_after):
        read = _rows_of(block, runtime, source_file, rows)
        scored = output_rows(block, runtime, runtime.predict(read), version, rows)
        parts.add(rows, scored if on_breach == "refuse" else with_breaches(scored, read))
        rows += len(block)
        progress.log(rows, source.total)
    if rows == 0:
        raise DataError(str(source_file), "has no rows", "check what writes it")
    parts.become_output()
    return ScoringResult(model, version, rows, resumed_after, round(time.monotonic() - start, 3))


class Progress:
    """Logs how far a scoring is, and its rows a second, at most once in LOG_EVERY_S."""

    def __init__(self, model: str, resumed_after: int, started: float) -> None:
        self._model = model
        self._resumed_after = resumed_after
        self._started = self._logged_at = started

    def log(self, rows: int, total: int | None) -> None:
        now = time.monotonic()
        if now - self._logged_at <= LOG_EVERY_S:
            return
        self._logged_at = now
        pace = (rows - self._resumed_after) / (now - self._started)
        of_total = f" of {total:,}" if total is not None else ""
        log.info("%s: %s%s rows, %s a second", self._model, f"{rows:,}", of_total, f"{pace:,.0f}")


class Source:
    """The file that is scored, read in blocks."""

    def __init__(self, path: Path, csv: CsvReader | None = None) -> None:
        self._path = path
        self._reader = csv or CsvReader(Csv())
        # Known once a Parquet file is open.
        self.total: int | None = None

    def identity(self) -> list[Any]:
        """[path, bytes, time of last change in ns]: another file, or this one after a change, has another identity."""
        try:
            status = self._path.stat()
        except OSError as error:
            raise DataError(str(self._path), f"cannot be read ({error.strerror})", "check the path") from error
        return [str(self._path.resolve()), status.st_size, status.st_mtime_ns]

    def blocks(self, runtime: Runtime, skip: int) -> Iterator[pa.RecordBatch]:
        """Batches of the columns that scoring needs, after the first `skip` rows. Raises DataError."""
        import pyarrow as pa

        read = self._parquet if self._path.suffix == ".parquet" else self._csv
        try:
            yield from read(runtime, skip)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            observed = f"cannot be read as {FORMATS[self._path.suffix]} ({str(error).splitlines()[0][:200]})"
            raise DataError(str(self._path), observed, "check that it is complete") from error

    def _parquet(self, runtime: Runtime, skip: int) -> Iterator[pa.RecordBatch]:
        import pyarrow.parquet as pq

        # With pre_buffer Arrow holds all that it has read until the end of the file.
        file = pq.ParquetFile(self._path, pre_buffer=False)
        self.total = file.metadata.num_rows
        names = file.schema_arrow.names
        nested = "features" in names and "features" not in runtime.features
        columns = ["features"] if nested else self._feature_columns(names, runtime)
        columns += [name for name in (("key", "event_time") if nested else identifying(runtime)) if name in names]
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
        """A prediction log's columns under the model's own names."""
        import pyarrow as pa

        features = batch["features"]
        names = [field.name for field in features.type]
        columns = {}
        for column in runtime.reader.fields:
            parts = [name for name in (column.matrix or (column.name,)) if name not in names]
            if parts:
                raise self._lacks(parts[0], names)
            columns[column.name] = _logged(column, features, names, runtime.reader.zone)
        for logged, name in zip(("key", "event_time"), identifying(runtime), strict=True):
            if name and logged in batch.schema.names:
                columns[name] = batch[logged]
        return pa.RecordBatch.from_pydict(columns)

    def _csv(self, runtime: Runtime, skip: int) -> Iterator[pa.RecordBatch]:
        names = self._reader.header(self._path)
        if not names:
            return
        columns = [*runtime.features, *(name for name in identifying(runtime) if name in names)]
        self._reader.refuse(self._path, names, columns)
        row = 0
        # All but plain numbers stay texts: the schema says what they mean.
        numbers = runtime.reader.plain_numbers
        texts = [c.name for c in runtime.reader.fields if c.name not in numbers and c.kind != "text"]
        for batch in self._reader.batches(self._path, columns, numbers, texts, BLOCK_ROWS):
            self._refuse_unread(batch, row)
            row += len(batch)
            yield from _after([batch], max(0, skip - (row - len(batch))))

    def _refuse_unread(self, batch: pa.RecordBatch, first_row: int) -> None:
        """Raises DataError for the first row with a text that is no number."""
        texts = batch[unread.COLUMN]
        if texts.null_count < len(batch):
            at = next(i for i, text in enumerate(texts) if text.is_valid)
            column, text = next(iter(unread.cells(texts[at].as_py()).items()))
            raise DataError(
                f"{self._path} row {first_row + at}",
                f"column {column} must be a number; got {text!r:.60}",
                f"correct the row and run again; for another decimal sign set {self._reader.key}.decimal",
            )

    def _feature_columns(self, names: list[str], runtime: Runtime) -> list[str]:
        if missing := [name for name in runtime.features if name not in names]:
            raise self._lacks(missing[0], names)
        return list(runtime.features)

    def _lacks(self, column: str, names: list[str]) -> DataError:
        return DataError(str(self._path), f"has no column {column}", f"it has {', '.join(names)}"[:300])


def _logged(column: Column, features: pa.StructArray, names: list[str], zone: tzinfo) -> pa.Array:
    """A column of a prediction log's features as its kind has it: a time from its days, and for a text one of its size."""
    import pyarrow as pa

    cells = [features.field(names.index(name)) for name in (column.matrix or (column.name,))]
    if column.kind == "datetime":
        rows = zip(*(part.to_pylist() for part in cells), strict=True)
        instants = [
            None if value is None or value != value else times.in_calendar(value, column.parts, given, zone)
            for value, *given in rows
        ]
        return pa.array(instants, pa.timestamp("us", tz="UTC"))
    if column.kind == "text":
        sizes = zip(*(part.to_pylist() for part in cells), strict=True)
        return pa.array([None if None in size else column.of_numbers(size) for size in sizes], pa.string())
    return cells[0]


def identifying(runtime: Runtime) -> tuple[str, str]:
    """(key column, event time column): they are copied to the output."""
    return runtime.reader.key, runtime.reader.event_time


def _after(batches: Any, skip: int) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        if skip >= len(batch):
            skip -= len(batch)
            continue
        yield batch.slice(skip)
        skip = 0


def _rows_of(block: pa.RecordBatch, runtime: Runtime, file: Path, first_row: int) -> Rows:
    """The model's input. Raises DataError that names the first row, counted from 0, that breaks the contract."""
    reader = runtime.reader
    try:
        return reader.of_arrays({name: cells_of(block[name], reader.schema[name]) for name in runtime.features})
    except RowRefused as error:
        raise DataError(f"{file} row {first_row + error.row}", error.fault, "correct the row and run again") from error


def cells_of(column: pa.Array, read_as: Column) -> np.ndarray:
    """The cells as the schema reads them: float64 for numbers, and for times with a zone, else one object or one time a cell.

    In a column of float64 the schema refuses a file's float32 with lost digits.
    """
    import pyarrow as pa

    number = read_as.kind in ("number", "integer")
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
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
    import pyarrow as pa

    names = [name for name in identifying(runtime) if name and name in block.schema.names]
    columns: dict[str, Any] = {name: block[name] for name in names}
    if not names:
        columns["row"] = np.arange(first_row, first_row + len(block))
    classes = runtime.classes
    said = likeliest(predictions, classes) if classes else predictions
    columns = {**columns, PREDICTION: said, "version": [version] * len(block)}
    return pa.table({**columns, **{_probability(name): predictions[:, i] for i, name in enumerate(classes)}})


def _probability(name: str) -> str:
    return f"probability_{name}"


def _refuse_one_name(runtime: Runtime, output: Path) -> None:
    """Raises DataError where the column of a class would have the name of the key or the event time."""
    for name in runtime.classes:
        if _probability(name) in identifying(runtime):
            raise DataError(
                str(output),
                f"would have two columns {_probability(name)}: the row's own, and the probability of the class {name}",
                "rename the column in the source, and train with that name",
            )


def with_breaches(scored: pa.Table, read: Rows) -> pa.Table:
    """The table with the rules that each row breaks, as a JSON list; NULL for none."""
    import pyarrow as pa

    broken = [json.dumps(read.breaches[row]) if row in read.breaches else None for row in range(len(read))]
    return scored.append_column("breaches", pa.array(broken, pa.string()))


@dataclass(frozen=True)
class Parts:
    """The finished parts of an output. `made_from` identifies input and version; parts of any other are removed."""

    output: Path
    made_from: list[Any]

    @property
    def _folder(self) -> Path:
        return self.output.with_name(f".{self.output.name}.parts")

    def rows(self) -> int:
        """How many rows the parts hold."""
        identity_file = self._folder / "of.json"
        identity = json.dumps(self.made_from, sort_keys=True)
        if not identity_file.is_file() or identity_file.read_text(encoding="utf-8") != identity:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir(parents=True)
            identity_file.write_text(identity, encoding="utf-8")
        return self._all()[-1][1] if self._all() else 0

    def _all(self) -> list[tuple[int, int, Path]]:
        """(first row, row after the last, file) of each part."""
        names = [(match, path) for path in sorted(self._folder.iterdir()) if (match := PART_NAME.match(path.name))]
        return [(int(match[1]), int(match[2]), path) for match, path in names]

    def add(self, first: int, table: pa.Table) -> None:
        import pyarrow.parquet as pq

        path = self._folder / f"{first:012d}-{first + len(table):012d}.parquet"
        pq.write_table(table, path.with_suffix(".writing"))
        os.replace(path.with_suffix(".writing"), path)

    def become_output(self) -> None:
        """Writes the output from the parts aside, then renames it into place."""
        import pyarrow.parquet as pq
        from pyarrow import csv

        aside = self._folder / "output"
        paths = [path for _, _, path in self._all()]
        schema = pq.read_schema(paths[0])
        writer = csv.CSVWriter if self.output.suffix == ".csv" else pq.ParquetWriter
        with writer(str(aside), schema) as file:
            for path in paths:
                file.write_table(pq.read_table(path).cast(schema))
        os.replace(aside, self.output)
        shutil.rmtree(self._folder)
