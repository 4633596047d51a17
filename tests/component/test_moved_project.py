"""A project's folder that was moved: its environment and MLflow's store name the new place, and nothing writes into the old one."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from configobj import ConfigObj

from pipeline.context import Context
from pipeline.registry import moved_store
from pipeline.registry.packages import package_digest
from pipeline.services import moved_venv
from pipeline.services.environment import Addresses, environment
from pipeline.workspaces import dvc_config
from tests.support.versions import registered, retrain

CODE = "import sys\nprint(sys.argv[1:])\n"


def program(venv: Path, first: str) -> Path:
    path = venv / "bin" / "tool"
    path.write_text(first + CODE)
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("old", ["/gone/project", "/gone/it's a project"])
@pytest.mark.parametrize("new", ["project", "it's ü 50%"])
def test_a_moved_environment_runs_its_programs_again(tmp_path, old, new):
    """A program whose first line names the old folder runs in the new one, whatever letters either has."""
    venv = tmp_path / new / ".venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(sys.executable)
    quoted = "'" + f"{old}/.venv/bin/python".replace("'", "'\"'\"'") + "'"
    by_shell = f"#!/bin/sh\n'''exec' {quoted} \"$0\" \"$@\"\n' '''\n"
    tool = program(venv, by_shell if "'" in old else f"#!{old}/.venv/bin/python\n")
    finder = venv / "lib" / "python3.11" / "site-packages" / "__editable___perennial_finder.py"
    finder.parent.mkdir(parents=True)
    finder.write_text(f"MAPPING = { ({'pipeline': f'{old}/pipeline'})!r}\n")
    (venv / "bin" / "system").write_text("#!/usr/bin/python3\n")
    (venv / ".installed").touch()
    os.utime(venv / ".installed", (1, 1))
    assert moved_venv.follow(venv) == 2
    assert (venv / ".installed").stat().st_mtime == 1
    ran = subprocess.run([str(tool), "a", "b c"], capture_output=True, text=True, check=True)
    assert ran.stdout == "['a', 'b c']\n"
    assert tool.stat().st_mode & stat.S_IXUSR
    found: dict[str, dict[str, str]] = {}
    exec(finder.read_text(), found)
    assert found["MAPPING"] == {"pipeline": f"{venv.parent}/pipeline"}
    assert (venv / "bin" / "system").read_text() == "#!/usr/bin/python3\n"
    assert (venv / ".installed").read_text() == f"{venv.parent}\n"
    assert moved_venv.follow(venv) == 0


def test_a_moved_project_goes_on_in_its_new_folder(trained_before, churn_artifacts, monkeypatch):
    """After a move old versions are fetched and new ones are trained, and nothing makes the old folder again."""
    old, new = trained_before, trained_before.with_name("moved")
    registry = Context.here().registry
    assert registered(registry, churn_artifacts, "one") == "1"
    signed = package_digest(registry.deployable_package("churn", "1"))
    # In the folder again, as a person would move it: no process works in it.
    monkeypatch.chdir(old.parent)
    old.rename(new)
    monkeypatch.chdir(new)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")  # MLflow sets it in this process
    shutil.rmtree(Context.here().home / "versions")
    assert package_digest(Context.here().registry.deployable_package("churn", "1")) == signed
    assert Context.here().registry.reference_file("churn", "1", signed).is_file()
    assert retrain(new, "two") == "2"
    assert Context.here().registry.deployable_package("churn", "2").is_relative_to(new)
    assert not old.exists()


def test_mlflows_store_names_its_artifacts_in_the_new_folder(tmp_path):
    """Every path below the old root is below the new one; other paths and addresses stay."""
    database, root = tmp_path / "mlflow.db", tmp_path / "mlflow" / "artifacts"
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE experiments (artifact_location TEXT)")
        connection.execute("CREATE TABLE runs (artifact_uri TEXT)")
        paths = ["/old 50%_/home/mlflow/artifacts/churn", "s3://bucket/mlflow/artifacts/churn", "/elsewhere/mlruns/0"]
        connection.executemany("INSERT INTO experiments VALUES (?)", [(path,) for path in paths])
        runs = ["/old 50%_/home/mlflow/artifacts/churn/r", "/old 50%X/home/mlflow/artifacts/churn/r"]
        connection.executemany("INSERT INTO runs VALUES (?)", [(path,) for path in runs])
    assert moved_store.follow(database, root) == ["/old 50%_/home/mlflow/artifacts"]
    assert moved_store.follow(database, root) == []
    with sqlite3.connect(database) as connection:
        assert [path for (path,) in connection.execute("SELECT * FROM experiments")] == [f"{root}/churn", *paths[1:]]
        assert [path for (path,) in connection.execute("SELECT * FROM runs")] == [f"{root}/churn/r", runs[1]]


def test_airflow_gets_every_path_that_its_own_file_would_keep(tmp_path):
    """What Airflow derives from its home and writes into airflow.cfg at its first start is a variable of the services too."""
    spec = importlib.util.find_spec("airflow")
    template = Path(spec.origin).parent / "config_templates" / "config.yml"
    given = environment(tmp_path, tmp_path / "home", Addresses("http://a:1", "http://m:2", "http://r:3", "http://p:4"))
    paths = [
        f"AIRFLOW__{section}__{name}".upper()
        for section, content in yaml.safe_load(template.read_text()).items()
        for name, option in content["options"].items()
        if "{AIRFLOW_HOME}" in str(option["default"])
    ]
    assert [name for name in paths if str(tmp_path) not in given.get(name, "")] == []
    assert "AIRFLOW__LOGGING__BASE_LOG_FOLDER" in paths


def test_dvcs_site_cache_is_in_the_new_folder(tmp_path):
    """A site cache that the project had in its old folder is named again; one that a person chose stays."""
    local = tmp_path / ".dvc" / "config.local"
    local.parent.mkdir()
    for named, then in (
        ("/gone/project/.perennial/dvc-site", f"{tmp_path}/.perennial/dvc-site"),
        ("/var/cache/dvc", "/var/cache/dvc"),
    ):
        local.write_text(f"[core]\n    site_cache_dir = {named}\n    autostage = true\n")
        dvc_config._follow_project(tmp_path)
        assert ConfigObj(str(local))["core"] == {"site_cache_dir": then, "autostage": "true"}
