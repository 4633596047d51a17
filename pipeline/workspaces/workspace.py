"""A workspace: one run's own git worktree, with the project's DVC cache, so that concurrent runs do not disturb each other.

It holds the code and settings exactly as they were when the run opened, without the blocks of other models. Uncommitted changes are
included: they are committed to a ref of their own, refs/perennial/…, and never to a branch. The run adds its as_of in params.yaml, and
run.yaml, which describes the run.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock
from ruamel.yaml import YAML

from pipeline.errors import PerennialError, StageError
from pipeline.settings import yaml_file
from pipeline.settings.models import Workspaces, time_of
from pipeline.workspaces import bytecode, dvc_config, dvc_graph, own_block, stage_server, untracked, whole_files

RUN_FILE = "run.yaml"
ERROR_FILE = ".stage-error"
USAGE_FILE = ".stage-usage"
# Between the three parts of an error in ERROR_FILE.
SEPARATOR = "\x1f"
# Written by DVC commands in the project; never part of a run's code.
NOT_CODE = ":(exclude,glob)**/dvc.lock"
STALE_LOCK_S = 60
LONGEST_NAME = 100
DEFAULT_MAX_UNTRACKED_MB = Workspaces().max_untracked_mb


@dataclass(frozen=True)
class Workspace:
    """One run. `folder` is the project's folder inside the worktree; `project` is the folder that the run was opened from."""

    folder: Path
    project: Path
    run: str
    model: str
    as_of: str
    reason: str
    code_revision: str
    uncommitted: bool

    @property
    def files(self) -> dvc_graph.Artifacts:
        return dvc_graph.Artifacts(self.folder, self.model)

    def outs(self, stage: str) -> dict[str, str]:
        """A stage's outs, path to DVC hash, from this run's dvc.lock."""
        return locked_outs(yaml_file.parse((self.folder / "dvc.lock").read_text(encoding="utf-8")), stage, self.model)

    def data_version(self) -> str:
        """The DVC hash of the snapshot."""
        first = next(iter(dvc_graph.order(self.folder)))
        return self.outs(first)[f"artifacts/{self.model}/snapshot"]


def locked_outs(lock: dict[str, Any], stage: str, model: str) -> dict[str, str]:
    """A stage's outs, path to DVC hash, from the content of a dvc.lock."""
    return {out["path"]: out["md5"] for out in lock["stages"][f"{stage}@{model}"]["outs"]}


def open_workspace(
    project: Path,
    home: Path,
    run: str,
    model: str,
    as_of: datetime,
    reason: str,
    max_untracked_mb: float = DEFAULT_MAX_UNTRACKED_MB,
) -> Workspace:
    """The workspace of `run`, created when it does not exist. Raises StageError when the project is not in a git repository, when
    more than `max_untracked_mb` of it is neither tracked nor ignored, or when the folder is another run's."""
    as_of = as_of.replace(microsecond=0)
    top, inner = _repository(project)
    worktree = home / "workspaces" / folder_name(run)
    folder = worktree / inner
    if (folder / RUN_FILE).is_file():
        existing = read(folder)
        if (existing.run, existing.model) != (run, model):
            raise StageError(
                f"workspace {folder}",
                f"belongs to run {existing.run} of {existing.model}, not to {run}",
                "move it to another folder",
            )
        return existing
    untracked.refuse_much(*_repository(project), max_untracked_mb)
    revision, uncommitted = code_revision(project)
    return create_workspace(project, home, run, model, as_of.isoformat(), reason, revision, uncommitted)


