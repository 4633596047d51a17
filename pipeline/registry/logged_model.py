"""The model as MLflow has it, for MLflow's page and for `mlflow models serve`; a slot serves the package instead.

MLflow's own server answers as a slot does: a binary model gives the probability of 1, a number for each row, and a model of several
classes the probability of each by its name, in a data frame. MLflow can call predict_proba, which gives a matrix without names, so the
logged pipeline has two steps that make of it what a slot answers.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipeline.serving.schema import Column, Schema
from pipeline.settings.models import Model
from pipeline.settings.training import Training
from pipeline.training import frames, onnx_form, skops_file, tasks
from pipeline.training.estimators import boosters
from pipeline.workspaces.dvc_graph import read_json
from pipeline.workspaces.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd
    from sklearn.base import BaseEstimator

EXAMPLE_ROWS = 5
# What skops reads back a method from.
NAMED_TYPES = ("sklearn.pipeline.Pipeline", "sklearn.pipeline.Pipeline.transform")


def log(workspace: Workspace, model: Model) -> Any:
    """Logs the run's model to the active MLflow run; returns MLflow's record of it."""
    import mlflow
    import pandas as pd
    import sklearn
    import skops

    rows = pd.read_parquet(workspace.files.reference).head(EXAMPLE_ROWS)
    example = frames.features_of(rows, model, _schema(workspace).doubles)
    estimator = skops_file.load(workspace.files.served_model)
    answering = as_a_slot(estimator, model.training)
    # The last steps have the names of classes, those before them a matrix.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="X does not have valid feature names")
        predictions = answering.predict(example)
        return mlflow.sklearn.log_model(
            answering,
            name="model",
            serialization_format="skops",
            skops_trusted_types=[*skops_file.TRUSTED, *(NAMED_TYPES if tasks.classes_of(estimator) else ())],
            signature=mlflow.models.infer_signature(example, predictions),
            input_example=_input_example(workspace, model),
            # Without this list MLflow would load the model in another process to infer it.
            pip_requirements=[
                f"scikit-learn=={sklearn.__version__}",
                f"skops=={skops.__version__}",
                "pandas",
                *_library(estimator),
            ],
        )


def _library(estimator: Any) -> list[str]:
    """The library of a booster, which is no part of scikit-learn."""
    inside = onnx_form.innermost(estimator[-1])
    return [boosters.requirement(inside)] if boosters.is_booster(inside) else []


def as_a_slot(estimator: BaseEstimator, training: Training) -> BaseEstimator:
    """A pipeline whose `predict` gives what a slot answers; it has only scikit-learn's own classes."""
    match tasks.of(training).output:
        case "probability":
            return _one_number(estimator)
        case "probabilities":
            return _named(estimator, tasks.classes_of(estimator))
        case _:
            return estimator


def _one_number(estimator: BaseEstimator) -> BaseEstimator:
    """The probability of 1: stacking gives that of the second class to the next step, and that step is a line through it, times 1 plus 0,
    which changes no bit."""
    import numpy as np
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import Pipeline

    same = LinearRegression()
    same.coef_, same.intercept_, same.n_features_in_ = np.array([1.0]), 0.0, 1
    return Pipeline([("probability", _probabilities(estimator, 2)), ("same", same)])


def _named(estimator: BaseEstimator, classes: Sequence[str]) -> BaseEstimator:
    """A data frame with a column for each class: a scaler that scales nothing gives the probabilities the names that it was fitted with.

    A pipeline that ends with a scaler has no `predict`, the method that MLflow calls, so it gets its `transform` as one.
    """
    import numpy as np
    import pandas as pd
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    names = StandardScaler(with_mean=False, with_std=False).set_output(transform="pandas")
    names.fit(pd.DataFrame(np.zeros((1, len(classes))), columns=list(classes)))
    steps = [("probabilities", _probabilities(estimator, len(classes))), ("names", names)]
    answering = Pipeline(steps)
    answering.predict = Pipeline(steps).transform
    return answering


def _probabilities(estimator: BaseEstimator, classes: int) -> BaseEstimator:
    """A step that gives the fitted estimator's probabilities; of two classes that of the second."""
    import numpy as np
    from sklearn.ensemble import StackingClassifier
    from sklearn.preprocessing import LabelEncoder

    step = StackingClassifier([("model", estimator)], cv="prefit", stack_method="predict_proba")
    step.estimators_, step.stack_method_ = [estimator], ["predict_proba"]
    step._label_encoder = LabelEncoder().fit(np.arange(classes))
    step.classes_, step.final_estimator_ = np.arange(classes), None
    return step


def _input_example(workspace: Workspace, model: Model) -> pd.DataFrame:
    """One row that the contract allows, for MLflow's page and its requests: no row of the data is copied to where people look."""
    import pandas as pd

    schema = _schema(workspace)
    row = {column.name: _neutral(column) for column in schema.columns}
    row[model.source.event_time] = pd.Timestamp(Column("", "datetime").example())
    return frames.features_of(pd.DataFrame([row]), model, schema.doubles)


def _schema(workspace: Workspace) -> Schema:
    return Schema.of_manifest(read_json(workspace.files.package / "manifest.json"))


def _neutral(column: Column) -> Any:
    """A column's example as a snapshot has it."""
    import pandas as pd

    return pd.Timestamp(column.example()) if column.kind == "datetime" else column.read(column.example())
