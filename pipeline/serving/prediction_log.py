"""The prediction log: each request's rows and predictions as Parquet, for the monitor to read and for labels to join.

No answer waits for it: the rows go into a queue, and a thread writes them twice a second. When the disk is full or the thread
falls behind, the server goes on answering and counts the rows that it could not log.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline.serving import log_files
from pipeline.serving.schema import Reader, Rows

FLUSH_S = 0.5
# So many files of one level are merged into one of the next, unless that would be larger than this: a merge must not delay the
# next part.
MERGE_COUNT, MAX_MERGED_BYTES = 32, 16 * 2**20
MAX_QUEUED_ROWS = 200_000
STEP_ROWS = 4096


class AnsweredRequest(NamedTuple):
    """One answered request. `received_at` is in seconds since 1970; `predictions` is float64 (rows,); a golden one is no traffic."""

    request_id: str
    received_at: float
    rows: Rows
    predictions: np.ndarray
    golden: bool = False


class PredictionLog:
    """Writes the log of one process into `folder`; calls `on_lost(rows)` for rows that could not be logged."""

    def __init__(
        self,
        folder: Path,
        slot: str,
        version: str,
        schema: LogSchema,
        on_lost: Callable[[int], None],
    ) -> None:
        self._folder, self._schema, self._on_lost = folder, schema, on_lost
        self._stem = f"{slot}-v{version}-{os.getpid()}.{time.time_ns()}"
        self._queue: deque[AnsweredRequest] = deque()
        # Rows. Each counter is changed by one thread only; their difference is the length of the queue.
        self._added = self._taken = 0
        self._parts, self._levels = 0, Levels()
        # The parts of the last merge, which a reader may still have open.
        self._superseded: list[Path] = []
        # A disk that is full now may have room later.
        with contextlib.suppress(OSError):
            log_files.make_private(folder)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write_queue, name="prediction-log", daemon=True)
        self._thread.start()

    def add(self, answered: AnsweredRequest) -> None:
        """Queues an answered request; never waits."""
        rows = len(answered.rows)
        if self._added - self._taken + rows > MAX_QUEUED_ROWS:
            self._on_lost(rows)
            return
        self._added += rows
        self._queue.append(answered)

    def close(self) -> None:
        """Writes the rest of the queue and stops."""
        self._stop.set()
        self._thread.join(timeout=10)

    def _write_queue(self) -> None:
        stopped = False
        while not stopped:
            stopped = self._stop.wait(FLUSH_S)
            requests = [self._queue.popleft() for _ in range(len(self._queue))]
            if requests:
                self._taken += sum(len(r.rows) for r in requests)
                self._write_part(requests)

    def _write_part(self, requests: list[AnsweredRequest]) -> None:
        path = self._folder / log_files.file_name(self._stem, self._parts, self._parts)
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            log_files.write(path, self._schema.table(requests))
        except OSError:
            self._on_lost(sum(len(r.rows) for r in requests))
            return
        self._parts += 1
        self._levels.add(0, path)
        while due := self._levels.take_due():
            self._merge(*due)

    def _merge(self, level: int, paths: list[Path]) -> None:
        first, last = (log_files.FILE_NAME.match(p.name) for p in (paths[0], paths[-1]))
        assert first is not None and last is not None
        target = self._folder / log_files.file_name(self._stem, int(first["first"]), int(last["last"]))
        try:
            log_files.write(target, log_files.merged(paths))
            self._levels.add(level + 1, target)
        except OSError:
            # No row is lost: the parts stay as they are.
            return
        # A reader that has listed these parts may still open them; by now it has read those of the merge before.
        for path in self._superseded:
            path.unlink(missing_ok=True)
        self._superseded = paths


class Levels:
    """The files that wait to be merged, by level: how often their rows were merged already."""

    def __init__(self) -> None:
        self._waiting: dict[int, list[Path]] = {}

    def add(self, level: int, path: Path) -> None:
        if path.stat().st_size * MERGE_COUNT <= MAX_MERGED_BYTES or level == 0:
            self._waiting.setdefault(level, []).append(path)

    def take_due(self) -> tuple[int, list[Path]] | None:
        """Removes and returns (level, the files of it that are due to be merged); None when none are due."""
        for level, paths in self._waiting.items():
            if len(paths) >= MERGE_COUNT:
                self._waiting[level] = []
                return level, paths
        return None


class LogSchema:
    """The log's columns for one model: makes Arrow tables of requests. Personal columns become pseudonyms or are left out."""

    def __init__(
        self, signature: Reader, version: str, slot: str, personal: Mapping[str, str] | None = None, key: bytes = b""
    ) -> None:
        self._signature, self._version, self._slot = signature, version, slot
        self._personal, self._key = dict(personal or {}), key

    def table(self, requests: Sequence[AnsweredRequest]) -> Any:
        """An Arrow table with one row for each row of the requests.

        Columns: request_id, golden, received_at (UTC, milliseconds), event_time, key, version, slot, prediction, features,
        and as JSON lists `unknown`, the columns whose category no training saw, and `breaches`, the rules that a flagged row breaks.
        """
        from arro3.core import Table

        # In steps: no request is answered while a step holds Python's lock.
        tables, first = [], 0
        while first < len(requests):
            end, rows = first, 0
            while end < len(requests) and rows < STEP_ROWS:
                rows += len(requests[end].rows)
                end += 1
            tables.append(self._step(requests[first:end]))
            first = end
        return Table.from_batches([b for table in tables for b in table.to_batches()], schema=tables[0].schema)

    def _step(self, requests: Sequence[AnsweredRequest]) -> Any:
        from arro3.core import Array, DataType, Field, Schema, Table, struct_array

        text, counts = DataType.utf8(), [len(r.rows) for r in requests]
        # Repeats a request's value for each of its rows, and a single value for all rows.
        per_request = Array(np.repeat(np.arange(len(requests), dtype="uint64"), counts))
        constant = Array(np.zeros(sum(counts), "uint64"))
        received_ms = np.array([r.received_at * 1000 for r in requests], "int64")
        numbers, texts = (np.concatenate([getattr(r.rows, n) for r in requests]) for n in ("numbers", "texts"))
        features = self._features(numbers, texts)
        columns = {
            "request_id": Array([r.request_id for r in requests], text).take(per_request),
            "golden": Array([r.golden for r in requests], DataType.bool()).take(per_request),
            "received_at": Array(received_ms).cast(DataType.timestamp("ms", tz="UTC")).take(per_request),
            "event_time": Array([t for r in requests for t in r.rows.times], text),
            "key": Array(self._masked(self._signature.key, [k for r in requests for k in r.rows.keys]), text),
            "version": Array([self._version], text).take(constant),
            "slot": Array([self._slot], text).take(constant),
            "prediction": Array(np.concatenate([r.predictions for r in requests])),
        }
        none = Array([None], text)
        for name in ("unknown", "breaches"):
            # Few rows have any.
            has_some = any(getattr(r.rows, name) for r in requests)
            columns[name] = Array(_words(requests, name), text) if has_some else none.take(constant)
        if features:
            fields = [Field(name, array.type, nullable=True) for name, array in features.items()]
            columns["features"] = struct_array(list(features.values()), fields=fields)
        schema = Schema([Field(name, array.type, nullable=True) for name, array in columns.items()])
        return Table.from_arrays(list(columns.values()), schema=schema)

    def _features(self, numbers: np.ndarray, texts: np.ndarray) -> dict[str, Any]:
        from arro3.core import Array, DataType

        features: dict[str, Any] = {}
        for i, name in enumerate(self._signature.numbers):
            column = np.ascontiguousarray(numbers[:, i])
            if name not in self._personal:
                features[name] = Array(column)
            elif self._personal[name] == "hash":
                values = [None if v != v else repr(v) for v in column.tolist()]
                features[name] = Array(self._masked(name, values), DataType.utf8())
        for i, name in enumerate(self._signature.texts):
            if self._personal.get(name) != "drop":
                words = [v or None for v in texts[:, i].tolist()]
                features[name] = Array(self._masked(name, words), DataType.utf8())
        return features

    def _masked(self, column: str, values: list[str | None]) -> list[str | None]:
        match self._personal.get(column):
            case "hash":
                return [None if v is None else pseudonym(self._key, v) for v in values]
            case "drop":
                return [None] * len(values)
            case _:
                return values


def _words(requests: Sequence[AnsweredRequest], name: str) -> list[str | None]:
    """A sparse part of all rows, as JSON."""
    words: list[str | None] = []
    for request in requests:
        sparse = getattr(request.rows, name)
        words += [json.dumps(sparse[row]) if row in sparse else None for row in range(len(request.rows))]
    return words


def pseudonym(key: bytes, value: str) -> str:
    """Stands for a personal value: the same text for the same value and key. Without the key nobody can compute it."""
    return hmac.new(key, value.encode(), hashlib.sha256).hexdigest()[:32]
