"""The estimators that params.yaml may name, and their options, so that a wrong one is refused before a run begins.

A preset is a short name: `linear`, `forest`, `boosting` from quick to good, and `xgboost`, `lightgbm` where these are installed. Any
other is a class of scikit-learn by its full name, or a function of one's own. Nothing here imports scikit-learn, which takes a second.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from pipeline.settings.objectives import objective_fault
from pipeline.training import tasks

Kind = Literal["classifier", "regressor"]
Options = Mapping[str, object]


@dataclass(frozen=True)
class Preset:
    """The classes that a short name stands for, with options that `training.options` may change."""

    classifier: str
    regressor: str
    options: Options = field(default_factory=dict)

    def class_for(self, kind: Kind) -> str:
        return self.classifier if kind == "classifier" else self.regressor


_BOOSTING = (
    "sklearn.ensemble.HistGradientBoostingClassifier",
    "sklearn.ensemble.HistGradientBoostingRegressor",
)
_FOREST = ("sklearn.ensemble.RandomForestClassifier", "sklearn.ensemble.RandomForestRegressor")
PRESETS = {
    "linear": Preset("sklearn.linear_model.LogisticRegression", "sklearn.linear_model.Ridge"),
    # Leaves of five rows: smaller than full-grown trees, and a leaf's probability is not only 0 or 1.
    "forest": Preset(*_FOREST, {"min_samples_leaf": 5}),
    "boosting": Preset(*_BOOSTING),
    "hist_gradient_boosting": Preset(*_BOOSTING),
    "random_forest": Preset(*_FOREST),
    "xgboost": Preset("xgboost.XGBClassifier", "xgboost.XGBRegressor"),
    "lightgbm": Preset("lightgbm.LGBMClassifier", "lightgbm.LGBMRegressor"),
}
# Those that split by sets of categories.
NATIVE = ("boosting", "hist_gradient_boosting")
RAW = ("HistGradientBoosting", "XGB", "LGBM")
IMPUTED = (
    *("RandomForest", "ExtraTree", "DecisionTree", "GradientBoosting", "AdaBoost", "Bagging"),
    *("MultinomialNB", "ComplementNB", "CategoricalNB"),
)
_XGBOOST = (
    "base_score colsample_bylevel colsample_bynode colsample_bytree gamma grow_policy learning_rate max_bin max_delta_step "
    "max_depth max_leaves min_child_weight monotone_constraints* n_estimators n_jobs num_parallel_tree objective reg_alpha reg_lambda "
    "sampling_method scale_pos_weight subsample tree_method verbosity "
    # Of single objectives.
    "huber_slope quantile_alpha tweedie_variance_power"
)
# The last two lines are LightGBM's own names for what its scikit-learn class does not list.
_LIGHTGBM = (
    "boosting_type class_weight colsample_bytree learning_rate max_depth min_child_samples min_child_weight min_split_gain n_estimators "
    "n_jobs num_leaves objective reg_alpha reg_lambda subsample subsample_for_bin subsample_freq "
    "alpha boost_from_average extra_trees fair_c feature_fraction_bynode is_unbalance max_bin max_delta_step min_data_in_bin "
    "monotone_constraints* path_smooth poisson_max_delta_step scale_pos_weight tweedie_variance_power verbosity"
)
BOOSTERS = {
    "xgboost.XGBClassifier": _XGBOOST,
    "xgboost.XGBRegressor": _XGBOOST,
    "lightgbm.LGBMClassifier": _LIGHTGBM,
    "lightgbm.LGBMRegressor": _LIGHTGBM,
}
# What needs another estimator inside. A list of settings cannot hold one; a function can.
META = [
    "sklearn.ensemble.StackingClassifier",
    "sklearn.ensemble.StackingRegressor",
    "sklearn.ensemble.VotingClassifier",
    "sklearn.ensemble.VotingRegressor",
    "sklearn.model_selection.FixedThresholdClassifier",
    "sklearn.model_selection.TunedThresholdClassifierCV",
    "sklearn.multiclass.OneVsOneClassifier",
    "sklearn.multiclass.OneVsRestClassifier",
    "sklearn.multiclass.OutputCodeClassifier",
    "sklearn.semi_supervised.SelfTrainingClassifier",
    "sklearn.model_selection.GridSearchCV",
    "sklearn.model_selection.RandomizedSearchCV",
    "sklearn.pipeline.Pipeline",
]
SEVERAL_TARGETS = [
    "sklearn.linear_model.MultiTaskElasticNet",
    "sklearn.linear_model.MultiTaskElasticNetCV",
    "sklearn.linear_model.MultiTaskLasso",
    "sklearn.linear_model.MultiTaskLassoCV",
    "sklearn.multioutput.ClassifierChain",
    "sklearn.multioutput.MultiOutputClassifier",
    "sklearn.multioutput.MultiOutputRegressor",
    "sklearn.multioutput.RegressorChain",
]
# What refuses a row of a request that is unlike those it has seen, where a model must answer.
UNANSWERED = {
    "sklearn.neighbors.RadiusNeighborsClassifier": "a row without a neighbour in its radius has no answer; use sklearn.neighbors.KNeighborsClassifier",
    "sklearn.neighbors.RadiusNeighborsRegressor": "a row without a neighbour in its radius has no answer; use sklearn.neighbors.KNeighborsRegressor",
    "sklearn.naive_bayes.CategoricalNB": "a number above those in training has no answer; use sklearn.naive_bayes.BernoulliNB",
}
# Classifiers that give no probabilities, whatever their options; calibration makes them.
WITHOUT_PROBABILITIES = [
    "sklearn.linear_model.PassiveAggressiveClassifier",
    "sklearn.linear_model.Perceptron",
    "sklearn.linear_model.RidgeClassifier",
    "sklearn.linear_model.RidgeClassifierCV",
    "sklearn.svm.LinearSVC",
]


def columns_as(class_name: str) -> Literal["raw", "imputed", "scaled"]:
    """How a class, by its full name, takes its columns: see pipeline.training.estimators.named."""
    name = class_name.rpartition(".")[2]
    if name.startswith(RAW):
        return "raw"
    return "imputed" if name.startswith(IMPUTED) else "scaled"


def kind_of(task: str) -> Kind:
    """Which kind of estimator the task takes."""
    return tasks.TASKS[task].estimator


def class_named(estimator: str, kind: Kind) -> str:
    """The full name of the class that `training.estimator` means, for a task that takes that kind."""
    return PRESETS[estimator].class_for(kind) if estimator in PRESETS else estimator


def estimator_fault(estimator: str, kind: Kind, calibrated: bool = False) -> str:
    """What is wrong with a name that is no `module:function`; '' for nothing."""
    if estimator in PRESETS:
        return ""
    if estimator.startswith("sklearn."):
        return _class_fault(estimator, kind, calibrated)
    if estimator in BOOSTERS:
        return (
            ""
            if estimator in _known(kind)
            else f"{estimator} is no {kind}, which the task takes{_other(estimator, kind)}"
        )
    return (
        f"must be one of {', '.join(PRESETS)}, a class such as sklearn.svm.SVC, or module:function; got {estimator!r}"
    )


def option_faults(estimator: str, kind: Kind, options: Options) -> Iterator[str]:
    """What is wrong with the names of options, and with lists among their values."""
    known = options_of(estimator, kind)
    if known is None:
        return
    for option, value in options.items():
        if option == "random_state":
            yield "random_state is training.seed"
        elif option not in known:
            yield f"{estimator} has no option {option}; it has {', '.join(sorted(known))}"
        elif isinstance(value, tuple | list) and not known[option]:
            yield f"{option} of {estimator} must be text, a number, true or false; got a list"


def objectives_faults(
    estimator: str, task: str, options: Options, ranges: Options = MappingProxyType({})
) -> Iterator[tuple[str, str]]:
    """(key below `training`, what is wrong) with the objective of XGBoost and LightGBM, stated or searched."""
    name = class_named(estimator, kind_of(task))
    if name not in BOOSTERS:
        return
    library = name.partition(".")[0]
    stated = [("options", options["objective"])] if "objective" in options else []
    searched = ranges.get("objective", ())
    listed = searched if isinstance(searched, tuple | list) else (searched,)
    for key, objective in [*stated, *(("search.ranges.objective", each) for each in listed)]:
        if why := objective_fault(library, task, objective):
            yield key, why
    if options.get("objective") == "reg:quantileerror" and "quantile_alpha" not in options:
        yield "options", "objective reg:quantileerror needs quantile_alpha, such as 0.9"


def options_of(estimator: str, kind: Kind) -> dict[str, bool] | None:
    """{option: whether it takes a list} of a preset or a class; None for what has no such list, or is no right name."""
    written = _known(kind).get(class_named(estimator, kind))
    return None if written is None else {name.rstrip("*"): name.endswith("*") for name in written.split()}


@functools.cache
def _known(kind: Kind) -> dict[str, str]:
    from pipeline.settings import scikit_learn

    own = {name: options for name, options in BOOSTERS.items() if name.endswith(kind.capitalize())}
    return (scikit_learn.CLASSIFIERS if kind == "classifier" else scikit_learn.REGRESSORS) | own


def _class_fault(estimator: str, kind: Kind, calibrated: bool) -> str:
    from pipeline.settings import scikit_learn

    if estimator in META:
        return f"{estimator} needs an estimator inside: return both from a function and name it as module:function"
    if estimator in SEVERAL_TARGETS:
        return f"{estimator} predicts several targets; a model has one"
    if estimator in UNANSWERED:
        return f"{estimator} cannot be served: {UNANSWERED[estimator]}"
    if estimator in WITHOUT_PROBABILITIES and kind == "classifier" and not calibrated:
        return f"{estimator} gives no probabilities; set training.calibration: sigmoid, or choose another class"
    if estimator in _known(kind):
        return ""
    if estimator in scikit_learn.CLASSIFIERS or estimator in scikit_learn.REGRESSORS:
        return f"{estimator} is no {kind}, which the task takes{_other(estimator, kind)}"
    module, _, name = estimator.rpartition(".")
    if name in scikit_learn.OTHERS.get(module, "").split():
        return f"{estimator} is no {kind}: it transforms, groups or sets apart, and predicts no target"
    every = [*_known(kind)]
    same = [known for known in every if known.rpartition(".")[2].lower() == name.lower()]
    near = same or difflib.get_close_matches(estimator, every, 1, 0.8)
    return f"{estimator} is no class of scikit-learn" + (f"; did you mean {near[0]}?" if near else "")


def _other(estimator: str, kind: Kind) -> str:
    """The class of that kind that goes by the same name, in words that follow a sentence."""
    for mine, other in (("Classifier", "Regressor"), ("Regressor", "Classifier"), ("SVC", "SVR"), ("SVR", "SVC")):
        if estimator.endswith(mine) and (name := estimator.removesuffix(mine) + other) in _known(kind):
            return f"; use {name}"
    return ""
