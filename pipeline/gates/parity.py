"""Does the ONNX package answer as scikit-learn does, on every held-out row?

Some pipelines convert silently wrong (HistGradientBoosting with categorical_features is one), so this
is a gate for every model and not a test of ours.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipeline.gates.base import Verdict
from pipeline.serving.runtime import Runtime
from pipeline.training.evaluate import PREDICTION


def same_answers(held_out: pd.DataFrame, package: Runtime, tolerance: float) -> Verdict:
    """The difference is relative where predictions are larger than 1."""
    expected = held_out[PREDICTION].to_numpy()
    answers = package.predict_frame(held_out)
    difference = float(np.max(np.abs(answers - expected) / np.maximum(1.0, np.abs(expected))))
    # A NaN answer makes the difference NaN, which compares false, and so fails.
    return Verdict(
        "onnx_parity",
        difference <= tolerance,
        difference,
        tolerance,
        f"largest difference {difference:.1e} over {len(held_out):,} rows, limit {tolerance:.0e}",
    )
