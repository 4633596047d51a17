"""A version can be made again from its records alone, and its data leads to it and back."""

import json
import shutil
import subprocess
from datetime import UTC, datetime

import pytest

from harness.commands import said
from harness.project import CHURN, change_params, customers
from pipeline.context import Context
from pipeline.errors import DataError, RegistryError, StageError
from pipeline.workspaces import dvc_graph, workspace
from tests.support.versions import AS_OF, digest, rebuilt, repro, retrain

SEARCHED = CHURN["training"] | {"options": {"max_iter": 10}, "search": {"minutes": 0.05, "candidates": 5000}}

pytestmark = pytest.mark.usefixtures("trained_before")


def test_a_version_is_rebuilt_when_tree_source_and_cache_have_moved_on(project):
    """A version is rebuilt identically after its code and source have changed and the cache is gone."""
    (project / "pipeline" / "training" / "fit.py").open("a").write("\nIDEA = 1\n")
    retrain(project)
    (project / "pipeline" / "training" / "fit.py").write_text("raise SystemExit('half an edit')\n")
    customers().assign(spend=1.0).to_parquet(project / "customers" / "all.parquet")
    (project / "params.yaml").write_text("models: [half an edit")
    shutil.rmtree(project / ".dvc" / "cache")
    left = project / ".perennial" / "rebuilds" / "999999999-churn-1-x"
    left.mkdir(parents=True)
    result = rebuilt()
    assert result.identical, result.compared
    assert {compared.what for compared in result.compared} >= {
        "artifacts/churn/snapshot",
        "artifacts/churn/model.skops",
        "artifacts/churn/metrics.json",
        "artifacts/churn/refit",
        "artifacts/churn/package",
        "model digest (sha256)",
    }
    assert result.uncommitted
    assert result.environment == {}
    assert list((project / ".perennial" / "rebuilds").iterdir()) == []
    assert not (project / ".dvc" / "cache" / "files").exists(), "the project's own cache was not used"


def test_what_differs_is_named(project):
    """A rebuild that differs fails and names the file that differs."""
    (project / "my_models.py").write_text(
        "import os\nfrom sklearn.linear_model import LogisticRegression\n"
        "def drawn(**options):\n"
        "    return LogisticRegression(C=1 + int.from_bytes(os.urandom(3), 'big') / 1e9, **options)\n"
    )
    change_params(project, "models.churn.training.estimator", "my_models:drawn")
    change_params(project, "models.churn.training.options", {})
    retrain(project)
    done = said(["reproduce", "churn", "1"])
    assert done.returncode == 1, done.stderr
    last = done.stdout.strip().splitlines()[-1]
    assert "differs in artifacts/churn/model.skops" in last
    assert "snapshot" not in last


def test_what_cannot_be_fetched_is_one_line(project, version_one):
    """A rebuild whose data or version is missing fails with one line that says what is missing."""
    stored = project / ".perennial" / "remote"
    stored.rename(project / ".perennial" / "elsewhere")
    with pytest.raises(DataError, match=r"remote .*"):
        rebuilt()
    (project / ".perennial" / "elsewhere").rename(stored)
    # Without the listing of a folder nobody could say how many files are needed.
    for file in [f for f in sorted((stored / "files" / "md5").rglob("*")) if f.is_file() and f.suffix != ".dir"][-3:]:
        file.unlink()
    with pytest.raises(DataError, match=r"lacks \d+ of \d+ files"):
        rebuilt()
    with pytest.raises(RegistryError, match="has no version 9"):
        rebuilt("9")


def test_a_code_revision_that_is_gone_is_one_line(project, version_one):
    """A rebuild whose code revision is no longer in the repository fails with one line."""
    shutil.rmtree(project / ".git")
    subprocess.run(["git", "init", "-q"], check=True)
    subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-q", "--allow-empty", "-m", "x"], check=True
    )
    with pytest.raises(StageError, match="is not in this repository.*refs/perennial"):
        rebuilt()


