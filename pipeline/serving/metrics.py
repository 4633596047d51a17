"""What a slot counts of itself, for Prometheus.

Counting is adding to plain integers in memory that all of a slot's processes share, a row each; whoever is asked for the
page adds the rows up.
"""

from __future__ import annotations

import mmap
from bisect import bisect_left
from collections.abc import Iterator

import numpy as np
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

CODES = (200, 400, 401, 404, 405, 408, 413, 415, 429, 500, 503)
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
# The columns of a process's row: a counter a code, one a bucket, the seconds in nanoseconds, then these.
ROWS, BATCHES, UNDER_WAY, LOST, CUT_OFF = range(5)
_FIRST_BUCKET = len(CODES)
_NANOSECONDS = _FIRST_BUCKET + len(SECONDS) + 1
_OTHERS = _NANOSECONDS + 1
WIDTH = _OTHERS + 5


class Metrics:
    """Counters of one slot. Made before its processes are forked; each then takes a `process` of its own."""

    def __init__(self, labels: dict[str, str], processes: int = 1) -> None:
        self._labels = labels
        # Anonymous and shared: what a process adds, the others see.
        self._shared = np.frombuffer(mmap.mmap(-1, 8 * WIDTH * processes), "int64").reshape(processes, WIDTH)
        self.process = 0
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def answered(self, code: int, seconds: float, rows: int = 0) -> None:
        """A request was answered."""
        mine = self._shared[self.process]
        mine[CODES.index(code)] += 1
        mine[_FIRST_BUCKET + bisect_left(SECONDS, seconds)] += 1
        mine[_NANOSECONDS] += int(seconds * 1e9)
        mine[_OTHERS + ROWS] += rows

    def add(self, what: int, by: int = 1) -> None:
        """Adds to one of ROWS, BATCHES, UNDER_WAY, LOST, CUT_OFF."""
        self._shared[self.process, _OTHERS + what] += by

    def total(self, what: int) -> int:
        """The sum over all processes of one of ROWS, BATCHES, UNDER_WAY, LOST, CUT_OFF."""
        return int(self._shared[:, _OTHERS + what].sum())

    def forget_under_way(self, process: int) -> int:
        """Requests that a process which ended had under way: they were cut off. Returns how many."""
        lost = int(self._shared[process, _OTHERS + UNDER_WAY])
        self._shared[process, _OTHERS + UNDER_WAY] = 0
        self._shared[process, _OTHERS + CUT_OFF] += lost
        return lost

    def text(self) -> tuple[bytes, str]:
        """(the page, its content type)."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST

    def collect(self) -> Iterator[Metric]:
        """What prometheus_client asks of a collector."""
        total = self._shared.sum(axis=0)
        names, values = list(self._labels), list(self._labels.values())
        requests = CounterMetricFamily("perennial_requests", "Requests that were answered", labels=[*names, "code"])
        for code, count in zip(CODES, total, strict=False):
            if count:
                requests.add_metric([*values, str(code)], count)
        yield requests
        buckets = total[_FIRST_BUCKET:_NANOSECONDS].cumsum()
        bounds = [*map(str, SECONDS), "+Inf"]
        seconds = HistogramMetricFamily("perennial_request_seconds", "Seconds to answer", labels=names)
        seconds.add_metric(values, list(zip(bounds, buckets, strict=True)), total[_NANOSECONDS] / 1e9)
        yield seconds
        others = total[_OTHERS:]
        for kind, name, about, what in (
            (CounterMetricFamily, "predictions", "Rows that were predicted", ROWS),
            (CounterMetricFamily, "model_runs", "Runs of the model: requests that came together share one", BATCHES),
            (GaugeMetricFamily, "requests_under_way", "Requests under way", UNDER_WAY),
            (GaugeMetricFamily, "log_rows_lost", "Predictions that could not be logged", LOST),
            (CounterMetricFamily, "requests_cut_off", "Requests that the end of the slot cut off", CUT_OFF),
        ):
            family = kind(f"perennial_{name}", about, labels=names)
            family.add_metric(values, others[what])
            yield family
