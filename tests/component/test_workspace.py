"""A workspace has the code and settings of the moment, shares the cache, and leaves the project alone."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import UTC, datetime
from importlib.util import cache_from_source

import psutil
import pytest
import yaml

from pipeline.errors import StageError
from pipeline.settings.models import load, time_of
from pipeline.workspaces import dvc_graph, workspace

AS_OF = datetime(2024, 2, 20, tzinfo=UTC)


def git(project, *arguments):
    return subprocess.run(
        ["git", "-C", str(project), *arguments], capture_output=True, text=True, check=True
    ).stdout.strip()


def opened(project, run="run/1"):
    return workspace.open_workspace(project, project / "home", run, "churn", AS_OF, "a test")


def test_it_has_its_own_as_of_and_leaves_the_projects_alone(project):
    """A workspace has its run's as-of, and the project's params.yaml is not changed."""
    before = (project / "params.yaml").read_text()
    made = opened(project)
    assert load(made.folder).model("churn").as_of == AS_OF
    assert (project / "params.yaml").read_text() == before
    assert workspace.read(made.folder) == made == opened(project)


def test_its_stages_compile_no_module_of_the_project_again(project):
    """A workspace begins with the project's bytecode, which no commit and no status of git sees."""
    made = opened(project)
    assert cache_from_source(str(made.folder / "pipeline/training/fit.py")) in map(str, made.folder.rglob("*.pyc"))
    assert "pyc" not in git(made.folder, "status", "--short", "--untracked-files=all")


@pytest.mark.parametrize(
    "block",
    [
        "{rollout: {serving: {max_rwos: 3}}}",
        "[a list]",
        "{as_of: 2024-03-01T02:00:00+02:00}",
        "{as_of: 2024-03-01T02:00:00+02:00, gates: &same [], monitor: *same}",
    ],
)
def test_a_broken_block_of_another_model_stops_no_stage(project, block):
    """A model's stages run while another's block is broken, also by a time that DVC would refuse, in a file that stays whole."""
    (project / "params.yaml").open("a").write(f"  other: {block}\n")
    made = opened(project)
    workspace.run_stage(made, "snapshot")
    assert made.files.snapshot.is_dir()
    written = yaml.safe_load((made.folder / "params.yaml").read_text())["models"]
    assert ("other" in written) == ("*same" in block)
    if "other" in written:
        assert time_of(written["other"]["as_of"]) == datetime(2024, 3, 1, tzinfo=UTC)


def test_much_untracked_data_is_refused_by_name_and_ignored_data_is_not(project):
    """Untracked data over the limit is refused with the line for .gitignore before anything is committed; with that line the run opens."""
    data = project / "data" / "raw [1].parquet"
    data.parent.mkdir()
    data.write_bytes(os.urandom(2_500_000))
    before = git(project, "count-objects", "-v")

    def opened_with(limit_mb, run):
        return workspace.open_workspace(project, project / "home", run, "churn", AS_OF, "a test", limit_mb)

    with pytest.raises(StageError) as refused:
        opened_with(2, "run/1")
    line = str(refused.value)
    assert line.startswith("data/raw [1].parquet: is 2.5 MB that git neither tracks nor ignores")
    assert "workspaces.max_untracked_mb is 2" in line
    assert git(project, "count-objects", "-v") == before
    ignored = line.partition('add "')[2].partition('" to .gitignore')[0]
    (project / ".gitignore").open("a").write(f"{ignored}\n")
    assert not (opened_with(2, "run/1").folder / "data").exists()
    data.rename(project / "other.parquet")
    assert (opened_with(3, "run/2").folder / "other.parquet").is_file()


def test_no_two_runs_share_a_workspace(project):
    """Runs with similar or long names get different workspaces, and a folder of another run is refused."""
    alike = ["rerun_1", "rerun 1", "rerun/1", "rerun-1", "-rerun-1", "x" * 250, "x" * 251]
    names = {workspace.folder_name(run) for run in alike}
    assert len(names) == len(alike)
    assert "rerun-1" in names
    assert max(map(len, names)) < 128
    made = opened(project)
    made.folder.rename(made.folder.with_name("rerun-1"))
    with pytest.raises(StageError, match="belongs to run run/1 of churn, not to rerun-1; move it to another folder"):
        opened(project, "rerun-1")


def test_uncommitted_work_is_in_it_and_named_by_a_commit(project):
    """A workspace holds uncommitted work as a commit, and branch, index and files stay as they are."""
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
    """A second run with the same inputs gets its outputs from the DVC cache."""
    made = opened(project)
    for stage in dvc_graph.order(made.folder):
        workspace.run_stage(made, stage)
    other = opened(project, "run/2")
    for stage in dvc_graph.order(other.folder):
        workspace.run_stage(other, stage)
    assert other.data_version() == made.data_version()
    assert other.files.model.read_bytes() == made.files.model.read_bytes()
    assert other.files.model.stat().st_ino == made.files.model.stat().st_ino, "restored from the cache, not made again"


