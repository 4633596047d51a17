"""MLflow's store in a file says what it holds without MLflow."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from pipeline.errors import RegistryAwayError
from pipeline.registry.held import Held, held
from pipeline.registry.held_file import Database

TABLES = """
CREATE TABLE registered_models (name, workspace DEFAULT 'default');
CREATE TABLE registered_model_aliases (alias, version INTEGER, name, workspace DEFAULT 'default');
CREATE TABLE model_versions (name, version INTEGER, current_stage, run_id, workspace DEFAULT 'default');
CREATE TABLE model_version_tags (key, value, name, version INTEGER, workspace DEFAULT 'default');
CREATE TABLE runs (run_uuid, lifecycle_stage);
CREATE TABLE experiments (experiment_id INTEGER, name, lifecycle_stage, workspace DEFAULT 'default');
INSERT INTO registered_models (name) VALUES ('churn'), ('empty');
INSERT INTO registered_model_aliases (alias, version, name) VALUES ('champion', 2, 'churn');
INSERT INTO model_versions (name, version, current_stage, run_id) VALUES ('churn', 1, 'Deleted_Internal', 'r1'), ('churn', 2, 'None', 'r2'), ('churn', 3, 'None', 'r3');
INSERT INTO model_version_tags (key, value, name, version) VALUES ('k', 'v', 'churn', 2);
INSERT INTO runs VALUES ('r2', 'active');
INSERT INTO experiments (experiment_id, name, lifecycle_stage) VALUES (7, 'churn', 'deleted');
"""


@pytest.fixture
def store(tmp_path: Path) -> Database:
    with sqlite3.connect(tmp_path / "mlflow.db") as connection:
        connection.executescript(TABLES)
    return Database(tmp_path / "mlflow.db")


@pytest.mark.parametrize(
    ("model", "version", "expected"),
    [
        ("churn", "2", Held(True, True, "2", True, "r2", "active", "7", "deleted")),
        ("churn", "1", Held(True, False, "2", False, "", "missing", "7", "deleted")),
        ("churn", "3", Held(True, True, "2", False, "r3", "missing", "7", "deleted")),
        ("empty", "1", Held(True, False, None, False, "", "missing", "", "missing")),
        ("other", "1", Held()),
    ],
)
def test_the_store_says_what_it_holds(store: Database, model: str, version: str, expected: Held) -> None:
    """A version that MLflow deleted, a run that is gone and a model that was never there are told apart."""
    assert held(store, model, version, lambda tags: tags == {"k": "v"}) == expected


def test_a_file_that_is_no_store_of_mlflow_is_told(tmp_path: Path) -> None:
    """The error names the file and what SQLite says of it."""
    (tmp_path / "mlflow.db").write_text("no database")
    with pytest.raises(RegistryAwayError, match=r"mlflow\.db: its store cannot be read \(.*not a database"):
        Database(tmp_path / "mlflow.db").aliases("churn")
