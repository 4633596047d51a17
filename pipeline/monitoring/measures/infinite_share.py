"""The change of the share of infinities, of either sign. It is the wrong one for values that are merely absurd: those are in PSI's outer buckets."""

from __future__ import annotations

import numpy as np

from pipeline.monitoring.measures.base import OfShare
from pipeline.monitoring.profiles.layout import ColumnLayout


class InfiniteShare(OfShare):
    name = "infinite"

    def fits(self, column: ColumnLayout) -> bool:
        return column.kind == "number" and not column.of

    def counted(self, column: ColumnLayout, cells: np.ndarray) -> np.ndarray:
        return cells[..., column.special("minus_infinity")] + cells[..., column.special("plus_infinity")]
