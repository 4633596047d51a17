"""A run whose steps land on workers that share no disk, only a DVC remote, MLflow and a ledger."""

import os
import shutil
import subprocess
from datetime import UTC, datetime

import pytest
import yaml

from harness.project import change_params
from pipeline.context import Context
from pipeline.errors import StageError
from pipeline.ledger.events import RunSettled, StageKept, VersionRegistered
from pipeline.ledger.usage_events import BytesMoved
from pipeline.runs import landed_profiles, steps, workspace_transfer
from pipeline.workspaces import dvc_graph, workspace

AS_OF = datetime(2024, 3, 1, tzinfo=UTC)


@pytest.fixture
def workers(project, tmp_path, monkeypatch):
    """Two clones of the project with homes of their own, and a function that makes this process one of them.

    A path means another file on each, as in two containers: they take turns at one place.
    """
    remote = tmp_path / "remote"
    (project / ".dvc" / "config").write_text(f"[core]\n    remote = far\n['remote \"far\"']\n    url = {remote}\n")
    change_params(project, "workspaces.keep", 0)
    commit = ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qam", "a remote that both see"]
    subprocess.run(["git", "-C", str(project), *commit], check=True)
    monkeypatch.setenv("PERENNIAL_MODE", "server")
    monkeypatch.setenv("PERENNIAL_DEPLOYER_URL", "")
    monkeypatch.setenv("PERENNIAL_LEDGER_URL", f"sqlite:///{tmp_path}/ledger.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    here = tmp_path / "worker"
    for name in ("a", "b"):
        subprocess.run(["git", "clone", "-q", str(project), str(tmp_path / name / "project")], check=True)
        shutil.copytree(project / "customers", tmp_path / name / "project" / "customers")
    monkeypatch.setenv("PERENNIAL_PROJECT", str(here / "project"))
    monkeypatch.setenv("PERENNIAL_HOME", str(here / "home"))
    now = []

    def become(name: str) -> Context:
        monkeypatch.chdir(tmp_path)
        if now:
            here.rename(tmp_path / now.pop())
        (tmp_path / name).rename(here)
        now.append(name)
        monkeypatch.chdir(here / "project")
        return Context.here()

    return become


def test_every_step_may_be_taken_by_another_worker(workers):
    """A run whose steps alternate between workers registers the version that its stages made."""
    context = workers("a")
    folder = steps.open_run(context, "run/1", "churn", AS_OF, "a test")
    stages = list(dvc_graph.order(context.project))
    for i, stage in enumerate(stages):
        steps.run_stage(workers("ba"[i % 2]), folder, stage)
    transferred = context.ledger.events(StageKept)
    assert [entry.step for entry in transferred] == stages
    mlflow_run = steps.check_gates(workers("b"), folder)
    context = workers("a")
    version = steps.register(context, folder, mlflow_run)
    opened = workspace_transfer.current_workspace(context, folder)
    assert set(yaml.safe_load(transferred[-1].event.lock)["stages"]) == {f"{stage}@churn" for stage in stages}
    (registered,) = context.ledger.events(VersionRegistered)
    assert (registered.body["version"], registered.body["data_version"]) == (version, opened.data_version())
    assert opened.reason == "a test" and opened.as_of == AS_OF.isoformat()
    moved = {entry.event.what: entry for entry in context.ledger.events(BytesMoved)}
    fetched, card = moved["fetched by a worker"], moved["model card"]
    assert fetched.run == card.run == "run/1" and fetched.event.bytes > 1_000 and card.event.bytes > 10_000


def test_it_is_the_same_model_as_on_one_machine(workers, monkeypatch, capfd, tmp_path):
    """A run that changes workers, which count what has landed beside the training, makes the same model and reference as one that does not."""
    made = []
    monkeypatch.setattr(landed_profiles, "GROUP_ROWS", 600)
    for run, names in (("run/1", "aaaaaa"), ("run/2", "ababab")):
        if run == "run/2":
            for name in "ba":
                less_rows_are_mapped(workers(name).project)
        folder = steps.open_run(workers("a"), run, "churn", AS_OF, "a test")
        for name, stage in zip(names, dvc_graph.order(workers("a").project), strict=True):
            if stage == "train":
                days = count_what_has_landed(workers, run, folder, monkeypatch, tmp_path)
            steps.run_stage(workers(name), folder, stage)
        opened = workspace_transfer.current_workspace(workers("a"), folder)
        reference = opened.outs("evaluate")["artifacts/churn/reference.parquet"]
        made.append((dvc_graph.read_json(opened.files.package / "manifest.json")["model_digest"], reference))
        assert (f"; {days} days were counted beside the training" in capfd.readouterr().out) == (run == "run/2")
        assert not opened.files.counted.exists()
    assert made[0] == made[1]


def less_rows_are_mapped(project):
    """The same commit in each clone."""
    change_params(project, "models.churn.monitor.mapped_rows", 1000)
    when = {f"GIT_{who}_DATE": "2024-01-01T00:00:00Z" for who in ("AUTHOR", "COMMITTER")}
    commit = ["git", "-C", str(project), "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qam", "less rows"]
    subprocess.run(commit, check=True, env=os.environ | when)


def count_what_has_landed(workers, run, folder, monkeypatch, tmp_path):
    """As the tasks beside the training do: one group on each worker, one of which is tried again and whose profiles are lost later, and one whose worker
    dies. How many days are counted."""
    groups = landed_profiles.groups(workers("b"), folder)
    if run == "run/1":
        assert groups == []
        return 0
    first, second, third = groups
    assert first["title"].startswith("1 of 3: ") and first["title"].endswith(" rows")
    counted = [
        landed_profiles.profile_group(workers(name), run, folder, group)
        for name, group in zip("ab", (first, third), strict=True)
    ]
    assert landed_profiles.profile_group(workers("a"), run, folder, third)["partitions"] == 0
    with monkeypatch.context() as patch:
        patch.setattr(landed_profiles.dvc_remote, "keep", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            landed_profiles.profile_group(workers("a"), run, folder, second)
    # An earlier version's profiles of the same data, in the same edges, are not counted again.
    assert [group["partitions"] for group in landed_profiles.groups(workers("a"), folder)] == [second["partitions"]]
    for lost in tmp_path.rglob(counted[1]["profiles"][2:]):
        lost.unlink()
    left = [group["partitions"] for group in landed_profiles.groups(workers("a"), folder)]
    assert left == [second["partitions"], third["partitions"]]
    return counted[0]["partitions"]


def test_a_worker_that_was_lost_in_a_fetch_fetches_again(workers, monkeypatch):
    """A worker that was interrupted while it fetched a workspace fetches it again."""
    folder = steps.open_run(workers("a"), "run/1", "churn", AS_OF, "a test")
    steps.run_stage(workers("a"), folder, "snapshot")
    context = workers("b")

    def cut_off(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.runs.workspace_transfer.dvc_remote.fetch", cut_off)
        with pytest.raises(KeyboardInterrupt):
            workspace_transfer.current_workspace(context, folder)
    opened = workspace_transfer.current_workspace(context, folder)
    assert opened.files.counts.is_file() and list(opened.files.snapshot.glob("*.parquet"))


def test_a_worker_that_never_settles_a_run_clears_up_too(workers):
    """A worker removes workspaces of settled runs, also when it settles none itself."""
    folders = []
    for run in ("run/1", "run/2"):
        folders.append(steps.open_run(workers("a"), run, "churn", AS_OF, "a test"))
        steps.run_stage(workers("a"), folders[-1], "snapshot")
        workspace_transfer.current_workspace(context := workers("b"), folders[-1])
        context.ledger.append(RunSettled(), "churn", run)
    assert [workspace.Path(folder).is_dir() for folder in folders] == [False, True]


def test_code_that_a_worker_does_not_have_is_said_in_one_line(workers):
    """A worker without the run's code revision fails with one line."""
    context = workers("a")
    change_params(context.project, "models.churn.training.seed", 2)
    folder = steps.open_run(context, "run/1", "churn", AS_OF, "uncommitted work")
    steps.run_stage(context, folder, "snapshot")
    with pytest.raises(StageError, match="which this clone lacks; start all workers from one image"):
        steps.run_stage(workers("b"), folder, "validate")


def test_on_one_machine_nothing_is_transferred(project):
    """On one machine no workspace is transferred."""
    context = Context.here()
    folder = steps.open_run(context, "run/1", "churn", AS_OF, "a test")
    steps.run_stage(context, folder, "snapshot")
    assert context.ledger.events(StageKept) == []
    assert workspace_transfer.current_workspace(context, folder) == workspace.read(workspace.Path(folder))
