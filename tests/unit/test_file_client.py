"""MLflow's store in a file is read with the calls of MLflow's client, without MLflow."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from pipeline.errors import RegistryError
from pipeline.registry import file_client
from pipeline.registry.file_client import FileClient, Folder, folder_of
from pipeline.registry.held_file import Database
from pipeline.registry.lookups import failures, is_missing, model_version, version_of_alias, versions_of

TABLES = """
CREATE TABLE registered_models (name, workspace DEFAULT 'default');
CREATE TABLE registered_model_aliases (alias, version INTEGER, name, workspace DEFAULT 'default');
CREATE TABLE model_versions (name, version INTEGER, current_stage, run_id, source, workspace DEFAULT 'default');
CREATE TABLE model_version_tags (key, value, name, version INTEGER, workspace DEFAULT 'default');
CREATE TABLE runs (run_uuid, artifact_uri, lifecycle_stage, start_time, end_time, experiment_id INTEGER);
CREATE TABLE tags (key, value, run_uuid);
CREATE TABLE params (key, value, run_uuid);
CREATE TABLE latest_metrics (key, value, is_nan, run_uuid);
CREATE TABLE inputs (source_type, source_id, destination_type, destination_id);
CREATE TABLE logged_models (model_id, artifact_location);
INSERT INTO registered_models (name) VALUES ('churn'), ('empty');
INSERT INTO registered_model_aliases (alias, version, name) VALUES ('champion', 2, 'churn');
INSERT INTO model_versions (name, version, current_stage, run_id, source) VALUES ('churn', 1, 'Deleted_Internal', 'r1', ''), ('churn', 2, 'None', 'r2', 'models:/m-2'),
  ('churn', 10, 'None', 'r10', '');
INSERT INTO model_version_tags (key, value, name, version) VALUES ('k', 'two', 'churn', 2), ('k', 'ten', 'churn', 10);
INSERT INTO model_versions VALUES ('churn', 3, 'None', 'r3', '', 'theirs');
INSERT INTO model_version_tags VALUES ('k', 'theirs', 'churn', 2, 'theirs');
INSERT INTO registered_models VALUES ('none', 'theirs');
INSERT INTO registered_model_aliases VALUES ('champion', 1, 'none', 'theirs');
INSERT INTO runs VALUES ('r2', 'ARTIFACTS', 'active', 100, 200, 7), ('r3', 's3://b/r3', 'deleted', 100, NULL, 7);
INSERT INTO tags VALUES ('t', 'v', 'r2');
INSERT INTO params VALUES ('p', '7', 'r2');
INSERT INTO latest_metrics VALUES ('auc', 0.5, 0, 'r2'), ('odd', 0, 1, 'r2');
INSERT INTO inputs VALUES ('RUN_OUTPUT', 'r2', 'MODEL_OUTPUT', 'm-2'), ('DATASET', 'd', 'RUN', 'r2');
INSERT INTO logged_models VALUES ('m-2', '/there');
"""


@pytest.fixture
def client(tmp_path: Path) -> FileClient:
    (tmp_path / "artifacts" / "package").mkdir(parents=True)
    (tmp_path / "artifacts" / "package" / "manifest.json").write_text("{}")
    (tmp_path / "artifacts" / "run.yaml").write_text("a: 1")
    with sqlite3.connect(tmp_path / "mlflow.db") as connection:
        connection.executescript(TABLES.replace("ARTIFACTS", str(tmp_path / "artifacts")))
    return FileClient(Database(tmp_path / "mlflow.db"))


def test_versions_are_told_with_their_tags(client: FileClient) -> None:
    """A deleted version and another workspace's are not there, numbers are sorted as numbers, and each version has its own tags."""
    assert versions_of(client, "churn") == ["2", "10"]
    assert (model_version(client, "churn", "2").tags, model_version(client, "churn", "10").tags) == (
        {"k": "two"},
        {"k": "ten"},
    )
    assert (version_of_alias(client, "churn", "champion"), version_of_alias(client, "none", "champion")) == ("2", None)
    with pytest.raises(RegistryError, match="has no version 1; its versions are: 2, 10"):
        model_version(client, "churn", "1")
    with pytest.raises(RegistryError, match="model empty: was never trained"):
        model_version(client, "empty", "1")


