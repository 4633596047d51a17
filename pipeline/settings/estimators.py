"""The estimators that params.yaml may name, and their options, so that a wrong one is refused before a run begins.

scikit-learn takes a second to import, so its names are written down here; a test compares them with scikit-learn's own.
"""

from __future__ import annotations

_BOOSTING = (
    "categorical_features early_stopping interaction_cst l2_regularization learning_rate loss max_bins max_depth max_features "
    "max_iter max_leaf_nodes min_samples_leaf monotonic_cst n_iter_no_change scoring tol validation_fraction verbose warm_start"
)
_FOREST = (
    "bootstrap ccp_alpha criterion max_depth max_features max_leaf_nodes max_samples min_impurity_decrease min_samples_leaf "
    "min_samples_split min_weight_fraction_leaf monotonic_cst n_estimators n_jobs oob_score verbose warm_start"
)
_LOGISTIC = (
    "C class_weight dual fit_intercept intercept_scaling l1_ratio max_iter n_jobs penalty solver tol verbose warm_start"
)
_RIDGE = "alpha copy_X fit_intercept max_iter positive solver tol"

# By the estimator's name, then by what its task needs of it (`Task.estimator`). `random_state` is not among them: it is `training.seed`.
OPTIONS = {
    "hist_gradient_boosting": {
        "classifier": f"class_weight {_BOOSTING}".split(),
        "regressor": f"quantile {_BOOSTING}".split(),
    },
    "random_forest": {"classifier": f"class_weight {_FOREST}".split(), "regressor": _FOREST.split()},
    "linear": {"classifier": _LOGISTIC.split(), "regressor": _RIDGE.split()},
}
