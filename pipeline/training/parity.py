"""How far a model's answers may differ from those that evaluation recorded: a share of how far these differ from each other.

The errors of a sum in float32 follow the size of the whole sum, not of one answer. So a difference is measured in standard
deviations of the recorded predictions: the same for a target in millions and in millionths. A probability is its own measure.
The gate, the choice of the runtime and the golden requests all go by `gates.parity_tolerance`.
"""

from __future__ import annotations

import numpy as np


def scale_of(task: str, predictions: np.ndarray) -> float:
    """What differences are shares of: 1 for probabilities, else the predictions' spread, or their size where all are equal."""
    if task == "binary":
        return 1.0
    # Rounded: processors differ in the last digits of a sum, and it goes into a package.
    rounded = (float(f"{value:.3g}") for value in (np.std(predictions), np.max(np.abs(predictions))))
    return next((value for value in rounded if value != 0), 1.0)


def difference(answers: np.ndarray, recorded: np.ndarray, scale: float) -> float:
    """The largest difference, as a share of `scale`; NaN, which is within no limit, where one is no number."""
    return float(np.max(np.abs(answers - recorded))) / scale
