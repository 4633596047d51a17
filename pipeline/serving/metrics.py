"""What a slot counts of itself, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """Counters of one slot; every one carries its model, version and slot."""

    def __init__(self, labels: dict[str, str]) -> None:
        self._registry = CollectorRegistry()
        names = list(labels)

        def counter(name: str, about: str, *more: str) -> Counter:
            return Counter(f"perennial_{name}", about, [*names, *more], registry=self._registry)

        self._requests = counter("requests", "Requests that were answered", "code")
        self._labels = labels
        self.rows = counter("predictions", "Rows that were predicted").labels(**labels)
        self.seconds = Histogram(
            "perennial_request_seconds", "Seconds to answer", names, registry=self._registry, buckets=SECONDS
        ).labels(**labels)
        self.under_way = Gauge(
            "perennial_requests_under_way", "Requests under way", names, registry=self._registry
        ).labels(**labels)
        self._lost = Gauge(
            "perennial_log_rows_lost", "Predictions that could not be logged", names, registry=self._registry
        ).labels(**labels)

    def answered(self, code: int, seconds: float) -> None:
        self._requests.labels(**self._labels, code=str(code)).inc()
        self.seconds.observe(seconds)

    def text(self, rows_lost: int) -> tuple[bytes, str]:
        """(the page, its content type)."""
        self._lost.set(rows_lost)
        return generate_latest(self._registry), CONTENT_TYPE_LATEST