def test_a_failed_stage_tells_its_own_line(project):
    """The error of a failed stage is the line that the stage printed."""
    (project / "customers" / "all.parquet").unlink()
    made = opened(project)
    with pytest.raises(StageError, match="churn source: .*No files found"):
        workspace.run_stage(made, "snapshot")


def test_four_runs_side_by_side_do_not_meet(project):
    """Four runs that open workspaces at once get one each."""
    runs = [f"run/{i}" for i in range(4)]
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda run: opened(project, run), runs))
    assert len({m.folder for m in made}) == 4
    assert all((m.folder / "dvc.yaml").is_file() for m in made)


def test_a_half_made_workspace_does_not_block_the_next(project):
    """A workspace without its run file is made again."""
    made = opened(project)
    (made.folder / workspace.RUN_FILE).unlink()
    assert opened(project).folder == made.folder


def killed_in_worktree_add(project, worktree, tmp_path):
    """SIGKILL in the middle of `git worktree add`, while it checks files out."""
    slow = tmp_path / "attributes"
    slow.write_text("* filter=slow\n")
    options = ["-c", "filter.slow.smudge=sleep 60", "-c", f"core.attributesFile={slow}"]
    command = ["git", "-C", str(project), *options, "worktree", "add", "--detach", "--force", str(worktree), "HEAD"]
    running = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    lock = project / ".git" / "worktrees" / worktree.name / "locked"
    until = time.monotonic() + 120
    while not ((worktree / ".git").exists() and lock.exists() and lock.with_name("index.lock").exists()):
        assert time.monotonic() < until
        time.sleep(0.02)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    return lock


def test_git_killed_in_the_middle_of_a_workspace_does_not_block_the_next(project, tmp_path):
    """A worktree that a killed git left locked and half made does not block the next run."""
    worktree = opened(project).folder
    prune(project, keep=0, ended={"run/1"})
    lock = killed_in_worktree_add(project, worktree, tmp_path)
    assert lock.read_text().strip() == "initializing"
    assert (opened(project).folder / "dvc.yaml").is_file()
    prune(project, keep=0, ended={"run/1"})
    killed_in_worktree_add(project, worktree, tmp_path)
    prune(project, keep=0, ended={"run/1"})
    assert not lock.parent.exists(), "nor does it stay in git's own lists"


def test_a_lock_that_a_killed_git_left_on_a_kept_commit_blocks_nobody(project):
    """An old lock file on a ref of ours is removed, and a fresh one matters only when the ref must be written."""
    head = git(project, "rev-parse", "HEAD")
    lock = project / ".git" / "refs" / "perennial" / f"{head}.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    long_ago = time.time() - 3600
    os.utime(lock, (long_ago, long_ago))
    assert opened(project).code_revision == head
    assert git(project, "rev-parse", f"refs/perennial/{head}") == head
    lock.touch()
    assert opened(project, "run/2").code_revision == head, "there is nothing to write"


def test_old_workspaces_of_ended_runs_are_pruned(project):
    """Pruning removes workspaces of ended runs beyond the number to keep."""
    for i in range(4):
        opened(project, f"run/{i}")
    assert len(prune(project, keep=1, ended={"run/0", "run/1", "run/2"})) == 2
    assert {f.name for f in (project / "home" / "workspaces").iterdir()} >= {workspace.folder_name("run/3")}


def prune(project, keep, ended, abandoned_s=3600.0):
    return workspace.prune(project, project / "home", keep, ended, abandoned_s)


def test_a_killed_runs_workspace_goes_when_nothing_happens_there(project):
    """The workspace of a killed run is pruned when it has not changed for a while."""
    for i in range(2):
        opened(project, f"run/{i}")
    long_ago = time.time() - 7200
    first, second = workspace.folder_name("run/0"), workspace.folder_name("run/1")
    os.utime(project / "home" / "workspaces" / first, (long_ago, long_ago))
    assert prune(project, keep=0, ended=set()) == [first]
    assert [f.name for f in (project / "home" / "workspaces").iterdir()] == [second]


def test_a_pruning_that_was_cut_short_leaves_nothing_that_looks_whole(project, monkeypatch):
    """A pruning that was interrupted leaves no folder that looks like a workspace."""
    made = opened(project)
    with monkeypatch.context() as during:
        during.setattr(workspace.shutil, "rmtree", lambda *_, **__: None)
        prune(project, keep=0, ended={"run/1"})
    assert not made.folder.exists()
    assert opened(project).folder == made.folder
    assert (made.folder / "dvc.yaml").is_file()


