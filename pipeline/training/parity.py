"""How far a model's answers may differ from those that evaluation recorded: a share of how far these differ from each other.

The errors of a sum in float32 follow the size of the whole sum, not of one answer. So a difference is measured in standard
deviations of the recorded predictions (see `Task.scale`): the same for a target in millions and in millionths.
The gate, the choice of the runtime and the golden requests all go by `gates.parity_tolerance`.
"""

from __future__ import annotations

import numpy as np


def difference(answers: np.ndarray, recorded: np.ndarray, scale: float) -> float:
    """The largest difference, as a share of `scale`; NaN, which is within no limit, where one is no number."""
    return float(np.max(np.abs(answers - recorded))) / scale