def create_workspace(
    project: Path, home: Path, run: str, model: str, as_of: str, reason: str, revision: str, uncommitted: bool
) -> Workspace:
    """Creates the workspace of a run of the code `revision`. Raises StageError when this clone lacks that revision."""
    top, inner = _repository(project)
    worktree = home / "workspaces" / folder_name(run)
    folder = worktree / inner
    try:
        _git(top, "cat-file", "-e", f"{revision}^{{commit}}")
    except StageError as error:
        raise StageError(
            f"run {run}", f"began with code {revision[:12]}, which this clone lacks", "start all workers from one image"
        ) from error
    add_worktree(project, worktree, revision)
    own_block.keep(folder / "params.yaml", model)
    _set_as_of(folder / "params.yaml", model, time_of(as_of))
    dvc_config.configure(folder, project, home)
    bytecode.share(project, folder)
    workspace = Workspace(folder, project, run, model, as_of, reason, revision, uncommitted)
    values = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(workspace).items()}
    # Written last, and by renaming: a workspace that has a run.yaml is complete.
    partial = folder / f"{RUN_FILE}.part"
    partial.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    partial.replace(folder / RUN_FILE)
    return workspace


def text_of(project: Path, revision: str, name: str) -> str:
    """A file of the project's folder as it is in a commit. Raises StageError when this clone lacks it."""
    top, inner = _repository(project)
    return _git(top, "show", f"{revision}:{Path(inner, name).as_posix()}")


def add_worktree(project: Path, worktree: Path, revision: str) -> Path:
    """Checks `revision` out into `worktree`, replacing what a crash may have left; returns the project's folder in it."""
    top, inner = _repository(project)
    _remove(top, worktree)
    worktree.parent.mkdir(parents=True, exist_ok=True)
    with _worktrees(top):
        _git(top, "worktree", "add", "--detach", "--force", str(worktree), revision)
    return worktree / inner


def remove_worktree(project: Path, worktree: Path) -> None:
    """Deletes `worktree`, or what is left of it."""
    _remove(_repository(project)[0], worktree)


def read(folder: Path) -> Workspace:
    """The workspace in `folder`. Raises StageError when it is gone."""
    try:
        values = yaml_file.parse((folder / RUN_FILE).read_text(encoding="utf-8"))
    except OSError as error:
        raise StageError(
            f"workspace {folder}", "is gone", "clear the run's first task, which creates it again"
        ) from error
    return Workspace(**{**values, "folder": Path(values["folder"]), "project": Path(values["project"])})


def folder_name(run: str) -> str:
    """The folder's name for a run id; different for different ids."""
    name = re.sub(r"[^A-Za-z0-9.-]+", "-", run).strip("-.")[:LONGEST_NAME]
    return name if name == run else f"{name}-{hashlib.sha256(run.encode()).hexdigest()[:8]}"


def run_stage(workspace: Workspace, stage: str) -> None:
    """Runs one stage of dvc.yaml in the workspace, as `dvc repro` does. Raises StageError with the stage's own reason, and
    DataError when what it reads is not what an earlier stage wrote.

    The first stage reads the source each time (dvc.yaml says so); DVC restores the others when it has run them before.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    for needed in dvc_graph.order(workspace.folder)[stage]:
        whole_files.refuse_changed(workspace.folder, workspace.outs(needed))
    error_file = workspace.folder / ERROR_FILE
    error_file.unlink(missing_ok=True)
    # The time of last use, for `prune`.
    os.utime(next(f for f in (workspace.folder, *workspace.folder.parents) if (f / ".git").exists()))
    # DVC advises what to commit; that makes no sense in a workspace.
    logging.getLogger("dvc.repo.scm_context").setLevel(logging.WARNING)
    with _environment(workspace), contextlib.chdir(workspace.folder):
        try:
            with Repo(str(workspace.folder)) as repo:
                repo.reproduce([f"{stage}@{workspace.model}"], single_item=True)
        except DvcException as error:
            raise _stage_error(stage, error_file, error) from error
        finally:
            stage_server.collect(workspace.folder / USAGE_FILE)


def _stage_error(stage: str, error_file: Path, error: Exception) -> PerennialError:
    """The error that the stage wrote to `error_file`; DVC's own error when it wrote none."""
    parts = error_file.read_text(encoding="utf-8").split(SEPARATOR) if error_file.is_file() else []
    if len(parts) == 3:
        return StageError(*parts)
    return StageError(f"stage {stage}", str(error.__cause__ or error), "see the stage's own output above")


