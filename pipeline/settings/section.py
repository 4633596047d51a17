"""A section of params.yaml: typed, frozen, and without keys that nobody reads."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

# The context of settings that were right when they were recorded: what is live by them goes on when a rule gets stricter.
RECORDED = "recorded"

# So many rows, trees or files no machine has; a number above it is a slip, and databases may not hold it.
MOST = 10**12


class Section(BaseModel):
    """What each section of params.yaml is: fixed once it is read, an unknown key is refused, and numbers are finite."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def numbers_are_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuses a truth value where a number stands, which would be 1 or 0, and numbers that are none or have no end."""
        if info.context == RECORDED or info.field_name is None:
            return value
        kinds = _kinds_of(cls, info.field_name)
        # A section inside looks at its own values.
        if not any(issubclass(kind, BaseModel) for kind in kinds):
            _refuse_odd_numbers(value, truth=bool in kinds)
        return value


@functools.cache
def _kinds_of(section: type[Section], field: str) -> frozenset[type]:
    return _kinds(section.model_fields[field].annotation)


def _kinds(annotation: Any) -> frozenset[type]:
    """The classes that an annotation names."""
    inner: frozenset[type] = frozenset().union(*map(_kinds, get_args(annotation)))
    return inner | {annotation} if isinstance(annotation, type) else inner


def _refuse_odd_numbers(value: Any, truth: bool) -> None:
    if isinstance(value, bool) and not truth:
        raise ValueError(f"must not be {str(value).lower()}, which is no number and no text")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"must be a finite number; got {value}")
    inside = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    for inner in inside:
        _refuse_odd_numbers(inner, truth)
