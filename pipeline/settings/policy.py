"""The section `policy` of a model's block: when a model may change by itself."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field, model_validator

from pipeline.settings.cron import Cron
from pipeline.settings.section import MOST, Section
from pipeline.settings.times import LONGEST_DAYS, SHORTEST_WINDOW_DAYS, UtcTime


class FrozenSpan(Section):
    """From `start` up to `end` nothing changes by itself."""

    start: UtcTime
    end: UtcTime
    reason: str = ""

    @model_validator(mode="after")
    def ends_after_its_start(self) -> FrozenSpan:
        if self.start >= self.end:
            raise ValueError(f"end: {self.end:%Y-%m-%d %H:%M} is not after start, {self.start:%Y-%m-%d %H:%M}")
        return self

    def holds(self, at: datetime) -> bool:
        return self.start <= at < self.end


class Policy(Section):
    """`rule` decides; a retrain that it asks for is begun at most once in `cool_down_days`, and `most_a_month` times in 30 days."""

    rule: Literal["value", "budget", "drift", "metric", "forecast", "schedule", "never"] = "value"
    # A guess, of the rules `value` and `budget`, for as long as nothing is known of how the model's versions age: half a year.
    due_after_days: float = Field(default=183, gt=0, le=LONGEST_DAYS)
    # Of the rule `schedule`.
    every_days: float = Field(default=28, gt=0, le=LONGEST_DAYS)
    cool_down_days: float = Field(default=7, ge=0, le=LONGEST_DAYS)
    most_a_month: int | None = Field(default=None, ge=0, le=MOST)
    # A look compares the versions' losses by windows of this length.
    window_days: float = Field(default=7, ge=SHORTEST_WINDOW_DAYS, le=LONGEST_DAYS)
    frozen: tuple[FrozenSpan, ...] = ()
    # When the backtest Dag runs; without it there is none.
    backtest_cron: Cron | None = None


class Budget(Section):
    """Of all models with `policy.rule: budget`: at most so many retrains in 30 days; None for no such limit."""

    retrains_a_month: int | None = Field(default=None, ge=0, le=MOST)
