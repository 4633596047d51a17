"""A package is signed by the verdicts that its MLflow run was recorded with, not by texts that people read."""

from datetime import UTC, datetime

import mlflow
import pytest

from pipeline.context import Context
from pipeline.errors import GateError
from pipeline.gates.base import Verdict
from pipeline.registry import versions
from pipeline.runs import steps
from pipeline.workspaces import dvc_graph


@pytest.fixture
def checked(project):
    """(context, workspace, MLflow run) of a model that passed its gates and is not registered yet."""
    context = Context.here()
    folder = steps.open_run(context, "one", "churn", datetime(2024, 3, 1, tzinfo=UTC), "a test")
    for stage in dvc_graph.order(project):
        steps.run_stage(context, folder, stage)
    return context, folder, steps.check_gates(context, folder)


def record(run, verdicts):
    """Replaces the verdicts of an MLflow run."""
    with mlflow.start_run(run_id=run):
        mlflow.log_dict({"verdicts": [verdict.as_dict() for verdict in verdicts]}, "gates.json")


def test_the_recorded_verdicts_decide_and_the_tags_do_not(checked):
    """A failed verdict or none leaves the package unsigned, whatever the tags say; with all passed it is signed."""
    context, folder, run = checked
    client = mlflow.MlflowClient()
    passed = mlflow.artifacts.load_dict(f"{client.get_run(run).info.artifact_uri}/gates.json")["verdicts"]
    record(run, [Verdict("metric_limit", False, 0.1, 0.6, "passed nothing")])
    with pytest.raises(GateError, match="did not pass metric_limit"):
        steps.register(context, folder, run)
    record(run, [])
    with pytest.raises(GateError, match="did not pass any gate"):
        steps.register(context, folder, run)
    record(run, [Verdict.from_dict(verdict) for verdict in passed])
    client.set_tag(run, "gate.metric_limit", "FAILED metric_limit: a text for people")
    version = steps.register(context, folder, run)
    assert client.get_model_version("churn", version).tags[versions.SIGNATURE_TAG]
