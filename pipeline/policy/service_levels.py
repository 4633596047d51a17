"""Service levels of what was counted, their error budgets, and how fast these burn. Touches nothing.

The equations (availability, latency at a percentile, throughput) are those of "MLOps frameworks in cloud data platforms" (2023):
A = up checks / checks; the percentile p of N latencies is L_(⌈pN/100⌉), the one of that rank; X = N / Δt. Budgets and burn rates are
those of Google's Site Reliability Workbook (2018), chapter 5: the budget is the share that may be wrong, and a burn rate of 1 uses it
up exactly at the window's end.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.serving.latency_bounds import SECONDS
from pipeline.settings.slo import Burn, Slo

CHECK_S = 10.0
# With fewer wrong checks or answers than these no alert says that a budget burns: of ten requests a night, one is 10 %.
LEAST_WRONG_CHECKS, LEAST_WRONG_ANSWERS = 3, 10
# Nor before it was counted for so long: the first answers of a version are its slowest.
LEAST_S = 120.0
# The last part of a burn alert's hours, over which the budget must still burn.
SHORT_PART = 12
CHECKS = "availability"


@dataclass(frozen=True)
class Counted:
    """What was counted in a span of time. Of the checks that were not `up`, no router answered `away`. `failed` of the `requests` got
    an answer with 5xx, or none. `latencies` counts answers by the upper bound of their bucket in seconds (inf for the last)."""

    checks: int = 0
    up: int = 0
    away: int = 0
    requests: int = 0
    failed: int = 0
    latencies: Mapping[float, int] = field(default_factory=dict)

    def __add__(self, more: Counted) -> Counted:
        latencies = dict(self.latencies)
        for bound, count in more.latencies.items():
            latencies[bound] = latencies.get(bound, 0) + count
        return Counted(
            self.checks + more.checks,
            self.up + more.up,
            self.away + more.away,
            self.requests + more.requests,
            self.failed + more.failed,
            latencies,
        )


@dataclass(frozen=True)
class Span:
    """What was counted, and in how many seconds: those since the first count in the window, not more than the window's."""

    counted: Counted
    seconds: float


@dataclass(frozen=True)
class Objective:
    """`name` is its key in `slo` of params.yaml; `budget` is the share that may be wrong, and `limit_s` of an answer's seconds the limit,
    None where time does not matter."""

    name: str
    target: float
    budget: float
    limit_s: float | None = None

    def wrong(self, counted: Counted) -> tuple[float, int]:
        """(how many are wrong, of how many). An answer in the limit's own bucket is slow by its place in it, as a share."""
        if self.name == CHECKS:
            return counted.checks - counted.up, counted.checks
        if self.limit_s is None:
            return counted.failed, counted.requests
        return slower(counted.latencies, self.limit_s), sum(counted.latencies.values())

    @property
    def least_wrong(self) -> int:
        return LEAST_WRONG_CHECKS if self.name == CHECKS else LEAST_WRONG_ANSWERS


@dataclass(frozen=True)
class Burning:
    """An alert that holds: the objective's budget burnt `rate` times too fast over `hours`, and is burning still."""

    objective: str
    rate: float
    limit: float
    hours: float
    severity: str
    wrong: float
    of: int

    def __str__(self) -> str:
        what = (
            "checks failed"
            if self.objective == CHECKS
            else "answers failed"
            if self.objective == "success"
            else "answers were slower"
        )
        return (
            f"slo.{self.objective}: {self.wrong:,.0f} of {self.of:,} {what} within {self.hours:g} h, "
            f"which burns the error budget {self.rate:.1f} times too fast (limit {self.limit:g})"
        )


