"""A package is signed by the verdicts that the ledger has of its run, not by texts that people read."""

from datetime import UTC, datetime

import pytest

from pipeline.context import Context
from pipeline.errors import GateError
from pipeline.gates.base import Verdict
from pipeline.ledger.events import GatesChecked
from pipeline.registry import versions
from pipeline.runs import steps
from pipeline.workspaces import dvc_graph


@pytest.fixture
def checked(project, trained_before):
    """(context, workspace, MLflow run) of a model that passed its gates and is not registered yet."""
    context = Context.here()
    folder = steps.open_run(context, "one", "churn", datetime(2024, 3, 1, tzinfo=UTC), "a test")
    for stage in dvc_graph.order(project):
        steps.run_stage(context, folder, stage)
    return context, folder, steps.check_gates(context, folder)


def record(context, verdicts):
    """Has the ledger say that the run's gates were checked again, with these verdicts."""
    checked = GatesChecked(verdicts=[verdict.as_dict() for verdict in verdicts])
    context.ledger.append(checked, "churn", "one")


def test_the_recorded_verdicts_decide_and_the_tags_do_not(checked):
    """A failed verdict or none leaves the package unsigned, whatever MLflow's tags say; with all passed it is signed."""
    context, folder, run = checked
    client = context.registry.client()
    passed = context.ledger.events(GatesChecked, run="one")[-1].event.verdicts
    record(context, [Verdict("metric_limit", False, 0.1, 0.6, "passed nothing")])
    with pytest.raises(GateError, match="did not pass metric_limit"):
        steps.register(context, folder, run)
    record(context, [])
    with pytest.raises(GateError, match="did not pass any gate"):
        steps.register(context, folder, run)
    record(context, [Verdict.from_dict(verdict) for verdict in passed])
    client.set_tag(run, "gate.metric_limit", "FAILED metric_limit: a text for people")
    version = steps.register(context, folder, run)
    assert client.get_model_version("churn", version).tags[versions.SIGNATURE_TAG]
