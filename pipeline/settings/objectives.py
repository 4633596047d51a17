"""The objectives of XGBoost and LightGBM that a task can be learnt by and a slot can answer: any other is refused before a run begins."""

from __future__ import annotations

import difflib

# By library and task; the first is what the library takes when no option says otherwise.
OBJECTIVES: dict[str, dict[str, tuple[str, ...]]] = {
    "xgboost": {
        "binary": ("binary:logistic", "reg:logistic"),
        "multiclass": ("multi:softprob",),
        "regression": (
            *(
                "reg:squarederror",
                "reg:squaredlogerror",
                "reg:pseudohubererror",
                "reg:absoluteerror",
                "reg:quantileerror",
            ),
            *("reg:logistic", "count:poisson", "reg:gamma", "reg:tweedie"),
        ),
    },
    "lightgbm": {
        "binary": ("binary",),
        "multiclass": ("multiclass", "softmax"),
        "regression": (
            *(
                "regression",
                "regression_l2",
                "l2",
                "mean_squared_error",
                "mse",
                "l2_root",
                "root_mean_squared_error",
                "rmse",
            ),
            *("regression_l1", "l1", "mean_absolute_error", "mae", "huber", "fair", "quantile"),
            *("mape", "mean_absolute_percentage_error", "poisson", "gamma", "tweedie", "cross_entropy", "xentropy"),
        ),
    },
}
# What people mean by some of the others, by how their names begin: (why not, what instead by task).
OTHERS = {
    "multi:softmax": ("gives the class and no probabilities", {"multiclass": "multi:softprob"}),
    "multiclassova": ("gives probabilities that do not add up to 1", {"multiclass": "multiclass"}),
    "multiclass_ova": ("gives probabilities that do not add up to 1", {"multiclass": "multiclass"}),
    "ova": ("gives probabilities that do not add up to 1", {"multiclass": "multiclass"}),
    "ovr": ("gives probabilities that do not add up to 1", {"multiclass": "multiclass"}),
    "binary:logitraw": ("gives scores and no probabilities", {"binary": "binary:logistic"}),
    "binary:hinge": ("gives 0 or 1 and no probabilities", {"binary": "binary:logistic"}),
    "binary:logistic": ("is for two classes", {"regression": "reg:logistic"}),
    "cross_entropy_lambda": ("is a share in another form", {"regression": "cross_entropy"}),
    "xentlambda": ("is a share in another form", {"regression": "cross_entropy"}),
    "rank": ("ranks the rows of a group, and a model answers each row alone", {}),
    "lambdarank": ("ranks the rows of a group, and a model answers each row alone", {}),
    "survival:": ("is for times that have not ended yet, and a target is one number", {}),
    "reg:expectileerror": ("is not served", {"regression": "reg:quantileerror"}),
}


def objective_fault(library: str, task: str, objective: object) -> str:
    """What is wrong with an objective of a library, `xgboost` or `lightgbm`; '' for nothing."""
    known = OBJECTIVES[library][task]
    if objective in known:
        return ""
    name = str(objective)
    why, instead = next((of for begin, of in OTHERS.items() if name.startswith(begin)), ("", {}))
    near = instead.get(task) or next(iter(difflib.get_close_matches(name, known, 1, 0.8)), known[0])
    if not why and any(name in names for names in OBJECTIVES[library].values()):
        why = "is of another task"
    said = f"objective {name} {why}" if why else f"{library} has no objective {name}"
    others = f"or another of {', '.join(known)}" if len(known) > 1 else "or leave it out"
    return f"{said}; for the task {task} use {near}, {others}"