def rank(count: int, p: int) -> int:
    """⌈p N / 100⌉, in whole numbers: which of N latencies in their order is the percentile `p`, of 1 to 100."""
    return -(-p * count // 100)


def percentile_of(latencies: Mapping[float, int], p: int) -> float | None:
    """L_(⌈pN/100⌉) in seconds, of answers counted in buckets: the place of that rank in its bucket, as if these lay evenly in it.

    It is off by less than the bucket's width. None without answers; inf beyond the last bound.
    """
    wanted, before = rank(sum(latencies.values()), p), 0
    for bound in sorted(latencies):
        count = latencies[bound]
        if count and before + count >= wanted:
            low = lower_bound(bound)
            return bound if math.isinf(bound) else low + (bound - low) * (wanted - before) / count
        before += count
    return None


def lower_bound(bound: float) -> float:
    """Where the bucket that ends at `bound` begins."""
    at = bisect_left(SECONDS, bound)
    return SECONDS[at - 1] if at else 0.0


def slower(latencies: Mapping[float, int], limit_s: float) -> float:
    """How many answers took longer than `limit_s`; of the limit's own bucket the part above it."""
    slow = 0.0
    for bound, count in latencies.items():
        low = lower_bound(bound)
        if low >= limit_s:
            slow += count
        elif bound > limit_s:
            slow += count if math.isinf(bound) else count * (bound - limit_s) / (bound - low)
    return slow


def availability(counted: Counted) -> float | None:
    """A = up checks / checks; None without a check. A time without checks is neither up nor down."""
    return counted.up / counted.checks if counted.checks else None


def throughput(span: Span) -> float | None:
    """X = N / Δt, in requests a second; None for no time."""
    return span.counted.requests / span.seconds if span.seconds > 0 else None


def objectives(slo: Slo) -> list[Objective]:
    """Those that are on. A limit at the percentile p is the objective that p % of the answers are within it."""
    found = [Objective(name, target, 1 - target) for name, target in _targets(slo) if target is not None]
    for name, p, limit_ms in (("p95_ms", 95, slo.p95_ms), ("p99_ms", 99, slo.p99_ms)):
        if limit_ms is not None:
            found.append(Objective(name, p / 100, 1 - p / 100, limit_ms / 1000))
    return found


def _targets(slo: Slo) -> list[tuple[str, float | None]]:
    return [(CHECKS, slo.availability), ("success", slo.success)]


def spent(objective: Objective, span: Span, window_s: float) -> float:
    """The share of the window's budget that is used up, above 1 when it is overdrawn.

    The budget is that of a whole window at the rate counted in the span: of 30 days and 99.9 %, 43 minutes of failing checks.
    """
    wrong, of = objective.wrong(span.counted)
    if not wrong or span.seconds <= 0:
        return 0.0
    expected = of * max(window_s / span.seconds, 1.0)
    return wrong / (objective.budget * expected)


def burning(objective: Objective, burn: Burn, long: Span, short: Span) -> Burning | None:
    """The alert when it holds over its hours, `long`, and over their last twelfth, `short`; else None.

    A window that began less than hours ago counts from its first count on, and not before it is LEAST_S long. Where all that is counted
    is wrong, the rate is 1 / budget and can be no higher: then a higher limit counts as reached.
    """
    wrong, of = objective.wrong(long.counted)
    if wrong < objective.least_wrong or long.seconds < LEAST_S:
        return None
    rates = [burn_rate(objective, span.counted) for span in (long, short)]
    if min(rates) < min(burn.rate, 1 / objective.budget) * (1 - 1e-9):
        return None
    return Burning(objective.name, rates[0], burn.rate, burn.hours, burn.severity, wrong, of)


def burn_rate(objective: Objective, counted: Counted) -> float:
    """How many times as fast as it may the budget is used up: the share that is wrong, by the budget; 0 without a count."""
    wrong, of = objective.wrong(counted)
    return wrong / of / objective.budget if of else 0.0


def of_the_version(counted: Counted) -> Counted:
    """Without the checks that no router answered: those are no version's doing, and a rollback mends none."""
    return Counted(counted.checks - counted.away, counted.up, 0, counted.requests, counted.failed, counted.latencies)
