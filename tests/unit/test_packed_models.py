"""What a backtest keeps of a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline

from pipeline.runs.backtest import packed
from pipeline.training import skops_file

BOOSTED = {"max_iter": 4, "max_leaf_nodes": 4}


@pytest.mark.parametrize(
    ("estimator", "labels"),
    [
        (HistGradientBoostingClassifier(**BOOSTED), 2),
        (HistGradientBoostingClassifier(**BOOSTED), 3),
        (CalibratedClassifierCV(HistGradientBoostingClassifier(**BOOSTED), cv=2), 2),
        (HistGradientBoostingRegressor(**BOOSTED), 0),
        (HistGradientBoostingRegressor(**BOOSTED, loss="absolute_error"), 0),
        (LinearRegression(), 0),
    ],
)
def test_a_kept_model_is_the_fitted_one(tmp_path: Path, estimator, labels: int) -> None:
    """It answers to the last bit what that answers, on missing values too, and the fitted one is as it was."""
    rng = np.random.default_rng(3)
    x = np.column_stack([rng.normal(size=200), rng.integers(0, 5, 200)])
    y = x[:, 0] + (x[:, 1] == 2) if not labels else (x[:, 0] * 2 + x[:, 1]).astype(int) % labels
    fitted = make_pipeline(SimpleImputer(add_indicator=True), estimator).fit(x, y)
    written, kept, again = (tmp_path / name for name in ("written", "kept", "again"))
    skops_file.save(fitted, written)
    packed.save(fitted, kept)
    skops_file.save(fitted, again)
    assert again.read_bytes() == written.read_bytes()
    asked = np.vstack([x, [[np.nan, 2], [0.5, 9]]])
    method = "predict_proba" if labels else "predict"
    answers, loaded = getattr(fitted, method)(asked), packed.load(kept)
    assert np.array_equal(getattr(loaded, method)(asked), answers)
    whole = skops_file.load(written)
    assert [type(step) for _, step in loaded.steps] == [type(step) for _, step in whole.steps]
    if labels != 2:
        trees = [[t.nodes.tobytes() for r in getattr(m[-1], "_predictors", []) for t in r] for m in (loaded, whole)]
        assert trees[0] == trees[1]
