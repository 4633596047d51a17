"""What makes the databases of Airflow and MLflow."""

from __future__ import annotations

import pytest
from filelock import FileLock, Timeout

from pipeline.services import databases


def test_mlflows_tables_are_made_under_the_registrys_lock(tmp_path, monkeypatch):
    """A retrain that brings the services up makes MLflow's tables too; both at once would break the file for good."""
    made = []

    def run(command):
        made.append(command[0])
        if command[0] == "mlflow":
            with pytest.raises(Timeout):
                FileLock(tmp_path / "mlflow" / "made.lock").acquire(timeout=0)

    monkeypatch.setattr(databases, "_run", run)
    (tmp_path / "airflow").mkdir()
    assert databases.make(tmp_path, "sqlite:///of-a-test.db")
    assert sorted(made) == ["airflow", "mlflow"]
