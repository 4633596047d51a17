"""What MLflow has of a run's gates: the report that people read, and figures that a search compares."""

from pipeline.context import Context
from pipeline.registry import trained_rows


def test_mlflow_has_the_report_and_finds_a_run_by_a_gate(version_one):
    """A gate's word and its figure find the run, the report is beside it, and MLflow knows which rows the version learnt."""
    registry = Context.here().registry
    client = registry.client()
    run = client.get_run(client.get_model_version("churn", "1").run_id)
    searched = "tags.`gate.naive_baseline` LIKE 'passed%' and metrics.`gate.naive_baseline` > 0.2"
    assert [each.info.run_id for each in client.search_runs([run.info.experiment_id], searched)] == [run.info.run_id]
    assert {"gates.md", "gates.html", "gates.json"} <= {file.path for file in client.list_artifacts(run.info.run_id)}
    assert trained_rows.trained_to(registry, "churn", "1") == "2024-02-23T00:00:00+00:00"
    assert trained_rows.trained_to(registry, "churn", "99") is None
