"""Service levels as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.cli.plain_table import PlainTable
from pipeline.serving.latency_bounds import SECONDS

WIDTH = 130
MOST_MS = SECONDS[-1] * 1000

if TYPE_CHECKING:
    from pipeline.reliability.report import LevelReport, ObjectiveReport


def service_levels(found: Sequence[LevelReport], total: float) -> str:
    """A line for each model and its versions; below them the objectives with what is left of their budgets."""
    if not found:
        return "no model is live, so nothing is checked"
    table = PlainTable(
        *(
            "model",
            "version",
            ">up / checks",
            ">availability",
            ">p50 ms",
            ">p95 ms",
            ">p99 ms",
            ">requests",
            ">a second",
        )
    )
    for report in found:
        for line in (report, *report.versions):
            name = line.model if line.version is None else ""
            table.add_row(
                name,
                line.version or "all",
                f"{line.up:,} / {line.checks:,}",
                _share(line.availability),
                *_figures(line),
            )
    hours = found[0].hours
    lines = [f"the last {hours:g} h, of all models {total:.2f} requests a second", table.text(WIDTH)]
    for report in found:
        lines += [_objective(report.model, objective) for objective in report.objectives]
        if not report.objectives and report.checks:
            lines.append(f"{report.model}: no objectives; they stand in `slo` of its block in params.yaml")
        if not report.checks:
            lines.append(
                f"{report.model}: not checked in that time; `perennial status` says whether the service slo runs"
            )
        elif report.not_checked_s > 60:
            lines.append(f"{report.model}: not checked for {report.not_checked_s:,.0f} s of {report.seconds:,.0f} s")
    return "\n".join(lines)


def _figures(line: LevelReport) -> list[str]:
    latencies = [_ms(value) for value in (line.p50_ms, line.p95_ms, line.p99_ms)]
    rate = "-" if line.requests_per_s is None else f"{line.requests_per_s:.2f}"
    return [*latencies, f"{line.requests:,}", rate]


def _ms(value: float | None) -> str:
    if value is None:
        return "-"
    return f"over {MOST_MS:,.0f}" if value >= MOST_MS else f"{value:,.1f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.5f}"


def _objective(model: str, objective: ObjectiveReport) -> str:
    limit = f" within {objective.limit_ms:g} ms" if objective.limit_ms is not None else ""
    seen = "nothing counted yet" if objective.observed is None else f"{objective.observed:.3%} of {objective.of:,}"
    left = f"{objective.budget_left:.1%} of the budget of {objective.window_days:g} days left"
    burns = f"; BURNS: {objective.burning}" if objective.burning else ""
    return f"{model}: slo.{objective.objective} {objective.target:.3%}{limit}: {seen}; {left}{burns}"
