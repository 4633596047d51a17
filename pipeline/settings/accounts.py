"""Settings of the accounts: prices, and the claims that they are compared with."""

from __future__ import annotations

from pydantic import Field

from pipeline.settings.ranges import Range
from pipeline.settings.section import Section


class Prices(Section):
    """Prices in `currency`; pipeline.ledger.costs has the formula."""

    currency: str = Field(default="USD", min_length=1)
    cpu_core_hour: float = Field(ge=0)
    memory_gb_hour: float = Field(ge=0)
    engineer_hour: float = Field(ge=0)


class Baseline(Section):
    """The claims that ROI uses: (low, high) engineer hours for one deployment, and their source."""

    source: str
    manual_engineer_hours_per_deployment: Range
    automated_engineer_hours_per_deployment: Range
