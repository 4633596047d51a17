"""What MLflow has of a run's gates: the report that people read, and figures that a search compares."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.context import Context
from pipeline.errors import GateError
from pipeline.registry import card_records, record, trained_rows
from pipeline.registry.judged import TAG, judged_champion
from pipeline.registry.versions import PACKAGE_TAG, RETRAIN
from pipeline.training.signing import SigningKey


def test_mlflow_has_the_report_and_finds_a_run_by_a_gate(version_one, tmp_path, caplog):
    """A gate's word and its figure find the run, the report with its pictures is beside it, and MLflow has the version as it was judged and knows which rows the version learnt."""
    registry = Context.here().registry
    client = registry.client()
    run = client.get_run(client.get_model_version("churn", "1").run_id)
    searched = "tags.`gate.naive_baseline` LIKE 'passed%' and metrics.`gate.naive_baseline` > 0.2"
    assert [each.info.run_id for each in client.search_runs([run.info.experiment_id], searched)] == [run.info.run_id]
    assert {"gates.md", "gates.html", "gates.json"} <= {file.path for file in client.list_artifacts(run.info.run_id)}
    pictures = {file.path for file in client.list_artifacts(run.info.run_id, "explanation")}
    assert {"explanation/shap.svg", "explanation/shap.json", "explanation/reliability.svg"} <= pictures
    page = Path(client.download_artifacts(run.info.run_id, "gates.html", tmp_path)).read_text()
    assert 'id="moves"><svg' in page and "Reliability: how often it came true" in page
    assert (
        "](explanation/shap.svg)" in Path(client.download_artifacts(run.info.run_id, "gates.md", tmp_path)).read_text()
    )
    assert card_records.shap_of_run(registry, "churn", run.data.tags["perennial.run"])["how"] == "SHAP"
    assert card_records.shap_of_run(registry, "churn", "another run") == {}
    digest = client.get_model_version("churn", "1").tags[PACKAGE_TAG]
    judged = judged_champion(registry, "churn", "1", digest)
    assert judged.trained_to.isoformat() == "2024-02-23T00:00:00+00:00" and judged.classes == ()
    assert judged_champion(registry, "churn", "1", "of another package") is None
    client.set_model_version_tag("churn", "1", TAG, "of another model")
    assert judged_champion(registry, "churn", "1", digest) is None and "has another digest than its tag" in caplog.text
    assert trained_rows.trained_to(registry, "churn", "1") == "2024-02-23T00:00:00+00:00"
    assert trained_rows.trained_to(registry, "churn", "99") is None


def test_what_is_not_what_was_packaged_is_neither_signed_nor_registered(churn_package, tmp_path):
    """A file of the package that changed after the gates is named, before anything of the version is in MLflow."""
    files = SimpleNamespace(package=tmp_path / "package")
    shutil.copytree(churn_package, files.package)
    (files.package / "model.onnx").write_bytes(b"other bytes")
    names = ("model", "run", "code_revision", "as_of", "reason", "uncommitted")
    workspace = SimpleNamespace(**dict.fromkeys(names, "churn"), files=files, data_version=lambda: "d1.dir")
    client = SimpleNamespace(search_model_versions=lambda query: [])
    registry = SimpleNamespace(client=lambda: client, key=SigningKey(tmp_path))
    with pytest.raises(GateError, match="model churn: package .* model.onnx is not what was packaged; nothing was reg"):
        record.create_version(registry, workspace, None, "a run", RETRAIN, [])
