"""Whether a version goes live by itself, or at the word of a person who did not ask for it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.settings.section import Section
from pipeline.settings.times import LONGEST_DAYS


class Approvals(Section):
    """Keys of a model's block. Whoever is asked has `approval_hours`; after them the version counts as rejected."""

    approval: Literal["none", "required"] = "none"
    approval_hours: float = Field(default=72, gt=0, le=LONGEST_DAYS * 24)
