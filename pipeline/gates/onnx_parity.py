"""Does the package answer as scikit-learn does, on every held-out row?

Some pipelines convert to ONNX without an error and answer wrongly: HistGradientBoosting with categorical_features is one.
So every model passes this gate, and a test of ours would not do.
"""

from __future__ import annotations

import numpy as np

from pipeline.gates.base import PackagedModel, Verdict
from pipeline.training.evaluate import PREDICTION


def verdict(packaged: PackagedModel) -> Verdict:
    """The observed difference is relative where predictions are larger than 1."""
    held_out, tolerance = packaged.held_out, packaged.model.gates.parity_tolerance
    expected = held_out[PREDICTION].to_numpy()
    answers = packaged.package.predict_frame(held_out)
    difference = float(np.max(np.abs(answers - expected) / np.maximum(1.0, np.abs(expected))))
    # An answer of NaN makes the difference NaN, which compares false, so the gate fails.
    return Verdict(
        "onnx_parity",
        difference <= tolerance,
        difference,
        tolerance,
        f"largest difference {difference:.1e} over {len(held_out):,} rows, limit {tolerance:.0e}",
    )
