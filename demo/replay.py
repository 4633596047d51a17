"""Sends recorded flights to the live address in time order, and counts every answer and every failure."""

from __future__ import annotations

import http.client
import json
import queue
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pandas as pd

from pipeline.settings.models import Model
from pipeline.training import frames


@dataclass
class Tally:
    """The outcome of all requests. `seconds` has the duration of each answered one; `answers` its version, time of request and
    time of answer (both Unix seconds)."""

    sent: int = 0
    failed: int = 0
    rows: int = 0
    versions: Counter = field(default_factory=Counter)
    first_seen: dict[str, float] = field(default_factory=dict)
    last_seen: dict[str, float] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    answers: list[tuple[str, float, float]] = field(default_factory=list)

    def percentile_ms(self, share: float) -> float:
        """The time within which `share` of the answers came, in milliseconds."""
        ordered = sorted(self.seconds)
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")

    def __add__(self, other: Tally) -> Tally:
        first, last = dict(other.first_seen), dict(self.last_seen)
        return Tally(
            self.sent + other.sent,
            self.failed + other.failed,
            self.rows + other.rows,
            self.versions + other.versions,
            first | self.first_seen,
            last | other.last_seen,
            self.seconds + other.seconds,
            self.failures + other.failures,
            self.answers + other.answers,
        )


def requests(flights: pd.DataFrame, model: Model, every: str | None) -> Iterator[bytes]:
    """Request bodies in time order: one for all flights of each `every` (a pandas frequency), or one a flight for None."""
    features = frames.records(flights, frames.schema_of(model))
    times = flights[model.source.event_time]
    for record, key, at in zip(features, flights[model.source.key], times, strict=True):
        record |= {model.source.key: key, model.source.event_time: at.isoformat()}
    if every is None:
        groups: Iterable = ([record] for record in features)
    else:
        groups = pd.Series(features, dtype=object).groupby(times.dt.floor(every).to_numpy()).agg(list)
    for records in groups:
        yield json.dumps({"dataframe_records": records}).encode()


class Replay:
    """Sends bodies over `connections` kept-alive connections; with `pace` at most so many requests a second."""

    def __init__(self, address: str, connections: int = 4, pace: float | None = None, api_key: str = "") -> None:
        parts = urlsplit(address)
        self._host, self._path = parts.netloc, f"{parts.path.rstrip('/')}/invocations"
        self._connections, self._pace = connections, pace
        self._headers = {"content-type": "application/json"} | ({"x-api-key": api_key} if api_key else {})
        self._lock, self.tally, self._stop = threading.Lock(), Tally(), threading.Event()

    def play(self, bodies: Iterable[bytes]) -> Tally:
        """Sends all bodies, or those until `stop` is called, and returns the tally."""
        waiting: queue.Queue[bytes | None] = queue.Queue(maxsize=4 * self._connections)
        workers = [threading.Thread(target=self._work, args=(waiting,), daemon=True) for _ in range(self._connections)]
        for worker in workers:
            worker.start()
        start = time.monotonic()
        for number, body in enumerate(bodies):
            if self._stop.is_set():
                break
            if self._pace:
                time.sleep(max(0.0, start + number / self._pace - time.monotonic()))
            waiting.put(body)
        for _ in workers:
            waiting.put(None)
        for worker in workers:
            worker.join()
        return self.tally

    def stop(self) -> None:
        self._stop.set()

    def _work(self, waiting: queue.Queue[bytes | None]) -> None:
        connection = http.client.HTTPConnection(self._host, timeout=30)
        while (body := waiting.get()) is not None:
            start = time.monotonic()
            try:
                connection.request("POST", self._path, body, self._headers)
                answer = connection.getresponse()
                content = answer.read()
                ok, version = answer.status == 200, answer.headers.get("x-model-version", "?")
                failure = "" if ok else f"{answer.status} {content[:200]!r}"
                count = content.count(b",") + 1
            except (OSError, http.client.HTTPException) as error:
                ok, version, failure, count = False, "?", repr(error), 0
                connection.close()
            self._count(ok, version, failure, count, start)
        connection.close()

    def _count(self, ok: bool, version: str, failure: str, rows: int, start: float) -> None:
        now = time.time()
        with self._lock:
            tally = self.tally
            tally.sent += 1
            if not ok:
                tally.failed += 1
                tally.failures.append(failure)
                return
            tally.rows += rows
            tally.versions[version] += 1
            tally.first_seen.setdefault(version, now)
            tally.last_seen[version] = now
            duration = time.monotonic() - start
            tally.seconds.append(duration)
            tally.answers.append((version, now - duration, now))
