"""Whether a version goes live by itself, or at the word of a person who did not ask for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from pipeline.settings.section import Section
from pipeline.settings.times import LONGEST_DAYS


class Approvals(Section):
    """Keys of a model's block. Whoever is asked has `approval_hours`; after them the version counts as rejected. `approval_by` are the
    people who may approve, by the names that Airflow and $PERENNIAL_USER have; without it everybody but who asked."""

    approval: Literal["none", "required"] = "none"
    approval_hours: float = Field(default=72, gt=0, le=LONGEST_DAYS * 24)
    approval_by: tuple[Annotated[str, Field(min_length=1)], ...] = ()


def faults(model: Any) -> Iterator[tuple[str, str]]:
    """(key, what is wrong between it and another)."""
    if model.approval_by and model.approval != "required":
        yield "approval_by", "names who may approve, and no approval is required: set approval: required"
    for name in sorted({each for each in model.approval_by if model.approval_by.count(each) > 1}):
        yield "approval_by", f"named twice: {name}"
    for name in (each for each in model.approval_by if each != each.strip()):
        yield "approval_by", f"{name!r} begins or ends with a blank, and no user's name does"
