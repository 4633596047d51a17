"""The change of the share of missing values. It is the wrong one for a value that stands for a missing one, such as -999: PSI sees that."""

from __future__ import annotations

import numpy as np

from pipeline.monitoring.measures.base import OfShare
from pipeline.monitoring.profiles.layout import ColumnLayout


class MissingShare(OfShare):
    name = "missing"
    # In one week of the flights of 2013 2 % of the rows lack their weather, in hardly any other: half a year of weeks does not tell of it.
    least_limit = 0.05

    def counted(self, column: ColumnLayout, cells: np.ndarray) -> np.ndarray:
        return cells[..., column.special("missing")]