def write_stage_error(error: PerennialError) -> bool:
    """Called by a stage that fails: writes its error to the file that `run_stage` reads; False outside `run_stage`."""
    path = os.environ.get("PERENNIAL_STAGE_ERROR")
    if path:
        Path(path).write_text(SEPARATOR.join((error.subject, error.observation, error.next_check)), encoding="utf-8")
    return bool(path)


def prune(project: Path, home: Path, keep: int, ended: set[str], abandoned_s: float) -> list[str]:
    """Removes the workspaces of `ended` runs except the newest `keep`, and others that were not used for `abandoned_s` seconds.

    Returns the names of the removed folders. The second rule is for runs that were killed, which never end.
    """
    top, _ = _repository(project)
    names = {folder_name(run) for run in ended}
    folders = sorted((home / "workspaces").glob("*"), key=_last_used, reverse=True)
    old = [folder for folder in folders if folder.name in names][keep:]
    old += [f for f in folders if f.name not in names and time.time() - _last_used(f) > abandoned_s]
    for folder in old:
        _remove(top, folder)
    return [folder.name for folder in old]


def _last_used(worktree: Path) -> float:
    """When a run last used the worktree, in seconds since 1970; 0 when it is gone."""
    try:
        return worktree.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def code_revision(project: Path) -> tuple[str, bool]:
    """(commit of the code as it is now, whether that includes uncommitted changes).

    Uncommitted work in the project's folder becomes a commit through a copy of the index: the branch, the index and the files do
    not change. refs/perennial/<commit> keeps the commit even when its branch is deleted.
    """
    top, inner = _repository(project)
    head = _git(top, "rev-parse", "HEAD")
    with tempfile.TemporaryDirectory() as temporary:
        index = Path(temporary) / "index"
        own = Path(_git(top, "rev-parse", "--path-format=absolute", "--git-path", "index"))
        if own.is_file():
            shutil.copy2(own, index)
        env = {"GIT_INDEX_FILE": str(index)}
        _git(top, "add", "--all", "--", inner, NOT_CODE, env=env)
        tree = _git(top, "write-tree", env=env)
    if tree == _git(top, "rev-parse", "HEAD^{tree}"):
        _name_commit(top, head)
        return head, False
    identity = {
        f"GIT_{role}_{part}": value
        for role in ("AUTHOR", "COMMITTER")
        for part, value in (("NAME", "perennial"), ("EMAIL", "perennial@localhost"))
    }
    # The date is HEAD's, so that the same tree gives the same commit.
    date = _git(top, "show", "-s", "--format=%cI", head)
    identity |= {"GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date}
    commit = _git(top, "commit-tree", tree, "-p", head, "-m", "Uncommitted work that a run used", env=identity)
    _name_commit(top, commit)
    return commit, True


def _name_commit(top: Path, commit: str) -> None:
    """Gives a commit the ref refs/perennial/<commit>, so that git never deletes it. An existing ref has the right value."""
    ref = f"refs/perennial/{commit}"
    if _git(top, "for-each-ref", ref):
        return
    # Git holds this lock for milliseconds. An old one was left by a git that was killed, and would stop all runs of this commit.
    lock = Path(_git(top, "rev-parse", "--path-format=absolute", "--git-path", f"{ref}.lock"))
    with contextlib.suppress(FileNotFoundError):
        if time.time() - lock.stat().st_mtime > STALE_LOCK_S:
            lock.unlink()
    _git(top, "update-ref", ref, commit)


def _repository(project: Path) -> tuple[Path, str]:
    """(top of the git repository, the project's folder below it)."""
    try:
        top = Path(_git(project, "rev-parse", "--show-toplevel"))
        _git(top, "rev-parse", "--verify", "HEAD")
    except StageError as error:
        raise StageError(
            str(project),
            "is not a git repository with a commit",
            "run `git init` and commit: a run records its code revision",
        ) from error
    return top, os.path.relpath(project.resolve(), top.resolve())


def _git(folder: Path, *arguments: str, env: dict[str, str] | None = None) -> str:
    try:
        result = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            env=os.environ | (env or {}),
            check=False,
        )
    except FileNotFoundError as error:
        raise StageError("git", "is not installed", "install it: a run records its code revision") from error
    if result.returncode != 0:
        message = result.stderr.strip() or f"exit {result.returncode}"
        # On a full disk git reports each file, and not always with the system's own words.
        full = [line for line in message.splitlines() if "No space left" in line or "unable to write file" in line]
        if full:
            raise StageError(f"git {arguments[0]}", full[0].removeprefix("error: "), "check the free space of its disk")
        raise StageError(f"git {arguments[0]}", message, f"run it in {folder}")
    return result.stdout.strip()


