"""Calibration: probabilities that come true as often as they say.

Many classifiers rank well and state probabilities that are too bold or too shy. A calibrator is a rising curve for each class, from
what the classifier says to how often it was right: a sigmoid of two numbers, or steps (isotonic), which need thousands of rows.

It learns from rows that the classifier has not seen, and these are later ones, as in production: the classifier learns from the
first four fifths of the training rows by time, the calibrator from the newest fifth. Then the classifier learns from all of them.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import StageError
from pipeline.settings.training import Training

if TYPE_CHECKING:
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.isotonic import IsotonicRegression

LATER = 0.2
# Fewer rows of a class than this say nothing of its probability.
FEWEST_OF_A_CLASS = 5
# The steps of an isotonic curve are at least this share of its range apart: on a steeper one the last digits of a score would decide.
NARROWEST = 1 / 500


def later_rows(times: np.ndarray) -> np.ndarray:
    """True for the newest fifth of the rows; rows of one time stay together."""
    cut = np.sort(times)[int(len(times) * (1 - LATER))] if len(times) else 0
    return times >= cut


def refuse_few(target: np.ndarray, later: np.ndarray, training: Training, classes: Sequence[str] = ()) -> None:
    """Raises StageError where a class has too few rows on one side of the cut."""
    for value in np.unique(target):
        for part, rows in (("newest fifth", later), ("first four fifths", ~later)):
            if (count := int((target[rows] == value).sum())) < FEWEST_OF_A_CLASS:
                raise StageError(
                    "train",
                    f"calibration needs {FEWEST_OF_A_CLASS} rows of each class in both parts of the training rows, but the {part} by time "
                    f"has {count} of {training.target} = {classes[value] if classes else value}",
                    "raise source.window_days, or set training.calibration: none",
                )


def calibrated(
    first: Any, matrix: Any, target: np.ndarray, method: str, final: Any, weights: np.ndarray | None = None
) -> CalibratedClassifierCV:
    """`final` with the calibrator that `first`, a classifier of the same kind, needs on rows that it has not seen."""
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.frozen import FrozenEstimator

    with warnings.catch_warnings():
        # It says that `first` gets no weights. It has learnt with them already.
        warnings.filterwarnings("ignore", message="Since FrozenEstimator does not appear to accept sample_weight")
        fitted = CalibratedClassifierCV(FrozenEstimator(first), method=method).fit(
            matrix, target, sample_weight=weights
        )
    inner = fitted.calibrated_classifiers_[0]
    if method == "isotonic":
        inner.calibrators = [_without_narrow_steps(calibrator) for calibrator in inner.calibrators]
    fitted.estimator = inner.estimator = final
    return fitted


def _without_narrow_steps(curve: IsotonicRegression) -> IsotonicRegression:
    from sklearn.isotonic import IsotonicRegression

    at = curve.X_thresholds_
    kept, least = [at[0]], (at[-1] - at[0]) * NARROWEST
    for x in at[1:]:
        if x - kept[-1] >= least:
            kept.append(x)
    if kept[-1] != at[-1]:
        # The end stays where it was: the curve is flat behind it.
        kept[-1 if len(kept) > 1 else len(kept) :] = [at[-1]]
    return IsotonicRegression(out_of_bounds="clip").fit(kept, curve.predict(np.asarray(kept)))
