"""A pair [low, high] in the settings."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator


def _low_to_high(pair: tuple[float, float]) -> tuple[float, float]:
    low, high = pair
    if not 0 <= low <= high:
        raise ValueError(f"must be [low, high] with 0 <= low <= high; got [{low:g}, {high:g}]")
    return pair


Range = Annotated[tuple[float, float], AfterValidator(_low_to_high)]