def _remove(top: Path, worktree: Path) -> None:
    if worktree.exists():
        # Renamed first: half a workspace, after a crash in here, must not look like a complete one.
        doomed = worktree.with_name(f".{worktree.name}.{os.getpid()}")
        with contextlib.suppress(FileNotFoundError):  # another run has pruned it
            worktree.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)
    with _worktrees(top):
        # A git that is killed while it adds a worktree leaves it locked, and git neither prunes nor replaces a locked worktree.
        with contextlib.suppress(StageError):
            _git(top, "worktree", "unlock", str(worktree))
        _git(top, "worktree", "prune")


@contextlib.contextmanager
def _worktrees(top: Path) -> Iterator[None]:
    """Allows one change of the repository's worktrees at a time: git reads all of them and fails on an incomplete one."""
    common = Path(_git(top, "rev-parse", "--path-format=absolute", "--git-common-dir"))
    with FileLock(common / "perennial-worktrees.lock"):
        yield


def _set_as_of(params: Path, model: str, as_of: datetime) -> None:
    """Changes the model's as_of in params.yaml and keeps comments and order. Writes each time as text.

    DVC refuses a file with YAML's own times, also when they stand in the block of another model.
    """
    round_trip = YAML()
    round_trip.preserve_quotes = True
    round_trip.width = 4096
    settings = round_trip.load(params.read_text(encoding="utf-8"))
    quoted = _quote_times(settings)
    if time_of(settings["models"][model]["as_of"]) != as_of:
        settings["models"][model]["as_of"] = as_of.strftime("%Y-%m-%dT%H:%M:%SZ")
    elif not quoted:
        return  # DVC would take the same time in other words for a new value
    text = io.StringIO()
    round_trip.dump(settings, text)
    params.write_text(text.getvalue(), encoding="utf-8")


def _quote_times(values: Any) -> bool:
    """Replaces the times in lists and mappings by their text; returns whether there were any."""
    items = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    found = False
    for key, value in list(items):
        if isinstance(value, date):
            values[key], found = value.isoformat(), True
        else:
            found = _quote_times(value) or found
    return found


@contextlib.contextmanager
def _environment(workspace: Workspace):
    """Sets what a stage's command needs: this Python first on the path, and the project's folder."""
    changed = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "PERENNIAL_PROJECT": str(workspace.project),
        "PERENNIAL_STAGE_ERROR": str(workspace.folder / ERROR_FILE),
        stage_server.USAGE_VARIABLE: str(workspace.folder / USAGE_FILE),
        "DVC_NO_ANALYTICS": "1",
        # Threads that wait for each other sleep. When they spin, concurrent runs need twice the processor time.
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),
    }
    before = {key: os.environ.get(key) for key in changed}
    os.environ.update(changed)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value
