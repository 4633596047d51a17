"""The counters of a slot, for Prometheus.

The counters are integers in memory that all processes of a slot share, one row for each process. The process that is asked for
the page sums the rows.
"""

from __future__ import annotations

import mmap
import time
from bisect import bisect_left
from collections.abc import Iterator, Mapping

import numpy as np
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from pipeline.serving.errors import KINDS
from pipeline.serving.latency_bounds import SECONDS
from pipeline.serving.schema import Rows

CODES = (200, 400, 401, 404, 405, 408, 413, 415, 429, 500, 503)
# The columns of a process's row: one for each code, one for each bucket, all seconds in nanoseconds, then these thirteen, and one for each kind of refusal.
PREDICTIONS, MODEL_RUNS, UNDER_WAY, LOG_ROWS_LOST, LOG_FILES_DAMAGED = range(5)
CUT_OFF, UNKNOWN, BREACHING, SENT_AGAIN_TO_US, CRASHED, WITHOUT_TIME = range(5, 11)
# Nanoseconds of a processor: of the process itself, and of those that answer for it what is sent again.
PROCESSOR, PROCESSOR_SENT_AGAIN = range(11, 13)
_FIRST_BUCKET = len(CODES)
_NANOSECONDS = _FIRST_BUCKET + len(SECONDS) + 1
_OTHERS = _NANOSECONDS + 1
_REFUSED = _OTHERS + 13
_OF_KIND = {kind: _REFUSED + place for place, kind in enumerate(KINDS)}
WIDTH = _REFUSED + len(KINDS)


class Metrics:
    """Counters of one slot. Create it before the processes are forked, then call `begin` in each."""

    def __init__(self, labels: Mapping[str, str], processes: int = 1) -> None:
        self._labels = labels
        # Anonymous and shared: each process sees what the others add.
        memory = mmap.mmap(-1, 8 * WIDTH * processes)
        self._shared = np.frombuffer(memory, "int64").reshape(processes, WIDTH)
        # The same memory by process: one integer at a time is read and written in a fifth of numpy's time.
        whole = memoryview(memory).cast("q")
        self._rows = [whole[start : start + WIDTH] for start in range(0, len(whole), WIDTH)]
        self.process, self._processor_before, self._started = 0, 0, time.time()
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def begin(self, process: int) -> None:
        """This process counts in that row from now on; it adds to what the row has, of a process that ended or of the one that forked it."""
        self.process, self._processor_before = process, self._rows[process][_OTHERS + PROCESSOR]

    def count_processor(self) -> None:
        """Notes the processor time that this process has taken so far, all its threads."""
        self._rows[self.process][_OTHERS + PROCESSOR] = self._processor_before + time.process_time_ns()

    def count_response(self, code: int, seconds: float, predictions: int = 0) -> None:
        """Counts one answered request."""
        row = self._rows[self.process]
        row[CODES.index(code)] += 1
        row[_FIRST_BUCKET + bisect_left(SECONDS, seconds)] += 1
        row[_NANOSECONDS] += int(seconds * 1e9)
        row[_OTHERS + PREDICTIONS] += predictions
        if len(self._rows) > 1:
            # Another process is asked for the page.
            self.count_processor()

    def count_refused(self, kind: str) -> None:
        """Counts a request that got no predictions, by one of KINDS."""
        self._rows[self.process][_OF_KIND[kind]] += 1

    def add(self, counter: int, by: int = 1) -> None:
        """Adds to PREDICTIONS, MODEL_RUNS or another of these."""
        self._rows[self.process][_OTHERS + counter] += by

    def count_unusual(self, rows: Rows) -> None:
        """Counts the rows of an answered request that are flagged, or that lack what the monitor goes by."""
        if rows.unknown:
            self.add(UNKNOWN, len(rows.unknown))
        if rows.breaches:
            self.add(BREACHING, len(rows.breaches))
        if untimed := rows.times.count(None):
            self.add(WITHOUT_TIME, untimed)

    def total(self, counter: int) -> int:
        """The sum of PREDICTIONS, MODEL_RUNS or another of these over all processes."""
        return int(self._shared[:, _OTHERS + counter].sum())

    def cut_off_under_way(self, process: int) -> int:
        """Counts the requests under way in a process that has ended as cut off. Returns their number."""
        cut_off = int(self._shared[process, _OTHERS + UNDER_WAY])
        self._shared[process, _OTHERS + UNDER_WAY] = 0
        self._shared[process, _OTHERS + CUT_OFF] += cut_off
        return cut_off

    def page(self) -> tuple[bytes, str]:
        """(the page for Prometheus, its content type)."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST

    def collect(self) -> Iterator[Metric]:
        """The metric families; prometheus_client calls this for each page."""
        self.count_processor()
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
        refused = CounterMetricFamily(
            "perennial_requests_refused",
            "Requests that got no predictions, by the kind of reason",
            labels=[*names, "reason"],
        )
        for reason, place in _OF_KIND.items():
            refused.add_metric([*values, reason], total[place])
        yield refused
        others = total[_OTHERS:]
        processor = CounterMetricFamily(
            "perennial_processor_seconds", "Processor time of all its processes", labels=names
        )
        processor.add_metric(values, (others[PROCESSOR] + others[PROCESSOR_SENT_AGAIN]) / 1e9)
        yield processor
        started = GaugeMetricFamily("perennial_start_time_seconds", "When it was started, since 1970", labels=names)
        started.add_metric(values, self._started)
        yield started
        for kind, name, description, counter in (
            (CounterMetricFamily, "predictions", "Rows that were predicted", PREDICTIONS),
            (CounterMetricFamily, "model_runs", "Runs of the model: requests that came together share one", MODEL_RUNS),
            (GaugeMetricFamily, "requests_under_way", "Requests under way", UNDER_WAY),
            (GaugeMetricFamily, "log_rows_lost", "Predictions that could not be logged", LOG_ROWS_LOST),
            (
                GaugeMetricFamily,
                "log_files_damaged",
                "Damaged files of the prediction log that were set aside",
                LOG_FILES_DAMAGED,
            ),
            (CounterMetricFamily, "requests_cut_off", "Requests that the end of the slot cut off", CUT_OFF),
            (CounterMetricFamily, "unknown_category_rows", "Rows with a category that training never saw", UNKNOWN),
            (CounterMetricFamily, "flagged_rows", "Rows that were answered though they break the contract", BREACHING),
            (
                CounterMetricFamily,
                "rows_without_event_time",
                "Rows that came without an event time: the monitor counts them by their time of receipt",
                WITHOUT_TIME,
            ),
            (CounterMetricFamily, "requests_sent_again", "Requests that a slot had broken off at", SENT_AGAIN_TO_US),
            (CounterMetricFamily, "requests_crashed", "Of these, requests that ended the process for them", CRASHED),
        ):
            family = kind(f"perennial_{name}", description, labels=names)
            family.add_metric(values, others[counter])
            yield family
