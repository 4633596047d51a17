"""Scores a file of any size with a model's live version, block by block, with the answers that its live slot would give. A row that the
slot would refuse is not in the output, but in a file beside it, with the reason.

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
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipeline.data.csv_files import CsvReader
from pipeline.errors import DataError, RegistryError
from pipeline.ledger.timeline import LiveVersion
from pipeline.registry.versions import Registry
from pipeline.rollout.paired import event_times
from pipeline.runs.block_columns import identifying, probability_column
from pipeline.runs.block_scoring import BlockScorer, RefusedRow
from pipeline.serving import logged_words
from pipeline.serving.runtime import Runtime
from pipeline.serving.schema import Column, times
from pipeline.serving.schema.ages import spelt_again
from pipeline.settings.source import Csv

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK_ROWS = 65_536
LOG_EVERY_S = 2.0
FORMATS = {".parquet": "Parquet", ".csv": "CSV"}
# Of what a part consists: parts of an earlier version are not continued.
PARTS = "scored and refused"
PART_NAME = re.compile(r"^(\d{12})-(\d{12})\.parquet$")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScoringResult:
    """`rows` of the input were read, as many as `scored`, which are in the output, and `refused`, which are in `refused_file`.

    The first `resumed_after` of them were read by a run that was cut off.
    """

    model: str
    version: str
    rows: int
    refused: int
    first_reason: str
    refused_file: str
    resumed_after: int
    wall_s: float

    @property
    def scored(self) -> int:
        return self.rows - self.refused

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "scored": self.scored}

    def sentence(self, output: Path) -> str:
        line = f"{self.model}: {self.scored:,} rows with version {self.version} to {output}, in {self.wall_s:.1f} s"
        if not self.refused:
            return line
        return f"{line}; {self.refused:,} of {self.rows:,} rows refused, the first: {self.first_reason}; all are in {self.refused_file}"


def score(
    registry: Registry,
    model: str,
    source_file: Path,
    output: Path,
    live: LiveVersion | None,
    form: Csv | None = None,
    on_breach: Literal["refuse", "flag"] = "refuse",
) -> ScoringResult:
    """Writes the predictions of the version `live` for the rows of `source_file` to `output`, both Parquet or CSV by suffix, and the rows
    that the slot would refuse to `refused_file(output)`.

    A CSV is written as `form` says, the model's source.csv.
    The output has the key and the event time where the input has them, else `row`, the number from 0; then `prediction` and
    `version`, of classes the likeliest one and a column `probability_CLASS` for each. With `flag`, as its slots have it, a row that breaks
    a rule of the contract is scored, and the column `breaches` names the rules. Raises DataError for a file that is none, or of which
    the whole first block is refused: then no row is right, and the setting is wrong.
    """
    start = time.monotonic()
    for path in (source_file, output):
        if path.suffix not in FORMATS:
            raise DataError(str(path), "ends in neither .parquet nor .csv", "rename it to match its format")
    if output.resolve() == source_file.resolve():
        raise DataError(str(output), "is the input too, and would be lost", "give --output another name")
    if live is None:
        raise RegistryError(
            f"model {model}",
            "has no live version to score with",
            f"deploy one: `perennial retrain {model} --deploy`",
        )
    version = live.version
    runtime = registry.runtime(model, version, live.digest)
    _refuse_one_name(runtime, output)
    scorer = BlockScorer(runtime, version, on_breach)
    csv_key = f"models.{model}.source.csv"
    source = Source(source_file, CsvReader(form or Csv(), csv_key))
    parts = Parts(output, [source.identity(), model, version, runtime.manifest["files"], on_breach, PARTS])
    resumed_after = parts.rows()
    if resumed_after:
        log.info("%s: continues after row %s, where it was cut off", model, f"{resumed_after:,}")
    progress = Progress(model, resumed_after, start)
    rows = resumed_after
    for block in source.blocks(runtime, resumed_after):
        scored, refused = scorer.score(block, rows)
        if rows == 0 and len(block) and not len(scored):
            raise _nothing_fits(source_file, refused, csv_key)
        parts.add(rows, rows + len(block), scored, refused)
        rows += len(block)
        progress.log(rows, source.total)
    if rows == 0:
        raise DataError(str(source_file), "has no rows", "check what writes it")
    refused_rows, first_reason = parts.become_output()
    wall_s = round(time.monotonic() - start, 3)
    beside = str(refused_file(output)) if refused_rows else ""
    return ScoringResult(model, version, rows, refused_rows, first_reason, beside, resumed_after, wall_s)


def refused_file(output: Path) -> Path:
    """Beside the output: one line of JSON for each refused row, with `row`, `reason` and `cells`. It is there only where one is refused."""
    return output.with_name(f"{output.stem}_refused.jsonl")


def written(output: Path) -> list[Path]:
    """All that `score` writes: the output, what is refused, and the parts meanwhile."""
    return [output, refused_file(output), Parts(output, []).folder]


def _nothing_fits(source_file: Path, refused: list[RefusedRow], csv_key: str) -> DataError:
    first = refused[0]
    check = "correct the rows and run again"
    if source_file.suffix == ".csv":
        check += f"; for another decimal sign set {csv_key}.decimal"
    observed = (
        first.reason
        if len(refused) == 1
        else f"{first.reason}, and so are all of the first {len(refused):,} rows refused"
    )
    return DataError(f"{source_file} row {first.row}", observed, check)


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
        beside = ("key", "event_time", "received_at") if nested else identifying(runtime)
        columns += [name for name in beside if name in names]
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
        asked = event_times(batch) if runtime.reader.ages else None
        for column in runtime.reader.fields:
            parts = [name for name in (logged_words.logged(column) or (column.name,)) if name not in names]
            if parts:
                raise self._lacks(parts[0], names)
            columns[column.name] = _logged(column, features, names, runtime.reader.zone, asked)
        for logged, name in zip(("key", "event_time"), identifying(runtime), strict=True):
            if name and logged in batch.schema.names:
                columns[name] = batch[logged]
        if asked is not None:
            columns[runtime.reader.event_time] = pa.array(asked, pa.string())
        return pa.RecordBatch.from_pydict(columns)

    def _csv(self, runtime: Runtime, skip: int) -> Iterator[pa.RecordBatch]:
        names = self._reader.header(self._path)
        if not names:
            return
        columns = [*runtime.features, *(name for name in identifying(runtime) if name in names)]
        self._reader.refuse(self._path, names, columns)
        # All but plain numbers stay texts: the schema says what they mean.
        numbers = runtime.reader.plain_numbers
        texts = [c.name for c in runtime.reader.fields if c.name not in numbers and c.kind != "text"]
        if runtime.reader.ages and runtime.reader.event_time in columns:
            texts.append(runtime.reader.event_time)
        yield from _after(self._reader.batches(self._path, columns, numbers, texts, BLOCK_ROWS), skip)

    def _feature_columns(self, names: list[str], runtime: Runtime) -> list[str]:
        if missing := [name for name in runtime.features if name not in names]:
            raise self._lacks(missing[0], names)
        return list(runtime.features)

    def _lacks(self, column: str, names: list[str]) -> DataError:
        return DataError(str(self._path), f"has no column {column}", f"it has {', '.join(names)}"[:300])


def _logged(
    column: Column, features: pa.StructArray, names: list[str], zone: tzinfo, asked: Sequence[str | None] | None
) -> pa.Array:
    """A column of a prediction log's features as its kind has it: a time from its days and its age at `asked`, and for a text one of its
    size."""
    import pyarrow as pa

    cells = [features.field(names.index(name)) for name in (logged_words.logged(column) or (column.name,))]
    if column.kind == "datetime":
        rows = zip(*(part.to_pylist() for part in cells), strict=True)
        moments = [None] * len(features) if asked is None else [times.days(time) for time in asked]
        instants = [
            None if None in values else spelt_again(column, values, moment, zone)
            for values, moment in zip(rows, moments, strict=True)
        ]
        return pa.array(instants, pa.timestamp("us", tz="UTC"))
    if column.kind == "text":
        if column.groups:
            characters = cells[0].to_numpy(zero_copy_only=False)
            cells[-1:] = map(pa.array, logged_words.of_arrow(cells[-1], column.groups, characters).T)
        sizes = zip(*(part.to_pylist() for part in cells), strict=True)
        return pa.array([None if None in size else column.of_numbers(size) for size in sizes], pa.string())
    return cells[0]


def _after(batches: Any, skip: int) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        if skip >= len(batch):
            skip -= len(batch)
            continue
        yield batch.slice(skip)
        skip = 0


def _refuse_one_name(runtime: Runtime, output: Path) -> None:
    """Raises DataError where the column of a class would have the name of the key or the event time."""
    for name in runtime.classes:
        if probability_column(name) in identifying(runtime):
            raise DataError(
                str(output),
                f"would have two columns {probability_column(name)}: the row's own, and the probability of the class {name}",
                "rename the column in the source, and train with that name",
            )


@dataclass(frozen=True)
class Parts:
    """The finished parts of an output. `made_from` identifies input and version; parts of any other are removed."""

    output: Path
    made_from: list[Any]

    @property
    def folder(self) -> Path:
        return self.output.with_name(f".{self.output.name}.parts")

    def rows(self) -> int:
        """How many rows the parts hold."""
        identity_file = self.folder / "of.json"
        identity = json.dumps(self.made_from, sort_keys=True)
        if not identity_file.is_file() or identity_file.read_text(encoding="utf-8") != identity:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            identity_file.write_text(identity, encoding="utf-8")
        return self._all()[-1][1] if self._all() else 0

    def _all(self) -> list[tuple[int, int, Path]]:
        """(first row, row after the last, file) of each part."""
        names = [(match, path) for path in sorted(self.folder.iterdir()) if (match := PART_NAME.match(path.name))]
        return [(int(match[1]), int(match[2]), path) for match, path in names]

    def add(self, first: int, end: int, table: pa.Table, refused: list[RefusedRow]) -> None:
        """What came of the input's rows [first, end)."""
        import pyarrow.parquet as pq

        path = self.folder / f"{first:012d}-{end:012d}.parquet"
        lines = [
            json.dumps({"row": of.row, "reason": of.reason, "cells": of.values}, ensure_ascii=False) for of in refused
        ]
        # Before the part: a part is whole when it is there.
        path.with_suffix(".jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        pq.write_table(table, path.with_suffix(".writing"))
        os.replace(path.with_suffix(".writing"), path)

    def become_output(self) -> tuple[int, str]:
        """Writes the output from the parts aside, then renames it into place: (the refused rows, the first with its reason)."""
        import pyarrow.parquet as pq
        from pyarrow import csv

        aside, beside = self.folder / "output", self.folder / "refused"
        paths = [path for _, _, path in self._all()]
        schema = pq.read_schema(paths[0])
        writer = csv.CSVWriter if self.output.suffix == ".csv" else pq.ParquetWriter
        count, first = 0, ""
        with writer(str(aside), schema) as file, beside.open("w", encoding="utf-8") as refused:
            for path in paths:
                file.write_table(pq.read_table(path).cast(schema))
                with path.with_suffix(".jsonl").open(encoding="utf-8") as lines:
                    for line in lines:
                        count += 1
                        first = first or "row {row}: {reason}".format(**json.loads(line))
                        refused.write(line)
        if count:
            os.replace(beside, refused_file(self.output))
        else:
            refused_file(self.output).unlink(missing_ok=True)
        os.replace(aside, self.output)
        shutil.rmtree(self.folder)
        return count, first
