"""The model as MLflow has it, for MLflow's page and for `mlflow models serve`; a slot serves the package instead.

MLflow's own server answers as a slot does: a binary model gives the probability of 1, a number for each row. MLflow can call
predict_proba, which gives both probabilities, so the logged pipeline has two steps that keep the second one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.serving.schema import Column, Schema
from pipeline.serving.trusted import TRUSTED_TYPES
from pipeline.settings.models import Model
from pipeline.settings.training import Training
from pipeline.training import frames, skops_file, tasks
from pipeline.workspaces.dvc_graph import read_json
from pipeline.workspaces.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd
    from sklearn.base import BaseEstimator

EXAMPLE_ROWS = 5


def log(workspace: Workspace, model: Model) -> Any:
    """Logs the run's model to the active MLflow run; returns MLflow's record of it."""
    import mlflow
    import pandas as pd
    import sklearn
    import skops

    rows = pd.read_parquet(workspace.files.reference).head(EXAMPLE_ROWS)
    example = frames.feature_frame(rows, model.training, _schema(workspace).doubles)
    estimator = skops_file.load(workspace.files.model)
    predictions = tasks.of(model.training).predict(estimator, example)
    return mlflow.sklearn.log_model(
        one_number(estimator, model.training),
        name="model",
        serialization_format="skops",
        skops_trusted_types=TRUSTED_TYPES,
        signature=mlflow.models.infer_signature(example, predictions),
        input_example=_input_example(workspace, model),
        # Without this list MLflow would load the model in another process to infer it.
        pip_requirements=[f"scikit-learn=={sklearn.__version__}", f"skops=={skops.__version__}", "pandas"],
    )


def one_number(estimator: BaseEstimator, training: Training) -> BaseEstimator:
    """A pipeline whose `predict` gives what `Task.predict` gives: for a binary model the probability of 1.

    It has only scikit-learn's own classes: stacking gives the probability of the second class to the next step, and that step
    is a line through it, times 1 plus 0, which changes no bit.
    """
    if tasks.of(training).output != "probability":
        return estimator
    import numpy as np
    from sklearn.ensemble import StackingClassifier
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import LabelEncoder

    probability = StackingClassifier([("model", estimator)], cv="prefit", stack_method="predict_proba")
    probability.estimators_, probability.stack_method_ = [estimator], ["predict_proba"]
    probability._label_encoder = LabelEncoder().fit([0, 1])
    probability.classes_, probability.final_estimator_ = np.array([0, 1]), None
    same = LinearRegression()
    same.coef_, same.intercept_, same.n_features_in_ = np.array([1.0]), 0.0, 1
    return Pipeline([("probability", probability), ("same", same)])


def _input_example(workspace: Workspace, model: Model) -> pd.DataFrame:
    """One row that the contract allows, for MLflow's page and its requests: no row of the data is copied to where people look."""
    import pandas as pd

    schema = _schema(workspace)
    row = {column.name: _neutral(column) for column in schema.columns}
    return frames.feature_frame(pd.DataFrame([row]), model.training, schema.doubles)


def _schema(workspace: Workspace) -> Schema:
    return Schema.of_manifest(read_json(workspace.files.package / "manifest.json"))


def _neutral(column: Column) -> Any:
    """A column's example as a snapshot has it."""
    import pandas as pd

    return pd.Timestamp(column.example()) if column.kind == "datetime" else column.read(column.example())
