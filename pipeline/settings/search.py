"""The section `training.search`: which options are searched, how many of them, and for how long."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, Field

from pipeline.settings import estimators
from pipeline.settings.section import Section

Scalar = float | int | str | bool | None
SCALES = ("log", "linear")
# Options that say what is predicted, where the loss or the objective is that of a quantile: a better score would be another question's.
QUANTILES = ("quantile", "alpha", "quantile_alpha")
QUANTILE = {"quantile", "reg:quantileerror"}


def _sensible(written: tuple[Scalar, ...]) -> tuple[Scalar, ...]:
    if not written:
        raise ValueError("is an empty list; write values, or [low, high, log] or [low, high, linear]")
    if written[-1] in SCALES and written[-1] is not None:
        low, high = written[0], written[1] if len(written) == 3 else None
        numbers = all(isinstance(end, int | float) and not isinstance(end, bool) for end in (low, high))
        if not (numbers and low < high):  # type: ignore[operator]
            raise ValueError(f"must be [low, high, {written[-1]}] with numbers low < high; got {list(written)}")
        if written[-1] == "log" and low <= 0:  # type: ignore[operator]
            raise ValueError(f"a log range begins above 0; got {low}")
    return written


# Values to choose from, or (low, high, "log" or "linear"); whole ends give whole numbers.
Range = Annotated[tuple[Scalar, ...], AfterValidator(_sensible)]


class Search(Section):
    """`training.search`: options are tried for so many minutes, at most so many; without `ranges` those of USUAL."""

    # The time box of the search; the model's own fit comes after it.
    minutes: float = Field(gt=0, le=10_000)
    candidates: int = Field(default=64, ge=2, le=10_000)
    ranges: dict[str, Range] = Field(default_factory=dict)


_BOOSTING: dict[str, tuple[Scalar, ...]] = {
    "learning_rate": (0.02, 0.3, "log"),
    "max_iter": (50, 500, "log"),
    "max_leaf_nodes": (7, 127, "log"),
    "min_samples_leaf": (5, 200, "log"),
    "l2_regularization": (0.001, 10.0, "log"),
}
_FOREST: dict[str, tuple[Scalar, ...]] = {"min_samples_leaf": (1, 100, "log"), "max_features": (0.2, 1.0, "linear")}
_LINEAR: dict[str, dict[str, tuple[Scalar, ...]]] = {
    "classifier": {"C": (0.0001, 100.0, "log")},
    "regressor": {"alpha": (0.001, 10_000.0, "log")},
}
# What is searched without `ranges`, by the preset's name.
USUAL: Mapping[str, dict[str, tuple[Scalar, ...]]] = {
    "forest": _FOREST,
    "random_forest": _FOREST,
    "boosting": _BOOSTING,
    "hist_gradient_boosting": _BOOSTING,
    "xgboost": {
        "learning_rate": (0.02, 0.3, "log"),
        "n_estimators": (50, 500, "log"),
        "max_depth": (3, 10, "linear"),
        "min_child_weight": (1.0, 100.0, "log"),
        "subsample": (0.5, 1.0, "linear"),
        "colsample_bytree": (0.5, 1.0, "linear"),
        "reg_lambda": (0.01, 10.0, "log"),
    },
    "lightgbm": {
        "learning_rate": (0.02, 0.3, "log"),
        "n_estimators": (50, 500, "log"),
        "num_leaves": (7, 127, "log"),
        "min_child_samples": (5, 200, "log"),
        "colsample_bytree": (0.5, 1.0, "linear"),
        "reg_lambda": (0.001, 10.0, "log"),
    },
}


def ranges_of(
    search: Search, estimator: str, kind: estimators.Kind, options: Mapping[str, object]
) -> dict[str, tuple[Scalar, ...]]:
    """What is searched: the ranges of params.yaml, else the preset's usual ones without what `options` settles."""
    usual = _LINEAR[kind] if estimator == "linear" else USUAL.get(estimator, {})
    return dict(search.ranges) or {name: of for name, of in usual.items() if name not in options}


def search_faults(
    search: Search, estimator: str, kind: estimators.Kind, options: Mapping[str, object]
) -> list[tuple[str, str]]:
    """(key below `training`, what is wrong) between the search and the estimator."""
    if not ranges_of(search, estimator, kind, options):
        return [
            ("search.ranges", f"{estimator} has no usual ranges left to search; give some, as {{C: [0.01, 100, log]}}")
        ]
    known = estimators.options_of(estimator, kind)
    found = []
    for name in search.ranges:
        if name in QUANTILES and kind == "regressor" and QUANTILE & {options.get("loss"), options.get("objective")}:
            found.append((f"search.ranges.{name}", "is the quantile that is predicted; set it in training.options"))
        elif name in options:
            found.append((f"search.ranges.{name}", "is in training.options too; leave it in one of them"))
        elif known is not None and name not in known:
            found.append(
                (f"search.ranges.{name}", f"{estimator} has no option {name}; it has {', '.join(sorted(known))}")
            )
    return found
