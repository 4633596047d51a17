"""The settings that Dags are made from: remembered as long as params.yaml says the same, and read again when anything of it changed."""

import json

import pytest

from harness.project import change_params
from pipeline.context import Context
from pipeline.runs import dag_settings as module
from pipeline.runs.dag_settings import dag_settings
from pipeline.settings import models
from pipeline.settings.environment import Environment


@pytest.fixture
def here(project, monkeypatch):
    """A context of the project's, made anew at each call, as each parse of a Dag file has one; and how often params.yaml was read."""
    reads = []
    read = models.load
    monkeypatch.setattr(models, "load", lambda root, memory: reads.append(root) or read(root, memory))
    (project / "dvc.yaml").touch()

    def made():
        return Context(Environment.read().at(project, project / "home"), None)

    made.reads = reads
    return made


def test_params_yaml_is_read_once_while_it_says_the_same(here):
    """The second parse gets the same settings and does not read the blocks."""
    first = dag_settings(here())
    assert first["churn"].schedule.cron and dag_settings(here()) == first
    assert len(here.reads) == 1


@pytest.mark.parametrize("changed", ["params.yaml", "dvc.yaml"])
def test_a_changed_file_is_read_again(here, project, changed):
    """A change of params.yaml, or of the stages in dvc.yaml, is seen at the next parse."""
    dag_settings(here())
    if changed == "params.yaml":
        change_params(project, "models.churn.schedule.cron", "5 5 * * *")
    else:
        (project / changed).write_text("stages: {}\n")
    found = dag_settings(here())
    assert len(here.reads) == 2
    assert (found["churn"].schedule.cron == "5 5 * * *") == (changed == "params.yaml")


@pytest.mark.parametrize(
    ("key", "asset", "said"),
    [
        ("schedule", "champion__churn", "is emitted by the retrain Dag itself, which would never end"),
        ("schedule", "perennial://drift/churn", "starts the retrain Dag anyway; leave it out"),
        ("monitor", "drift__churn", "is emitted by the monitor Dag itself"),
        ("monitor", " orders", "must be an asset's name or URI"),
        ("monitor", "champion__churn", ""),
        ("schedule", "champion__other", ""),
    ],
)
def test_a_model_is_not_started_by_what_it_emits(project, key, asset, said):
    """Such a Dag would start itself for ever; another model's events may start it, and so may going live start a look."""
    change_params(project, f"models.churn.{key}.on_asset", [asset])
    broken = models.load(project).broken.get("churn")
    assert (broken is None) == (not said)
    assert said in str(broken) and f"models.churn.{key}.on_asset" in str(broken or "models.churn." + key + ".on_asset")


def test_changed_rules_read_the_blocks_again(here, monkeypatch, tmp_path):
    """After an upgrade that changed a rule the blocks are read by it, even when params.yaml stayed."""
    dag_settings(here())
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "models.py").write_text("# stricter\n")
    monkeypatch.setattr(module.settings_package, "__file__", str(tmp_path / "rules" / "__init__.py"))
    dag_settings(here())
    assert len(here.reads) == 2


def test_a_broken_block_is_told_again_from_memory_and_healed_by_its_correction(here, project):
    """The fault and the last right schedule of a broken block are remembered too, and gone once the block is right."""
    cron = dag_settings(here())["churn"].schedule.cron
    change_params(project, "models.churn.evaluation.metric", "auc")
    broken = dag_settings(here())["churn"]
    assert "evaluation.metric" in broken.fault and broken.schedule.cron == cron
    assert dag_settings(here())["churn"] == broken and len(here.reads) == 2
    change_params(project, "models.churn.evaluation.metric", "roc_auc")
    assert dag_settings(here())["churn"].fault == ""


def test_a_file_that_cannot_be_read_is_asked_for_each_time(here, project):
    """While params.yaml cannot be read nothing of it is taken from memory without its fault."""
    dag_settings(here())
    (project / "params.yaml").unlink()
    assert all("params.yaml" in dag_settings(here())["churn"].fault for _ in range(2))
    assert len(here.reads) == 3


@pytest.mark.parametrize(
    "content", ["", "[]", '{"churn": 1}', '{"source": "x", "models": {"churn": 1}}', '{"source": "x", "models": []}']
)
def test_a_damaged_memory_is_as_none(here, content):
    """Whatever stands in the file of the last settings, the Dags are made from params.yaml."""
    here().home.mkdir(parents=True, exist_ok=True)
    (here().home / "dag-settings.json").write_text(content)
    assert dag_settings(here())["churn"].fault == ""
    assert json.loads((here().home / "dag-settings.json").read_text())["models"]["churn"]["fault"] == ""