def test_nothing_from_the_future_reaches_the_model(project, version_one):
    """Rows after the as-of, and labels that came after it, change no byte of the model."""
    import pandas as pd

    future = customers().tail(900).assign(spend=9.0, left=1.0)
    future["customer"] = [f"x{i}" for i in range(len(future))]
    early = future.head(300).assign(
        seen_at=pd.Timestamp("2024-02-10", tz="UTC"), decided_at=pd.Timestamp("2024-03-01 00:00:01", tz="UTC")
    )
    pd.concat([future, early]).to_parquet(project / "customers" / "future.parquet")
    retrain(project, "two")
    assert digest("2") == digest("1")
    on_time = early.assign(customer=[f"y{i}" for i in range(len(early))], decided_at=pd.Timestamp(AS_OF))
    on_time.to_parquet(project / "customers" / "on_time.parquet")
    retrain(project, "three")
    assert digest("3") != digest("1"), "a label known at the as-of itself does count"


def test_a_run_and_dvc_repro_share_what_they_have_made(project, version_one):
    """A run and `dvc repro` with the same as-of make the same digest and restore each other's outputs."""
    output = repro()
    for stage in list(dvc_graph.order(project))[1:]:
        assert f"Stage '{stage}@churn' is cached - skipping run" in output
    manifest = dvc_graph.read_json(project / "artifacts" / "churn" / "package" / "manifest.json")
    assert manifest["model_digest"] == digest("1")
    change_params(project, "models.churn.as_of", "2024-02-25")
    assert "Running stage 'train@churn'" in repro()
    opened = workspace.open_workspace(
        project, project / ".perennial", "r", "churn", datetime(2024, 2, 25, tzinfo=UTC), ""
    )
    for stage in dvc_graph.order(project):
        workspace.run_stage(opened, stage)
    ours, theirs = opened.files.model.stat(), (project / "artifacts" / "churn" / "model.skops").stat()
    assert opened.files.model.read_bytes() == (project / "artifacts" / "churn" / "model.skops").read_bytes()
    assert ours.st_mtime == theirs.st_mtime or ours.st_nlink > 1, "restored, not trained again"


def test_another_environment_trains_anew(project, version_one):
    """Changed requirements train again, and restore only the data stages."""
    (project / "requirements" / "main.txt").open("a").write("# scikit-learn is another one now\n")
    output = repro()
    assert "Stage 'validate@churn' is cached - skipping run" in output
    for stage in ("train", "evaluate", "package"):
        assert f"Running stage '{stage}@churn'" in output


def test_a_version_is_rebuilt_when_only_our_own_ref_holds_its_code(project):
    """A version is rebuilt when only refs/perennial holds its commit."""
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@t"]
    (project / "pipeline" / "training" / "fit.py").open("a").write("\nIDEA = 1\n")
    subprocess.run([*git, "commit", "-qam", "an idea"], check=True)
    retrain(project)
    code = Context.here().registry.version_facts("churn", "1").tags["perennial.code_revision"]
    shutil.rmtree(project / ".perennial" / "workspaces")
    for command in (
        ["worktree", "prune"],
        ["reset", "-q", "--hard", "HEAD~1"],
        ["reflog", "expire", "--expire=now", "--all"],
        ["gc", "-q", "--prune=now"],
    ):
        subprocess.run([*git, *command], check=True)
    names = subprocess.run(["git", "for-each-ref", "--contains", code], capture_output=True, text=True, check=True)
    assert [line.split()[-1] for line in names.stdout.splitlines()] == [f"refs/perennial/{code}"]
    result = json.loads(said(["reproduce", "churn", "1", "--json"]).stdout)
    assert (result["identical"], result["code_revision"]) == (True, code)


