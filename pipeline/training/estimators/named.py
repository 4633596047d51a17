"""The estimator that params.yaml names, unfitted, and how it takes its columns.

raw      numbers as they are, missing ones too; categories as whole numbers: boosted trees, which split around a missing value
imputed  a missing number is the median; a category is a column of 0 and 1 for each value: other trees. Not scaled: in float32 a scaled
         value may fall on the other side of a split. Classes that count things are here too, for a scaled number is negative
scaled   imputed, then scaled to mean 0 and spread 1: all else, for a distance or a penalty compares columns with each other
frame    the hook's pipeline has columns of its own
"""

from __future__ import annotations

import importlib
import inspect
from typing import TYPE_CHECKING, Any, Literal

from pipeline.errors import SettingsError
from pipeline.settings import estimators
from pipeline.settings.training import Training

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator

ColumnsAs = Literal["raw", "imputed", "scaled", "frame"]

# Forests learn trees side by side, and the same ones on any number of processors.
FOREST = ("RandomForest", "ExtraTrees")


def estimator_for(training: Training) -> tuple[BaseEstimator, ColumnsAs]:
    """The unfitted estimator, and how it takes its columns. Raises SettingsError for a name or an option that is wrong."""
    made, columns_as = _hooked(training) if ":" in training.estimator else _named(training)
    return _seeded(made, training.seed), columns_as


def _named(training: Training) -> tuple[BaseEstimator, ColumnsAs]:
    kind = estimators.kind_of(training.task)
    if why := estimators.estimator_fault(training.estimator, kind, training.calibration != "none"):
        raise SettingsError("training.estimator", why, "docs/params.md lists the estimators")
    for why in estimators.option_faults(training.estimator, kind, training.options):
        raise SettingsError("training.options", why, "correct it there")
    for key, why in estimators.objectives_faults(training.estimator, training.task, training.options):
        raise SettingsError(f"training.{key}", why, "correct it there")
    name = estimators.class_named(training.estimator, kind)
    preset = estimators.PRESETS.get(training.estimator)
    options = {**(preset.options if preset else {}), **training.options}
    module, _, class_name = name.rpartition(".")
    made = _class(module, class_name)(**{k: _as_taken(module, v) for k, v in options.items()})
    _refuse_wrong(made, training)
    if class_name.startswith(FOREST) and "n_jobs" not in options:
        made.set_params(n_jobs=-1)
    if module == "lightgbm":
        # The same trees on any number of processors, and no lines on stdout.
        made.set_params(deterministic=True, force_row_wise=True, verbosity=options.get("verbosity", -1))
    return made, estimators.columns_as(name)


def _as_taken(module: str, value: Any) -> Any:
    """A list of params.yaml, a tuple in settings, as the library takes it: XGBoost takes a tuple, all else a list."""
    return list(value) if isinstance(value, tuple) and module != "xgboost" else value


def _class(module: str, name: str) -> type:
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise SettingsError(
            "training.estimator",
            f"{module} is not installed",
            "install it with `make boosters`; on a server run `make env BOOSTERS=1` and build its image again",
        ) from error


def _refuse_wrong(made: Any, training: Training) -> None:
    """Raises SettingsError for options of a wrong type or range, and for a classifier that would give no probabilities."""
    if hasattr(made, "_parameter_constraints"):
        try:
            made._validate_params()
        except ValueError as error:
            raise SettingsError("training.options", str(error), "correct it there") from error
    if estimators.kind_of(training.task) == "classifier":
        refuse_without_probabilities(made, training)


def refuse_without_probabilities(made: Any, training: Training) -> None:
    """Raises SettingsError for a classifier without predict_proba, unless it is calibrated."""
    if training.calibration == "none" and not hasattr(made, "predict_proba"):
        raise SettingsError(
            "training.estimator",
            f"{training.estimator} gives no probabilities with these options",
            "set training.calibration: sigmoid, or choose another class",
        )


def _hooked(training: Training) -> tuple[BaseEstimator, ColumnsAs]:
    """What the function returns: a Pipeline that begins with a ColumnTransformer takes the feature frame, anything else our columns."""
    from sklearn.base import is_classifier, is_regressor
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import Pipeline

    from pipeline.data.user_code import hook_function

    hook, kind = training.estimator, estimators.kind_of(training.task)
    function = hook_function(hook)
    try:
        made = function(**training.options)
    except (Exception, SystemExit) as error:
        why = f"{type(error).__name__}: {first_line(error)}"
        raise SettingsError(f"hook {hook}", f"failed ({why})", "correct it, or training.options") from error
    if inspect.isclass(made) or not all(hasattr(made, name) for name in ("fit", "predict", "get_params")):
        what = made.__name__ if inspect.isclass(made) else type(made).__name__
        raise SettingsError(f"hook {hook}", f"returned {what}, which is no estimator", "return an unfitted one")
    if not hasattr(made, "__sklearn_tags__"):
        raise SettingsError(
            f"hook {hook}",
            f"returned {type(made).__name__}, a class of its own that is no estimator of scikit-learn",
            "make it of the classes of scikit-learn, XGBoost or LightGBM",
        )
    if not (is_classifier(made) if kind == "classifier" else is_regressor(made)):
        raise SettingsError(
            f"hook {hook}", f"returned {type(made).__name__}, which is no {kind}", f"the task is {training.task}"
        )
    if kind == "classifier":
        refuse_without_probabilities(made, training)
    whole = isinstance(made, Pipeline) and isinstance(made.steps[0][1], ColumnTransformer)
    return made, "frame" if whole else "scaled"


def _seeded(made: BaseEstimator, seed: int) -> BaseEstimator:
    """With the seed wherever a random_state is left open, inside of it too."""
    open_states = [name for name, value in made.get_params().items() if _is_random_state(name) and value is None]
    return made.set_params(**dict.fromkeys(open_states, seed))


def _is_random_state(name: str) -> bool:
    return name.rpartition("__")[2] == "random_state"


def first_line(error: BaseException) -> str:
    """What a library's error says first: some go on for pages."""
    return next(iter(str(error).strip().splitlines()), "no message")
