"""Settings of the accounts: prices, which may change at a date, and the claims that they are compared with."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Literal

from pydantic import Field, model_validator

from pipeline.settings.ranges import Range
from pipeline.settings.section import MOST, Section
from pipeline.settings.times import UtcTime


class PriceChange(Section):
    """What costs something else from `from` on; a price that is left out stays as it was."""

    since: UtcTime = Field(alias="from")
    cpu_core_hour: float | None = Field(default=None, ge=0, le=MOST)
    memory_gb_hour: float | None = Field(default=None, ge=0, le=MOST)
    engineer_hour: float | None = Field(default=None, ge=0, le=MOST)
    storage_gb_month: float | None = Field(default=None, ge=0, le=MOST)
    transfer_gb: float | None = Field(default=None, ge=0, le=MOST)
    services_hour: float | None = Field(default=None, ge=0, le=MOST)
    kwh: float | None = Field(default=None, ge=0, le=MOST)


PRICED = tuple(name for name in PriceChange.model_fields if name != "since")


class Prices(Section):
    """Prices in `currency`; pipeline.accounts has the formulas. `changes` say what holds from a date on."""

    currency: str = Field(default="USD", min_length=1)
    cpu_core_hour: float = Field(ge=0)
    memory_gb_hour: float = Field(ge=0)
    engineer_hour: float = Field(ge=0)
    # The list price of S3 Standard in us-east-1 (aws.amazon.com/s3/pricing), its first 50 TB.
    storage_gb_month: float = Field(default=0.023, ge=0, le=MOST)
    transfer_gb: float = Field(default=0, ge=0, le=MOST)
    services_hour: float = Field(default=0, ge=0, le=MOST)
    kwh: float = Field(default=0, ge=0, le=MOST)
    changes: tuple[PriceChange, ...] = ()

    @model_validator(mode="after")
    def changes_follow_each_other(self) -> Prices:
        dates = [change.since for change in self.changes]
        if any(one >= other for one, other in zip(dates, dates[1:], strict=False)):
            raise ValueError("changes: each `from` must be later than the one before it")
        return self

    @cached_property
    def periods(self) -> tuple[tuple[str, Prices], ...]:
        """(since when, the prices from then on), the oldest first. The first is '', which sorts before every time of the ledger."""
        found: list[tuple[str, Prices]] = [("", self.model_copy(update={"changes": ()}))]
        for change in self.changes:
            new: dict[str, Any] = {key: value for key in PRICED if (value := getattr(change, key)) is not None}
            since = change.since.isoformat(timespec="milliseconds").replace("+00:00", "Z")
            found.append((since, found[-1][1].model_copy(update=new)))
        return tuple(found)

    def at(self, time: str) -> Prices:
        """The prices at `time`, UTC in ISO 8601 with milliseconds as the ledger has it."""
        if not self.changes:
            return self
        return [prices for since, prices in self.periods if since <= time][-1]

    def known(self, price: str) -> Literal["yours", "guess"]:
        """How a price is known: `yours` where params.yaml has it, else `guess`."""
        stated = price in self.model_fields_set or any(getattr(change, price) is not None for change in self.changes)
        return "yours" if stated else "guess"


class Baseline(Section):
    """The claims that ROI uses, each (low, high), and their source. Hours, shares and months are of one deployment; savings are of one
    model in a year, and investments are made once. What differs from the study's figures is your own."""

    source: str
    manual_engineer_hours_per_deployment: Range
    automated_engineer_hours_per_deployment: Range
    manual_failed_share: Range = (0.15, 0.30)
    incident_cost: float | None = Field(default=None, ge=0, le=MOST)
    investment_platform: Range = (50_000, 250_000)
    investment_pipelines: Range = (30_000, 80_000)
    investment_training: Range = (20_000, 50_000)
    saved_engineer_time: Range = (15_000, 40_000)
    saved_incidents: Range = (10_000, 25_000)
    saved_time_to_market: Range = (20_000, 60_000)
    saved_compute: Range = (5_000, 15_000)

    def known(self, claim: str) -> Literal["yours", "claimed"]:
        """`yours` where params.yaml states another figure than the study, else `claimed`."""
        return "claimed" if tuple(getattr(self, claim)) == STUDY_FIGURES[claim] else "yours"


STUDY_FIGURES: dict[str, tuple[float, float]] = {
    "manual_engineer_hours_per_deployment": (8, 16),
    "automated_engineer_hours_per_deployment": (0.5, 2),
    **{
        name: field.default
        for name, field in Baseline.model_fields.items()
        if name.startswith(("saved_", "investment_", "manual_failed"))
    },
}
