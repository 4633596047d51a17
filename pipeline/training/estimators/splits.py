"""Trees as serving runs them: scikit-learn and LightGBM split at a float64 half way between two values, ONNX at a float32."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.training.estimators import boosters

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator


def ready_to_serve(fitted: BaseEstimator, doubles: bool) -> BaseEstimator:
    """The fitted estimator with splits that ONNX keeps, and without what differs from machine to machine.

    Unless it takes `doubles`, each split of a tree is at the next float32 below it: no float32 value lies between. ONNX would
    round it, and where two values are neighbours it could become the upper one, which then takes the other branch.
    """
    if boosters.is_booster(fitted):
        if boosters.is_xgboost(fitted):
            fitted = boosters.with_own_model_only(fitted)
        else:
            fitted = boosters.with_plain_splits(fitted, single=not doubles)
    else:
        _of_histograms(fitted, doubles)
    if "n_jobs" in fitted.get_params(deep=False):
        # Threads add a forest's trees in the order in which they end, and a sum of floats depends on it.
        fitted.set_params(n_jobs=None)
    return fitted


def _of_histograms(fitted: Any, doubles: bool) -> None:
    """The same for scikit-learn's boosting on histograms."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    if not isinstance(fitted, HistGradientBoostingClassifier | HistGradientBoostingRegressor):
        return
    if fitted._bin_mapper is not None:
        # The machine's number of processors, which only the fit has used.
        fitted._bin_mapper.n_threads = 1
    if not doubles:
        for tree in (tree for trees in fitted._predictors for tree in trees):
            tree.nodes["num_threshold"] = boosters.below_in_float32(tree.nodes["num_threshold"])
