"""The prediction log: what was asked and answered, as Parquet, for the monitor to read and for labels to join.

Answers never wait for it: a request's rows go onto a list, and a thread writes them twice a second. When the disk refuses
or the thread falls behind, the server answers on and counts what it could not log.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline.serving import log_files
from pipeline.serving.signature import Rows, Signature

FLUSH_S = 0.5
# So many files of one size are merged into one of the next, while that is not larger than this: merging may not hold up
# the next part.
MERGE_AT, FULL_BYTES = 32, 16 * 2**20
WAITING_ROWS = 200_000
STEP_ROWS = 4096


class Entry(NamedTuple):
    """One answered request. `received_at` is in seconds since 1970; `predictions` (rows,)."""

    request_id: str
    received_at: float
    rows: Rows
    predictions: np.ndarray


class PredictionLog:
    """Writes the log of one process into `folder`; `lost(rows)` is told of rows that could not be kept."""

    def __init__(
        self,
        folder: Path,
        slot: str,
        version: str,
        table: LogTable,
        lost: Callable[[int], None],
    ) -> None:
        self._folder, self._table, self._lost = folder, table, lost
        self._stem = f"{slot}-v{version}-{os.getpid()}.{time.time_ns()}"
        self._waiting: deque[Entry] = deque()
        # Each is changed by one thread only; their difference is what waits.
        self._added = self._taken = 0
        self._parts, self._files, self._covered = 0, Levels(), []  # type: ignore[var-annotated]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write_on, name="prediction-log", daemon=True)
        self._thread.start()

    def add(self, entry: Entry) -> None:
        """Takes an answered request; never waits."""
        rows = len(entry.rows)
        if self._added - self._taken + rows > WAITING_ROWS:
            self._lost(rows)
            return
        self._added += rows
        self._waiting.append(entry)

    def close(self) -> None:
        """Writes what is left and stops."""
        self._stop.set()
        self._thread.join(timeout=10)

    def _write_on(self) -> None:
        stopped = False
        while not stopped:
            stopped = self._stop.wait(FLUSH_S)
            entries = [self._waiting.popleft() for _ in range(len(self._waiting))]
            if entries:
                self._taken += sum(len(e.rows) for e in entries)
                self._write(entries)

    def _write(self, entries: list[Entry]) -> None:
        path = self._folder / log_files.file_name(self._stem, self._parts, self._parts)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            log_files.write(path, self._table.of(entries))
        except OSError:
            self._lost(sum(len(e.rows) for e in entries))
            return
        self._parts += 1
        self._files.add(0, path)
        while many := self._files.many():
            self._merge(*many)

    def _merge(self, level: int, paths: list[Path]) -> None:
        first, last = (log_files.NAME.match(p.name) for p in (paths[0], paths[-1]))
        assert first is not None and last is not None
        whole = self._folder / log_files.file_name(self._stem, int(first["first"]), int(last["last"]))
        try:
            log_files.write(whole, log_files.merged(paths))
            self._files.add(level + 1, whole)
        except OSError:
            # The parts hold the rows: they stay as they are.
            return
        # A reader that has listed the parts may still open them; those of the merge before are read by now.
        for path in self._covered:
            path.unlink(missing_ok=True)
        self._covered = paths


class Levels:
    """Which files wait to be merged, by how often their rows were merged already."""

    def __init__(self) -> None:
        self._waiting: dict[int, list[Path]] = {}

    def add(self, level: int, path: Path) -> None:
        if path.stat().st_size * MERGE_AT <= FULL_BYTES or level == 0:
            self._waiting.setdefault(level, []).append(path)

    def many(self) -> tuple[int, list[Path]] | None:
        """(their level, files that are due to be merged), taken off the list; None when there are none."""
        for level, paths in self._waiting.items():
            if len(paths) >= MERGE_AT:
                self._waiting[level] = []
                return level, paths
        return None


class LogTable:
    """The log's schema for one model: turns entries into Arrow. Personal columns are hashed or left out."""

    def __init__(
        self, signature: Signature, version: str, slot: str, personal: Mapping[str, str] | None = None, key: bytes = b""
    ) -> None:
        self._signature, self._version, self._slot = signature, version, slot
        self._personal, self._key = dict(personal or {}), key

    def of(self, entries: Sequence[Entry]) -> Any:
        """A table: request_id, received_at (UTC, milliseconds), event_time, key, version, slot, prediction, features."""
        from arro3.core import Table

        # Piece by piece: each step keeps Python from answering requests.
        tables, at = [], 0
        while at < len(entries):
            until, rows = at, 0
            while until < len(entries) and rows < STEP_ROWS:
                rows += len(entries[until].rows)
                until += 1
            tables.append(self._table(entries[at:until]))
            at = until
        return Table.from_batches([b for table in tables for b in table.to_batches()], schema=tables[0].schema)

    def _table(self, entries: Sequence[Entry]) -> Any:
        from arro3.core import Array, DataType, Field, Schema, Table, struct_array

        text, counts = DataType.utf8(), [len(e.rows) for e in entries]
        each = Array(np.repeat(np.arange(len(entries), dtype="uint64"), counts))
        all_alike = Array(np.zeros(sum(counts), "uint64"))
        received = np.array([e.received_at * 1000 for e in entries], "int64")
        numbers, texts = (np.concatenate([getattr(e.rows, n) for e in entries]) for n in ("numbers", "texts"))
        features = self._features(numbers, texts)
        columns = {
            "request_id": Array([e.request_id for e in entries], text).take(each),
            "received_at": Array(received).cast(DataType.timestamp("ms", tz="UTC")).take(each),
            "event_time": Array([t for e in entries for t in e.rows.times], text),
            "key": Array(self._hidden(self._signature.key, [k for e in entries for k in e.rows.keys]), text),
            "version": Array([self._version], text).take(all_alike),
            "slot": Array([self._slot], text).take(all_alike),
            "prediction": Array(np.concatenate([e.predictions for e in entries])),
        }
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
                told = [None if v != v else repr(v) for v in column.tolist()]
                features[name] = Array(self._hidden(name, told), DataType.utf8())
        for i, name in enumerate(self._signature.texts):
            if self._personal.get(name) != "drop":
                told = [v or None for v in texts[:, i].tolist()]
                features[name] = Array(self._hidden(name, told), DataType.utf8())
        return features

    def _hidden(self, column: str, values: list[str | None]) -> list[str | None]:
        match self._personal.get(column):
            case "hash":
                return [None if v is None else pseudonym(self._key, v) for v in values]
            case "drop":
                return [None] * len(values)
            case _:
                return values


def pseudonym(key: bytes, value: str) -> str:
    """What stands for a personal value: the same for the same value and key, and without the key nobody's."""
    return hmac.new(key, value.encode(), hashlib.sha256).hexdigest()[:32]
