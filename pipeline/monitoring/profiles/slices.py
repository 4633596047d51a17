"""Slices: the rows that have one value of a column, or lie in one tenth of it. Each has the features counted as columns of their own.

So a slice's counts are added, kept and judged as any other column's.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Slice:
    """The rows whose `column` has the `value`; of a number, whose `column` is in (above, upto]."""

    column: str
    value: str | None = None
    above: float = 0.0
    upto: float = 0.0

    def __str__(self) -> str:
        if self.value is not None:
            return f"{self.column} is {self.value}"
        if self.above == np.nextafter(self.upto, -np.inf):
            return f"{self.column} is {self.upto:.4g}"
        # The edge below a least value of 0 is the number next to it.
        above, upto = (0.0 if abs(edge) < sys.float_info.min else edge for edge in (self.above, self.upto))
        return f"{self.column} is {above:.4g} to {upto:.4g}"


def read(values: dict[str, Any] | None) -> Slice | None:
    """Of a column from before slices there is none."""
    return Slice(**values) if values else None
