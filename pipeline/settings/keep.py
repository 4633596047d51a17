"""What is kept how long: the section `keep` of params.yaml."""

from __future__ import annotations

from pydantic import Field

from pipeline.settings.section import MOST, Section
from pipeline.settings.times import LONGEST_DAYS


class Keep(Section):
    """What `prune` leaves. None keeps all.

    `versions` are a model's newest ones whose package, artifacts and data stay; what is live, was live lately, has an alias or is
    younger than `versions_days` stays beside them. `refused_days` are for runs that made no version: their artifacts and their data.
    """

    versions: int | None = Field(default=None, ge=1, le=MOST)
    versions_days: float = Field(default=90, ge=1, le=LONGEST_DAYS)
    refused_days: float | None = Field(default=None, ge=1, le=LONGEST_DAYS)
    predictions_days: float | None = Field(default=None, ge=1, le=LONGEST_DAYS)
    reports_days: float | None = Field(default=90, ge=1, le=LONGEST_DAYS)
    logs_days: float | None = Field(default=None, ge=1, le=LONGEST_DAYS)
    services_log_mb: float = Field(default=50, ge=1, le=MOST)