def test_a_stage_that_was_killed_can_run_again_in_the_same_workspace(project):
    """A stage that was killed runs again in spite of the lock files that DVC left."""
    made = opened(project)
    code = (
        "from pathlib import Path; from pipeline.workspaces import workspace; import sys; "
        "workspace.run_stage(workspace.read(Path(sys.argv[1])), 'snapshot')"
    )
    source = made.folder / "pipeline" / "data" / "source.py"
    whole = source.read_text()
    source.write_text(whole.replace("import importlib\n", "import importlib\nimport time; time.sleep(60)\n", 1))
    running = subprocess.Popen([sys.executable, "-c", code, str(made.folder)], start_new_session=True)
    until = time.monotonic() + 120
    while not any("stage" in p.cmdline() for p in psutil.Process(running.pid).children(recursive=True)):
        assert time.monotonic() < until
        time.sleep(0.1)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    source.write_text(whole)
    workspace.run_stage(made, "snapshot")
    assert made.data_version()


def test_without_a_repository_it_is_one_line(tmp_path, project):
    """Opening a workspace without a git repository fails with one line."""
    import shutil

    bare = tmp_path / "bare"
    shutil.copytree(project, bare, ignore=shutil.ignore_patterns(".git"))
    with pytest.raises(StageError, match="is not a git repository with a commit") as refused:
        workspace.open_workspace(bare, bare / "home", "r", "churn", AS_OF, "")
    assert "\n" not in str(refused.value)


def test_dvc_lock_is_no_part_of_the_code_wherever_the_project_is(project, tmp_path):
    """dvc.lock and files outside the project do not count as uncommitted work."""
    import shutil

    big = tmp_path / "big repo"
    inner = big / "my models"
    shutil.copytree(project, inner, ignore=shutil.ignore_patterns(".git"))
    (big / "other.txt").write_text("one")
    for command in (["init", "-q"], ["add", "-A"], ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "x"]):
        git(big, *command)
    (inner / "dvc.lock").write_text("schema: '2.0'\n")
    (big / "other.txt").write_text("somebody's draft")
    assert workspace.code_revision(inner) == (git(big, "rev-parse", "HEAD"), False)
    made = opened(inner)
    assert made.folder.name == "my models"
    (inner / "pipeline" / "idea.py").write_text("X = 1\n")
    commit, uncommitted = workspace.code_revision(inner)
    assert uncommitted
    assert (
        git(big, "show", "--stat", "--format=", commit).splitlines()[0].split("|")[0].strip()
        == "my models/pipeline/idea.py"
    )


def test_a_path_with_a_comma_is_read_as_one(project, tmp_path):
    """A project path with a comma is refused where it would split a search path."""
    import shutil

    odd = tmp_path / "a, b"
    shutil.copytree(project, odd)
    with pytest.raises(StageError, match="no search path with a comma"):
        workspace.run_stage(opened(odd), "snapshot")


def test_a_stage_run_by_hand_leaves_the_cache_alone(project):
    """A stage that is run by hand writes no file of the DVC cache in place."""
    made = opened(project)
    for stage in dvc_graph.order(made.folder):
        workspace.run_stage(made, stage)
    files = {f: f.read_bytes() for f in (project / ".dvc" / "cache" / "files").rglob("*") if f.is_file()}
    other = opened(project, "run/2")
    for stage in dvc_graph.order(other.folder):
        workspace.run_stage(other, stage)
    text = (other.folder / "params.yaml").read_text()
    (other.folder / "params.yaml").write_text(text.replace("max_iter: 20", "max_iter: 3"))
    for stage in dvc_graph.order(other.folder):
        command = [sys.executable, "-m", "pipeline", "stage", stage, "churn"]
        subprocess.run(command, cwd=other.folder, env=os.environ | {"PERENNIAL_PROJECT": str(project)}, check=True)
    assert other.files.model.read_bytes() != made.files.model.read_bytes()
    assert {f: f.read_bytes() for f in files} == files


def _come_and_go(project, name):
    for _ in range(8):
        folder = workspace.add_worktree(project, project / "home" / name, "HEAD")
        assert (folder / "params.yaml").is_file()
        workspace.remove_worktree(project, project / "home" / name)


def test_worktrees_that_come_and_go_at_once_meet_no_half_made_one(project):
    """Eight processes that add and remove worktrees at once do not disturb each other."""
    with ProcessPoolExecutor(8) as several:
        for done in [several.submit(_come_and_go, project, f"w{number}") for number in range(8)]:
            done.result()
