"""The change of the share of missing values. It is the wrong one for a value that stands for a missing one, such as -999: PSI sees that."""

from __future__ import annotations

import numpy as np

from pipeline.monitoring.measures.base import OfShare
from pipeline.monitoring.profiles.layout import ColumnLayout


class MissingShare(OfShare):
    """The difference of two shares of all rows, from 0 to 1."""

    name = "missing"
    # One week in a year may lack a column in 2 % of its rows, as where a storm takes a weather station: half a year does not tell of it.
    least_limit = 0.05

    def fits(self, column: ColumnLayout) -> bool:
        # What a difference lacks, one of its columns lacks.
        return not column.of

    def counted(self, column: ColumnLayout, cells: np.ndarray) -> np.ndarray:
        return cells[..., column.special("missing")]
