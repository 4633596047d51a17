"""The share of a category's values that the model's training never saw, which it answers as if the column said nothing.

What was learnt is known, so its past says nothing of how many are usual: the limit is `monitor.unknown_limit` beyond what the held-out days had. It is
the wrong one for a known value that stands for another: PSI sees that.
"""

from __future__ import annotations

import numpy as np

from pipeline.monitoring.measures.base import OfShare
from pipeline.monitoring.profiles.layout import ColumnLayout


class UnknownShare(OfShare):
    """The difference of two shares of the values that are there; told beside the verdict, which it does not decide."""

    name = "unknown"
    decides = False

    def fits(self, column: ColumnLayout) -> bool:
        return column.kind == "category"

    def counted(self, column: ColumnLayout, cells: np.ndarray) -> np.ndarray:
        return cells[..., column.special("unknown")]

    def share(self, column: ColumnLayout, cells: np.ndarray) -> np.ndarray:
        """Of the values that are there."""
        there = cells.sum(axis=-1) - cells[..., column.special("missing")]
        return self.counted(column, cells) / np.maximum(there, 1)

    def told(self, column: ColumnLayout, before: np.ndarray, now: np.ndarray, limit: float) -> str:
        return f"{float(self.share(column, now)):.0%} unknown to the model"
