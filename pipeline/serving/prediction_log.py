"""The prediction log: what was asked and answered, one JSON line a row, for the monitor to read.

Answers never wait for it: rows go onto a queue and a thread writes them, at most half a second later. When
the disk refuses, the server answers on and counts what it could not log.
"""

from __future__ import annotations

import json
import os
import queue
import threading
import time
from pathlib import Path
from typing import Any

# Requests whose id starts with this were sent by a rollout to prove a slot; they are logged, and are no traffic.
GOLDEN_ID = "golden-"
FLUSH_S = 0.5
SEGMENT_BYTES = 64 * 1024 * 1024
QUEUE_ROWS = 200_000


class PredictionLog:
    """Writes segments `<slot>-v<version>-<pid>-<n>.jsonl` into `folder`."""

    def __init__(self, folder: Path, slot: str, version: str) -> None:
        self.lost = 0
        self._folder, self._stem = folder, f"{slot}-v{version}-{os.getpid()}-{time.time_ns()}"
        self._rows: queue.Queue[list[dict[str, Any]] | None] = queue.Queue(maxsize=QUEUE_ROWS)
        self._segment = 0
        self._thread = threading.Thread(target=self._write_on, name="prediction-log", daemon=True)
        self._thread.start()

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Takes the rows of one request; never waits."""
        try:
            self._rows.put_nowait(rows)
        except queue.Full:
            self.lost += len(rows)

    def close(self) -> None:
        """Writes what is left and stops."""
        self._rows.put(None)
        self._thread.join(timeout=10)

    def _write_on(self) -> None:
        last = False
        while not last:
            batch: list[dict[str, Any]] = []
            until = time.monotonic() + FLUSH_S
            while (left := until - time.monotonic()) > 0 and not last:
                try:
                    rows = self._rows.get(timeout=left)
                except queue.Empty:
                    break
                if rows is None:
                    last = True
                else:
                    batch += rows
            if batch:
                self._write(batch)

    def _write(self, batch: list[dict[str, Any]]) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / f"{self._stem}-{self._segment}.jsonl"
            with path.open("a", encoding="utf-8") as file:
                file.write("".join(json.dumps(row, separators=(",", ":")) + "\n" for row in batch))
                if file.tell() > SEGMENT_BYTES:
                    self._segment += 1
        except OSError:
            self.lost += len(batch)
