"""What `perennial slo` tells: a model's service levels by the equations, its objectives, and what is left of their budgets."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from pipeline.policy import service_levels
from pipeline.policy.service_levels import CHECK_S, Objective, Span, objectives
from pipeline.reliability import judging
from pipeline.reliability.counts import Counts
from pipeline.serving.latency_bounds import SECONDS
from pipeline.settings.slo import Slo

PERCENTILES = (50, 95, 99)


@dataclass(frozen=True)
class ObjectiveReport:
    """An objective over its window: `target` and `observed` are shares that are right, `wrong` of `of` are not. `budget_left` is a share,
    below 0 when it is overdrawn; `burning` says how it burns now, '' when it does not burn too fast."""

    objective: str
    target: float
    limit_ms: float | None
    observed: float | None
    wrong: float
    of: int
    budget_left: float
    window_days: float
    burning: str = ""


@dataclass(frozen=True)
class LevelReport:
    """What was seen of a model, or of one of its versions, in the last `hours`; None where nothing was counted.

    Latencies are from the receipt of a request to its answer, at the slots, 31,500 ms at most. `not_checked_s` are seconds of the span without a check.
    """

    model: str
    version: str | None
    hours: float
    seconds: float
    checks: int
    up: int
    availability: float | None
    not_checked_s: float
    requests: int
    failed: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    requests_per_s: float | None
    objectives: tuple[ObjectiveReport, ...] = ()
    versions: tuple[LevelReport, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """What `as_dict` wrote."""
        inner = tuple(ObjectiveReport(**objective) for objective in values["objectives"])
        versions = tuple(cls.from_dict(version) for version in values["versions"])
        return cls(**{**values, "objectives": inner, "versions": versions})


def reports(
    counts: Counts, slos: Mapping[str, Slo | None], hours: float, now: float | None = None
) -> list[LevelReport]:
    """A report for each of the models, whose `slo` may be None."""
    now = time.time() if now is None else now
    return [_report(counts, name, slo, hours, now) for name, slo in slos.items()]


def _report(counts: Counts, name: str, slo: Slo | None, hours: float, now: float) -> LevelReport:
    since = now - hours * 3600
    whole = counts.span(name, since, now)
    versions = tuple(_levels(name, v, hours, span) for v, span in sorted(counts.versions(name, since, now).items()))
    told: tuple[ObjectiveReport, ...] = ()
    if slo is not None:
        burns = {alert.objective: str(alert) for alert in judging.all_burning(counts, name, slo, now)}
        told = tuple(_objective(counts, name, o, slo, now, burns.get(o.name, "")) for o in objectives(slo))
    return _levels(name, None, hours, whole, told, versions)


def _levels(
    name: str,
    version: str | None,
    hours: float,
    span: Span,
    told: tuple[ObjectiveReport, ...] = (),
    versions: tuple[LevelReport, ...] = (),
) -> LevelReport:
    counted = span.counted
    p50, p95, p99 = (_ms(service_levels.percentile_of(counted.latencies, p)) for p in PERCENTILES)
    throughput = service_levels.throughput(span)
    return LevelReport(
        model=name,
        version=version,
        hours=hours,
        seconds=round(span.seconds, 1),
        checks=counted.checks,
        up=counted.up,
        availability=service_levels.availability(counted),
        not_checked_s=max(0.0, round(span.seconds - counted.checks * CHECK_S, 1)) if version is None else 0.0,
        requests=counted.requests,
        failed=counted.failed,
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        requests_per_s=round(throughput, 4) if throughput is not None else None,
        objectives=told,
        versions=versions,
    )


def _objective(counts: Counts, name: str, objective: Objective, slo: Slo, now: float, burns: str) -> ObjectiveReport:
    span = counts.span(name, now - slo.window_days * judging.DAY_S, now)
    wrong, of = objective.wrong(span.counted)
    return ObjectiveReport(
        objective=objective.name,
        target=objective.target,
        limit_ms=objective.limit_s * 1000 if objective.limit_s is not None else None,
        observed=1 - wrong / of if of else None,
        wrong=round(wrong, 1),
        of=of,
        budget_left=round(1 - service_levels.spent(objective, span, slo.window_days * judging.DAY_S), 6),
        window_days=slo.window_days,
        burning=burns,
    )


def _ms(seconds: float | None) -> float | None:
    """Beyond the last bound nobody knows how much: then that bound."""
    return None if seconds is None else round(min(seconds, SECONDS[-1]) * 1000, 3)


def total_throughput(found: Sequence[LevelReport]) -> float:
    """X over all models, in requests a second."""
    return sum(report.requests_per_s or 0.0 for report in found)
