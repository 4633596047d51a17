"""What a model gets of a free text: two numbers, its characters and its words. Nothing else knows how a text is encoded.

The prediction log has these two numbers and never the text, which may name anybody. A request that is sent again from the log has a text
of as many characters and words in its place: to the model it is the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

PARTS = ("characters", "words")


def names(column: str) -> tuple[str, ...]:
    """What the column's numbers are called, in the matrix, the log and the drift report."""
    return tuple(f"{column} {part}" for part in PARTS)


def encoded(text: str | None) -> tuple[float, ...]:
    """The numbers of a text; NaN for a missing one. Words are what lies between spaces and line ends."""
    if text is None:
        return (math.nan,) * len(PARTS)
    return float(len(text)), float(len(text.split()))


def stand_in(numbers: Sequence[float]) -> str | None:
    """A text that is encoded as `numbers`; None where it was missing."""
    if any(number != number for number in numbers):
        return None
    characters, words = (int(number) for number in numbers)
    if words == 0:
        return " " * characters
    return "x " * (words - 1) + "x" * (characters - 2 * (words - 1))
