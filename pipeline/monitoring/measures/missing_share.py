"""The change of the share of missing values. It is the wrong one for a value that stands for a missing one, such as -999: PSI sees that."""

from __future__ import annotations

import numpy as np

from pipeline.monitoring.measures.base import OfShare
from pipeline.monitoring.profiles.layout import ColumnLayout


class MissingShare(OfShare):
    name = "missing"
    # A sensor that is off for half a day of a week; in the flights of 2013 that comes twice a year, in other weeks never.
    least_limit = 0.05

    def counted(self, column: ColumnLayout, cells: np.ndarray) -> np.ndarray:
        return cells[..., column.special("missing")]
