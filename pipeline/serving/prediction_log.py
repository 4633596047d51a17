"""The prediction log: each request's rows and predictions as Parquet, for the monitor to read and for labels to join.

No answer waits for it: the rows go into a queue, and a thread writes them twice a second. When the disk is full or the thread
falls behind, the server goes on answering and counts the rows that it could not log. The thread sets damaged files aside, and no
error ends it.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline.serving import log_files, logged_words
from pipeline.serving.request_counts import ANSWERED, RequestCounts
from pipeline.serving.schema import Reader, Rows

FLUSH_S = 0.5
# So many files of one level are merged into one of the next, unless that would be larger than this: a merge must not delay the
# next part.
MERGE_COUNT, MAX_MERGED_BYTES = 32, 16 * 2**20
MAX_QUEUED_ROWS = 200_000
STEP_ROWS = 4096

logger = logging.getLogger(__name__)


class AnsweredRequest(NamedTuple):
    """One answered request. `received_at` is in seconds since 1970; `predictions` is float64 (rows,), or (rows, classes); a golden one is no traffic."""

    request_id: str
    received_at: float
    rows: Rows
    predictions: np.ndarray
    golden: bool = False


class LogFile(NamedTuple):
    """A file that this process wrote, and its rows."""

    path: Path
    rows: int


class PredictionLog:
    """Writes the log of one process into `folder`; calls `on_lost(rows)` for rows that could not be logged, or whose file was damaged,
    and `on_damaged(files)` for files that it sets aside. Its thread writes the counts of `requests` too."""

    def __init__(
        self,
        folder: Path,
        slot: str,
        version: str,
        schema: LogSchema,
        on_lost: Callable[[int], None],
        on_damaged: Callable[[int], None] = lambda files: None,
        requests: RequestCounts | None = None,
    ) -> None:
        self._folder, self._schema, self._on_lost, self._on_damaged = folder, schema, on_lost, on_damaged
        self._stem = f"{slot}-v{version}-{os.getpid()}.{time.time_ns()}"
        self.requests = requests
        self._queue: deque[AnsweredRequest] = deque()
        # Rows. Each counter is changed by one thread only; their difference is the length of the queue.
        self._added = self._taken = 0
        self._parts, self._levels = 0, Levels()
        # Merged files, each with its parts, which a reader may still have open.
        self._superseded: list[tuple[LogFile, list[LogFile]]] = []
        self._columns: Any = None
        self._said: set[tuple[str, object]] = set()
        # A disk that is full now may have room later.
        with contextlib.suppress(OSError):
            log_files.make_private(folder)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write_queue, name="prediction-log", daemon=True)
        self._thread.start()

    def add(self, answered: AnsweredRequest) -> None:
        """Queues an answered request; never waits."""
        rows = len(answered.rows)
        if self.requests is not None and not answered.golden:
            self.requests.add(ANSWERED)
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
        with contextlib.suppress(OSError):
            for path, why in log_files.left_behind(self._folder):
                self._set_aside(path, why, "its rows are left out")
        stopped = False
        while not stopped:
            stopped = self._stop.wait(FLUSH_S)
            requests = [self._queue.popleft() for _ in range(len(self._queue))]
            if requests:
                self._taken += _rows(requests)
                self._write_part(requests)
            if self.requests is not None:
                try:
                    self.requests.write(last=stopped)
                except OSError as error:
                    self._say("the counts of requests cannot be written beside the prediction log", error)

    def _write_part(self, requests: Sequence[AnsweredRequest]) -> None:
        """Writes a part, then merges what is due. Raises nothing.

        Where the rows make no table, the part is halved until the request at fault is alone: no other is lost with it.
        """
        try:
            self._write_rows(requests)
        except OSError as error:
            self._lose(requests, error)
        except BaseException as error:
            # A panic of the Parquet writer is no Exception.
            if len(requests) == 1:
                self._lose(requests, error)
                return
            middle = len(requests) // 2
            self._write_part(requests[:middle])
            self._write_part(requests[middle:])
        while due := self._levels.take_due():
            self._merge(*due)

    def _write_rows(self, requests: Sequence[AnsweredRequest]) -> None:
        path = self._folder / log_files.file_name(self._stem, self._parts, self._parts)
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        table = self._schema.table(requests)
        log_files.write(path, table)
        self._parts, self._columns = self._parts + 1, table.schema
        self._levels.add(0, LogFile(path, len(table)))

    def _merge(self, level: int, files: list[LogFile]) -> None:
        """Writes one file in place of several. When that fails no row is lost: they stay as they are."""
        first, last = (log_files.FILE_NAME.match(f.path.name) for f in (files[0], files[-1]))
        assert first is not None and last is not None
        target = self._folder / log_files.file_name(self._stem, int(first["first"]), int(last["last"]))
        try:
            self._delete_superseded()
            merged = self._write_merged(target, files)
            if merged is not None:
                self._superseded.append((merged, files))
                self._levels.add(level + 1, merged)
        except BaseException as error:
            self._levels.leave(level + 1)
            self._say("files of the prediction log are not merged", error)

    def _write_merged(self, target: Path, files: Sequence[LogFile]) -> LogFile | None:
        """Merges the files that are whole, and sets the others aside; None when none is. Raises OSError."""
        tables = []
        for file in files:
            try:
                tables.append(log_files.read(file.path, self._columns))
            except FileNotFoundError:
                # Somebody deleted it.
                continue
            except log_files.Damaged as error:
                self._on_lost(file.rows)
                self._set_aside(file.path, str(error), f"its {file.rows} rows are lost")
        if not tables:
            return None
        table = log_files.together(tables)
        log_files.write(target, table)
        return LogFile(target, len(table))

    def _delete_superseded(self) -> None:
        """Deletes the parts of earlier merges. A reader that had listed them may have opened them; by now it has read them.

        Where a merged file is not whole they stay, and it is written from them again. Raises OSError.
        """
        pending, self._superseded = self._superseded, []
        for merged, parts in pending:
            try:
                why = log_files.fault(merged.path)
            except FileNotFoundError:
                why = "is gone"
            if why is None:
                for part in parts:
                    part.path.unlink(missing_ok=True)
                continue
            self._superseded.append((merged, parts))
            self._set_aside(merged.path, why, "its rows are written again")
            self._write_merged(merged.path, parts)

    def _set_aside(self, path: Path, why: str, consequence: str) -> None:
        try:
            if not log_files.set_aside(path):
                return
        except OSError as error:
            why = f"{why} and cannot be renamed ({error})"
        self._on_damaged(1)
        logger.warning("%s of the prediction log %s, it is set aside: %s", path, why, consequence)

    def _lose(self, requests: Sequence[AnsweredRequest], error: BaseException) -> None:
        self._on_lost(_rows(requests))
        self._say("rows cannot be written into the prediction log", error)

    def _say(self, what: str, error: BaseException) -> None:
        """Logs each kind of failure once: the same line twice a second would fill the disk."""
        kind = what, getattr(error, "errno", None) or type(error)
        if kind not in self._said:
            self._said.add(kind)
            logger.error("%s: %s: %s", what, type(error).__name__, error)


def _rows(requests: Sequence[AnsweredRequest]) -> int:
    return sum(len(r.rows) for r in requests)


class Levels:
    """The files that wait to be merged, by level: how often their rows were merged already.

    Those of a level follow each other without a gap: readers take a merged file for all from its first to its last part.
    """

    def __init__(self) -> None:
        self._waiting: dict[int, list[LogFile]] = {}

    def add(self, level: int, file: LogFile) -> None:
        if level == 0 or file.path.stat().st_size * MERGE_COUNT <= MAX_MERGED_BYTES:
            self._waiting.setdefault(level, []).append(file)
        else:
            self.leave(level)

    def leave(self, level: int) -> None:
        """A file of that level stays as it is, and so do the earlier ones that wait there and above: no merge may reach over it."""
        for above in [waiting for waiting in self._waiting if waiting >= level]:
            del self._waiting[above]

    def take_due(self) -> tuple[int, list[LogFile]] | None:
        """Removes and returns (level, the files of it that are due to be merged); None when none are due."""
        for level, files in self._waiting.items():
            if len(files) >= MERGE_COUNT:
                self._waiting[level] = []
                return level, files
        return None


class LogSchema:
    """The log's columns for one model: makes Arrow tables of requests. Personal columns become pseudonyms or are left out.

    A time is logged in days, and of a free text the numbers that a model gets (its words as in `logged_words`), never the text.
    """

    def __init__(
        self,
        reader: Reader,
        version: str,
        slot: str,
        personal: Mapping[str, str] | None = None,
        key: bytes = b"",
        classes: Sequence[str] = (),
    ) -> None:
        self._reader, self._version, self._slot, self._classes = reader, version, slot, classes
        self._personal, self._key = dict(personal or {}), key

    def table(self, requests: Sequence[AnsweredRequest]) -> Any:
        """An Arrow table with one row for each row of the requests.

        Columns: request_id, golden, received_at (UTC, milliseconds), event_time, key, version, slot, prediction, of classes `class` and `probabilities`, features,
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
            "key": Array(self._masked(self._reader.key, [k for r in requests for k in r.rows.keys]), text),
            "version": Array([self._version], text).take(constant),
            "slot": Array([self._slot], text).take(constant),
            **self._predictions(np.concatenate([r.predictions for r in requests])),
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

    def _predictions(self, predictions: np.ndarray) -> dict[str, Any]:
        """Of classes the probability of the likeliest one, its name, and the probabilities of all in their order."""
        from arro3.core import Array, DataType, list_array

        if not self._classes:
            return {"prediction": Array(predictions)}
        names, likeliest = Array(list(self._classes), DataType.utf8()), predictions.argmax(axis=1)
        ends = np.arange(len(predictions) + 1, dtype="int32") * np.int32(len(self._classes))
        return {
            "prediction": Array(predictions.max(axis=1)),
            "class": names.take(Array(likeliest.astype("uint64"))),
            "probabilities": list_array(Array(ends), Array(np.ascontiguousarray(predictions).reshape(-1))),
        }

    def _features(self, numbers: np.ndarray, texts: np.ndarray) -> dict[str, Any]:
        from arro3.core import Array, DataType, list_array

        features: dict[str, Any] = {}
        end = 0
        for of in self._reader.fields:
            start, end = end, end + len(of.matrix)
            for i, name in enumerate(of.matrix[: len(of.matrix) - of.groups], start):
                column = np.ascontiguousarray(numbers[:, i].astype(of.precision, copy=False))
                if of.name not in self._personal:
                    features[name] = Array(column)
                elif self._personal[of.name] == "hash":
                    values = [None if v != v else repr(v) for v in column.tolist()]
                    features[name] = Array(self._masked(name, values), DataType.utf8())
            if of.groups and of.name not in self._personal:
                starts, places = logged_words.lists(numbers[:, end - of.groups : end])
                features[logged_words.name_of(of)] = list_array(Array(starts), Array(places))
        for i, name in enumerate(self._reader.texts):
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
