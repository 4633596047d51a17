"""The `slo` section of a model in params.yaml: its service levels, their error budgets, and when a budget burns too fast."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.settings.section import Section

Severity = Literal["info", "warning", "critical"]
SEVERITIES: tuple[str, ...] = ("info", "warning", "critical")

# Such a share of requests, or of checks, is to be right.
Target = Annotated[float, Field(ge=0.5, lt=1)]


class Burn(Section):
    """An alert: over the last `hours` the budget was spent `rate` times as fast as would use it up exactly at the window's end, and
    over the last twelfth of these hours too."""

    rate: float = Field(gt=0, le=10_000)
    hours: float = Field(gt=0, le=24 * 30)
    severity: Severity = "critical"


# Google, The Site Reliability Workbook (2018), chapter 5, table 5-8: these spend 2 %, 5 % and 10 % of a budget of 30 days.
RECOMMENDED = (
    Burn(rate=14.4, hours=1),
    Burn(rate=6, hours=6),
    Burn(rate=1, hours=72, severity="warning"),
)


class Slo(Section):
    """None switches an objective off. See pipeline.policy.service_levels for what each counts."""

    availability: Target | None = 0.999
    success: Target | None = 0.999
    p95_ms: Annotated[float, Field(gt=0)] | None = None
    p99_ms: Annotated[float, Field(gt=0)] | None = None
    window_days: float = Field(default=30, ge=1, le=90)
    burn: tuple[Burn, ...] = RECOMMENDED
    rollback_on_burn: bool = True
