"""The list of stages, dvc.yaml and the folders of the code agree."""

import ast
import importlib
import inspect
from pathlib import Path

import pytest
import yaml

from harness.project import ROOT
from pipeline.runs.stages import STAGES
from pipeline.settings.models import Model


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_code_it_runs(stage):
    """Each stage of dvc.yaml lists the modules it runs as dependencies."""
    body = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][stage]["do"]
    tree = ast.parse(inspect.getsource(STAGES[stage]))
    found = [
        (node.module, name.name) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for name in node.names
    ]
    used = {importlib.import_module(f"{package}.{name}") for package, name in found}
    assert used
    used |= {m.training for m in used if hasattr(m, "training")}
    assert {str(Path(m.__file__).relative_to(ROOT)) for m in used} <= set(body["deps"])
    assert ("requirements/main.txt" in body["deps"]) == (stage in ("train", "evaluate", "refit", "package"))


def test_a_stage_that_reads_by_the_schema_depends_on_all_of_it():
    """A change of how one kind of column is read runs each stage anew that reads cells."""
    folder = "pipeline/serving/schema"
    files = {str(path.relative_to(ROOT)) for path in (ROOT / folder).glob("*.py")}
    for name, stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].items():
        listed = {dep for dep in stage["do"]["deps"] if dep.startswith(folder)}
        assert listed == (set() if name == "snapshot" else files), name


def test_each_stage_depends_on_what_a_task_means():
    """A change of what a task means runs each stage anew."""
    files = {str(path.relative_to(ROOT)) for path in (ROOT / "pipeline/training/tasks").glob("*.py")}
    for name, stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].items():
        assert files <= set(stage["do"]["deps"]), name


def test_nothing_of_the_product_knows_the_demo():
    """No module of pipeline/, dags/ or plugins/ mentions the demo's flights."""
    words = ("flight", "nycflights", "scheduled_departure", "demo.")
    for folder in ("pipeline", "dags", "plugins"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text().lower()
            assert not [w for w in words if w in text], path


@pytest.mark.parametrize("folder", ["dags", "plugins"])
def test_nothing_heavy_is_imported_at_the_top(folder):
    """No Dag or plugin file imports a heavy library at its top."""
    heavy = ("mlflow", "evidently", "sklearn", "pandas", "onnxruntime")
    for path in (ROOT / folder).glob("*.py"):
        for line in path.read_text().splitlines():
            assert not any(line.startswith((f"import {name}", f"from {name}")) for name in heavy), (path, line)


def test_no_stage_depends_on_a_key_that_may_be_left_out():
    """The params of each stage in dvc.yaml are keys, or sections, that each block has: DVC fails for one that is missing."""
    for stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].values():
        for param in stage["do"]["params"]:
            section = Model
            for part in param.removeprefix("models.${key}.").split("."):
                field = section.model_fields[part]
                assert field.is_required(), param
                section = field.annotation


def test_no_stage_depends_on_a_folder_of_code():
    """Python writes its own files into such a folder, so that no other clone would have the same dependency."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    code = [dep for stage in stages.values() for dep in stage["do"]["deps"] if not dep.startswith("artifacts/")]
    assert len(code) > 20
    assert [dep for dep in code if not (ROOT / dep).is_file()] == []
