"""A workspace has the code and settings of the moment, shares the cache, and leaves the project alone."""

import subprocess
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from pipeline import lineage, workspace
from pipeline.errors import StageError
from pipeline.params import load

pytestmark = pytest.mark.slow

AS_OF = datetime(2024, 2, 20, tzinfo=UTC)


def git(project, *arguments):
    return subprocess.run(
        ["git", "-C", str(project), *arguments], capture_output=True, text=True, check=True
    ).stdout.strip()


def opened(project, run="run/1"):
    return workspace.open_workspace(project, project / "home", run, "churn", AS_OF, "a test")


def test_it_has_its_own_as_of_and_leaves_the_projects_alone(project):
    before = (project / "params.yaml").read_text()
    made = opened(project)
    assert load(made.folder).model("churn").as_of == AS_OF
    assert (project / "params.yaml").read_text() == before
    assert workspace.read(made.folder) == made == opened(project)


def test_uncommitted_work_is_in_it_and_named_by_a_commit(project):
    """The branch, the index and the files stay as they are."""
    head = git(project, "rev-parse", "HEAD")
    clean = opened(project)
    assert (clean.code_revision, clean.uncommitted) == (head, False)
    (project / "pipeline" / "new_idea.py").write_text("X = 1\n")
    status = git(project, "status", "--porcelain")
    dirty = opened(project, "run/2")
    assert dirty.uncommitted
    assert (dirty.folder / "pipeline" / "new_idea.py").is_file()
    assert git(project, "show", f"{dirty.code_revision}:pipeline/new_idea.py") == "X = 1"
    assert (git(project, "status", "--porcelain"), git(project, "rev-parse", "HEAD")) == (status, head)


def test_stages_run_in_it_and_a_second_run_is_restored(project):
    made = opened(project)
    for stage in lineage.order(made.folder):
        workspace.run_stage(made, stage)
    other = opened(project, "run/2")
    (made.folder / "pipeline" / "training.py").read_text()
    for stage in lineage.order(other.folder):
        workspace.run_stage(other, stage)
    assert other.data_version() == made.data_version()
    assert other.files.model.read_bytes() == made.files.model.read_bytes()
    assert other.files.model.stat().st_ino == made.files.model.stat().st_ino, "restored from the cache, not made again"


def test_a_failed_stage_tells_its_own_line(project):
    (project / "customers" / "all.parquet").unlink()
    made = opened(project)
    with pytest.raises(StageError, match="churn source: .*No files found"):
        workspace.run_stage(made, "snapshot")


def test_four_runs_side_by_side_do_not_meet(project):
    runs = [f"run/{i}" for i in range(4)]
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda run: opened(project, run), runs))
    assert len({m.folder for m in made}) == 4
    assert all((m.folder / "dvc.yaml").is_file() for m in made)


def test_a_half_made_workspace_does_not_block_the_next(project):
    made = opened(project)
    (made.folder / workspace.RUN_FILE).unlink()
    assert opened(project).folder == made.folder


def test_old_workspaces_of_ended_runs_are_pruned(project):
    for i in range(4):
        opened(project, f"run/{i}")
    assert len(workspace.prune(project, project / "home", keep=1, ended={"run/0", "run/1", "run/2"})) == 2
    assert {f.name for f in (project / "home" / "workspaces").iterdir()} >= {"run-3"}


def test_without_a_repository_it_is_one_line(tmp_path, project):
    import shutil

    bare = tmp_path / "bare"
    shutil.copytree(project, bare, ignore=shutil.ignore_patterns(".git"))
    with pytest.raises(StageError, match="is not a git repository with a commit") as refused:
        workspace.open_workspace(bare, bare / "home", "r", "churn", AS_OF, "")
    assert "\n" not in str(refused.value)