def test_a_run_is_told_with_its_figures(client: FileClient) -> None:
    """Metrics that are no number come as such; what the run made is its logged model, and no data set."""
    run = client.get_run("r2")
    assert (run.data.metrics["auc"], run.data.metrics["odd"] != run.data.metrics["odd"]) == (0.5, True)
    assert (run.data.tags, run.data.params, run.info.end_time) == ({"t": "v"}, {"p": "7"}, 200)
    (made,) = run.outputs.model_outputs
    assert client.get_logged_model(made.model_id).artifact_location == "/there"
    assert [each.info.run_id for each in client.runs_without_version("other", "7", 101)] == ["r2"]
    assert client.runs_without_version("churn", "7", 101) == [], "its version 2 was made by it"
    assert client.runs_without_version("other", "7", 100) == []
    assert client.places("churn")["2"] == [run.info.artifact_uri, "/there"]
    with pytest.raises(failures()) as missing:
        client.get_run("r9")
    assert is_missing(missing.value)


def test_what_another_process_wrote_since_is_asked_for_anew(client: FileClient, tmp_path: Path) -> None:
    """A run that ended, or made a version, after the runs of all were read is told as it is."""

    def without_version() -> list[str]:
        return [each.info.run_id for each in client.runs_without_version("other", "7", 101)]

    def write(statement: str) -> None:
        with sqlite3.connect(tmp_path / "mlflow.db") as connection:
            connection.execute(statement)

    assert without_version() == ["r2"]
    write("INSERT INTO runs VALUES ('r4', '/r4', 'active', 90, 95, 7)")
    assert without_version() == ["r2", "r4"]
    write("INSERT INTO model_versions (name, version, current_stage, run_id) VALUES ('other', 1, 'None', 'r2')")
    assert without_version() == ["r4"]


def test_artifacts_are_listed_copied_and_removed(client: FileClient, tmp_path: Path) -> None:
    """By their path below the run's folder, with sizes of files alone."""
    listed = [(item.path, item.is_dir, item.file_size) for item in client.list_artifacts("r2")]
    assert listed == [("package", True, None), ("run.yaml", False, 4)]
    assert [item.path for item in client.list_artifacts("r2", "package")] == ["package/manifest.json"]
    assert client.list_artifacts("r2", "nothing") == []
    copied = Path(client.download_artifacts("r2", "package", str(tmp_path / "to")))
    assert (copied / "manifest.json").read_text() == "{}"
    with pytest.raises(failures(), match="No such artifact: 'x'"):
        client.download_artifacts("r2", "x", str(tmp_path / "to"))
    Folder(tmp_path / "artifacts").delete_artifacts("package")
    assert [item.path for item in client.list_artifacts("r2")] == ["run.yaml"]


@pytest.mark.parametrize(
    ("uri", "folder"),
    [
        ("/a/b c", "/a/b c"),
        ("/a/b%20c", "/a/b%20c"),
        ("file:///a/b%20c", "/a/b c"),
        ("s3://bucket/a", None),
        ("mlflow-artifacts:/1/a", None),
        ("file://host/a", None),
    ],
)
def test_only_a_folder_of_this_disk_is_one(uri: str, folder: str | None) -> None:
    """All other addresses are left to MLflow."""
    assert folder_of(uri) == (Path(folder) if folder else None)


def test_a_store_that_mlflow_did_not_make_here_is_left_to_mlflow(tmp_path: Path) -> None:
    """No file, no tables yet, a moved home and a server are MLflow's; a store whose tables were made for this home is read."""
    uri = f"sqlite:///{tmp_path / 'mlflow' / 'mlflow.db'}"
    assert file_client.of(tmp_path, uri) is None
    (tmp_path / "mlflow").mkdir()
    (tmp_path / "mlflow" / "mlflow.db").touch()
    assert file_client.of(tmp_path, uri) is None
    (tmp_path / "mlflow" / "made").write_text("/elsewhere")
    assert file_client.of(tmp_path, uri) is None
    (tmp_path / "mlflow" / "made").write_text(str(tmp_path))
    assert file_client.of(tmp_path, uri) is not None
    assert file_client.of(tmp_path, "http://127.0.0.1:5000") is None