def test_dvc_repro_asks_a_source_that_was_corrected_as_a_run_does(project, version_one):
    """`dvc repro` asks a corrected source again, as a run does, and makes the same model."""
    frame = customers()
    frame.loc[2000:2600, "spend"] += 30
    frame.to_parquet(project / "customers" / "all.parquet")
    change_params(project, "models.churn.as_of", "2024-03-01")
    output = repro()
    assert "Running stage 'snapshot@churn'" in output
    manifest = dvc_graph.read_json(project / "artifacts" / "churn" / "package" / "manifest.json")
    assert manifest["model_digest"] != digest("1")
    retrain(project, "two")
    assert manifest["model_digest"] == digest("2")
    change_params(project, "models.churn.as_of", "2024-03-01T01:00:00+01:00")
    (project / "dvc.lock").unlink()
    output = repro()
    for stage in list(dvc_graph.order(project))[1:]:
        assert f"Stage '{stage}@churn' is cached - skipping run" in output


def test_dvc_repro_sees_an_edited_hook_as_a_run_does(project):
    """`dvc repro` trains again when a file that a hook imports has changed."""
    (project / "own").mkdir()
    (project / "own" / "depth.py").write_text("DEPTH = 2\n")
    (project / "own" / "trees.py").write_text(
        "from sklearn.tree import DecisionTreeClassifier\n"
        "from own.depth import DEPTH\n\n\n"
        "def tree():\n    return DecisionTreeClassifier(max_depth=DEPTH, random_state=0)\n"
    )
    change_params(project, "models.churn.training.estimator", "own.trees:tree")
    change_params(project, "models.churn.training.options", {})
    repro()
    output = repro()
    for stage in list(dvc_graph.order(project))[1:]:
        assert f"Stage '{stage}@churn' didn't change, skipping" in output
    first = dvc_graph.read_json(project / "artifacts" / "churn" / "package" / "manifest.json")["model_digest"]
    (project / "own" / "depth.py").write_text("DEPTH = 3\n")
    assert "Running stage 'train@churn'" in repro()
    manifest = dvc_graph.read_json(project / "artifacts" / "churn" / "package" / "manifest.json")
    assert manifest["model_digest"] != first
    retrain(project)
    assert manifest["model_digest"] == digest("1")


def test_a_search_is_repeated_to_where_its_time_box_ended_it(project):
    """The rebuild of a search that its box cut short is identical; its lines were shown, and MLflow and `search` tell the choice."""
    change_params(project, "models.churn.training", SEARCHED)
    done = said(["retrain", "churn"])
    assert done.returncode == 0, done.stderr
    assert "search: candidate 0, rung 1" in done.stderr
    result = rebuilt()
    assert result.identical, result.compared
    shown = said(["search", "churn", "1", "--json"])
    found = json.loads(shown.stdout)
    assert 1 < found["candidates"] < SEARCHED["search"]["candidates"]
    registry = Context.here().registry
    params = registry.client().get_run(registry.version_facts("churn", "1").mlflow_run).data.params
    assert {name: str(value) for name, value in found["chosen"].items()} == {
        name.removeprefix("search.chosen."): value
        for name, value in params.items()
        if name.startswith("search.chosen.")
    }
    assert "churn version 1: search: " in said(["search", "churn", "1"]).stdout


def test_other_code_of_ones_own_trains_anew(project):
    """A run trains again when a module that a hook imports has changed."""
    (project / "my_models.py").write_text(
        "from sklearn.linear_model import LogisticRegression\nimport my_settings\n"
        "def ours(**options):\n    return LogisticRegression(C=my_settings.C, **options)\n"
    )
    (project / "my_settings.py").write_text("C = 1.0\n")
    change_params(project, "models.churn.training.estimator", "my_models:ours")
    change_params(project, "models.churn.training.options", {})
    retrain(project, "one")
    retrain(project, "again")
    (project / "my_settings.py").write_text("C = 0.001\n")
    retrain(project, "two")
    assert digest("2") == digest("1") != digest("3")
    tags_of = [Context.here().registry.version_facts("churn", v).tags for v in "123"]
    assert len({tags["perennial.data_version"] for tags in tags_of}) == 1
    assert rebuilt("1").identical
