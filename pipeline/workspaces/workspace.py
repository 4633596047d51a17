"""A workspace: one run's own git worktree, with the project's DVC cache.

It holds the code and settings exactly as they were when the run opened, uncommitted changes included
(they are committed to a ref of their own, refs/perennial/…, and never to a branch), plus two things of the
run: its as_of in params.yaml, and run.yaml, which says what the run is. Runs side by side do not meet.
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
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from configobj import ConfigObj
from filelock import FileLock
from ruamel.yaml import YAML

from pipeline.errors import PerennialError, StageError
from pipeline.settings import yaml_file
from pipeline.settings.models import time_of
from pipeline.workspaces import dvc_graph, stage_server

RUN_FILE = "run.yaml"
ERROR_FILE = ".stage-error"
USAGE_FILE = ".stage-usage"
# What a project's own commands write; never part of a run's code.
NOT_CODE = ":(exclude,glob)**/dvc.lock"
STALE_LOCK_S = 60
LONGEST_NAME = 100


@dataclass(frozen=True)
class Workspace:
    """One run. `folder` is the project's folder inside the worktree; `project` is where it was opened from."""

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
        """What a stage made, path to DVC hash, from this run's dvc.lock."""
        return locked_outs(yaml_file.parse((self.folder / "dvc.lock").read_text(encoding="utf-8")), stage, self.model)

    def data_version(self) -> str:
        """The DVC hash of the snapshot."""
        first = next(iter(dvc_graph.order(self.folder)))
        return self.outs(first)[f"artifacts/{self.model}/snapshot"]


def locked_outs(lock: dict[str, Any], stage: str, model: str) -> dict[str, str]:
    """A stage's outs in the contents of a dvc.lock, path to DVC hash."""
    return {out["path"]: out["md5"] for out in lock["stages"][f"{stage}@{model}"]["outs"]}


def open_workspace(project: Path, home: Path, run: str, model: str, as_of: datetime, reason: str) -> Workspace:
    """Makes the workspace of `run`, or returns it as it is. Raises StageError without a git repository, or when it is another run's."""
    as_of = as_of.replace(microsecond=0)
    top, inner = _repository(project)
    worktree = home / "workspaces" / folder_name(run)
    folder = worktree / inner
    if (folder / RUN_FILE).is_file():
        there = read(folder)
        if (there.run, there.model) != (run, model):
            raise StageError(
                f"workspace {folder}", f"is of run {there.run} of {there.model}, not of {run}", "move it out of the way"
            )
        return there
    revision, uncommitted = code_revision(project)
    return make(project, home, run, model, as_of.isoformat(), reason, revision, uncommitted)


def make(
    project: Path, home: Path, run: str, model: str, as_of: str, reason: str, revision: str, uncommitted: bool
) -> Workspace:
    """Makes the workspace of a run of `revision`. Raises StageError, also when this clone does not have that revision."""
    top, inner = _repository(project)
    worktree = home / "workspaces" / folder_name(run)
    folder = worktree / inner
    try:
        _git(top, "cat-file", "-e", f"{revision}^{{commit}}")
    except StageError as error:
        raise StageError(
            f"run {run}", f"began with code {revision[:12]}, which is not here", "start all workers from one image"
        ) from error
    add_worktree(project, worktree, revision)
    _set_as_of(folder / "params.yaml", model, time_of(as_of))
    configure_dvc(folder, project, home)
    workspace = Workspace(folder, project, run, model, as_of, reason, revision, uncommitted)
    written = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(workspace).items()}
    # Last and by renaming: a workspace with a run.yaml is whole.
    aside = folder / f"{RUN_FILE}.part"
    aside.write_text(yaml.safe_dump(written, sort_keys=False), encoding="utf-8")
    aside.replace(folder / RUN_FILE)
    return workspace


def add_worktree(project: Path, worktree: Path, revision: str) -> Path:
    """Checks `revision` out into `worktree`, in place of whatever a crash left there; returns the project's folder in it."""
    top, inner = _repository(project)
    _remove(top, worktree)
    worktree.parent.mkdir(parents=True, exist_ok=True)
    with _worktrees(top):
        _git(top, "worktree", "add", "--detach", "--force", str(worktree), revision)
    return worktree / inner


def remove_worktree(project: Path, worktree: Path) -> None:
    _remove(_repository(project)[0], worktree)


def read(folder: Path) -> Workspace:
    """The workspace in `folder`."""
    try:
        told = yaml_file.parse((folder / RUN_FILE).read_text(encoding="utf-8"))
    except OSError as error:
        raise StageError(
            f"workspace {folder}", "is gone", "clear the run's first task, which makes it again"
        ) from error
    return Workspace(**{**told, "folder": Path(told["folder"]), "project": Path(told["project"])})


def folder_name(run: str) -> str:
    """A folder's name for a run id; no two have the same."""
    name = re.sub(r"[^A-Za-z0-9.-]+", "-", run).strip("-.")[:LONGEST_NAME]
    return name if name == run else f"{name}-{hashlib.sha256(run.encode()).hexdigest()[:8]}"


def run_stage(workspace: Workspace, stage: str) -> None:
    """Runs one stage of dvc.yaml in the workspace, as `dvc repro` would. Raises StageError with its reason.

    The first stage asks the source each time (dvc.yaml says so); the others are restored when DVC has run them before.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    complaint = workspace.folder / ERROR_FILE
    complaint.unlink(missing_ok=True)
    os.utime(next(f for f in (workspace.folder, *workspace.folder.parents) if (f / ".git").exists()))
    # DVC's advice on what to commit is for a project's own folder.
    logging.getLogger("dvc.repo.scm_context").setLevel(logging.WARNING)
    with _environment(workspace), contextlib.chdir(workspace.folder):
        try:
            with Repo(str(workspace.folder)) as repo:
                repo.reproduce([f"{stage}@{workspace.model}"], single_item=True)
        except DvcException as error:
            said = complaint.read_text(encoding="utf-8") if complaint.is_file() else ""
            raise _stage_error(stage, said, error) from error
        finally:
            stage_server.collect(workspace.folder / USAGE_FILE)


def _stage_error(stage: str, said: str, error: Exception) -> PerennialError:
    parts = said.split("\x1f")
    if len(parts) == 3:
        return StageError(*parts)
    return StageError(f"stage {stage}", str(error.__cause__ or error), "its own output is above")


def leave_complaint(error: PerennialError) -> bool:
    """Called by a failing stage: leaves its one line where `run_stage` finds it; False when no run waits for it."""
    path = os.environ.get("PERENNIAL_STAGE_ERROR")
    if path:
        Path(path).write_text("\x1f".join((error.subject, error.observation, error.next_check)), encoding="utf-8")
    return bool(path)


def prune(project: Path, home: Path, keep: int, ended: set[str], abandoned_s: float) -> list[str]:
    """Removes the workspaces of `ended` runs but the newest `keep`, and others that nothing has touched for `abandoned_s`.

    Returns the names removed. A run that was killed never ends; that is what the second rule is for.
    """
    top, _ = _repository(project)
    names = {folder_name(run) for run in ended}
    folders = sorted((home / "workspaces").glob("*"), key=_touched, reverse=True)
    old = [folder for folder in folders if folder.name in names][keep:]
    old += [f for f in folders if f.name not in names and time.time() - _touched(f) > abandoned_s]
    for folder in old:
        _remove(top, folder)
    return [folder.name for folder in old]


def _touched(worktree: Path) -> float:
    """When a run last did something there, in seconds since 1970; 0 when it is gone by now."""
    try:
        return worktree.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def code_revision(project: Path) -> tuple[str, bool]:
    """(commit of the code as it is now, whether that has uncommitted changes).

    Uncommitted work in the project's folder becomes a commit, made through an index aside: the branch, the index and the files are not
    touched. refs/perennial/<commit> keeps either commit, whatever becomes of the branch.
    """
    top, inner = _repository(project)
    head = _git(top, "rev-parse", "HEAD")
    with tempfile.TemporaryDirectory() as aside:
        index = Path(aside) / "index"
        own = Path(_git(top, "rev-parse", "--path-format=absolute", "--git-path", "index"))
        if own.is_file():
            shutil.copy2(own, index)
        env = {"GIT_INDEX_FILE": str(index)}
        _git(top, "add", "--all", "--", inner, NOT_CODE, env=env)
        tree = _git(top, "write-tree", env=env)
    if tree == _git(top, "rev-parse", "HEAD^{tree}"):
        _keep(top, head)
        return head, False
    who = {
        f"GIT_{role}_{what}": value
        for role in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", "perennial"), ("EMAIL", "perennial@localhost"))
    }
    # The date of HEAD, so that the same tree gives the same commit.
    date = _git(top, "show", "-s", "--format=%cI", head)
    who |= {"GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date}
    commit = _git(top, "commit-tree", tree, "-p", head, "-m", "Uncommitted work that a run used", env=who)
    _keep(top, commit)
    return commit, True


def _keep(top: Path, commit: str) -> None:
    """Names a commit for good. The name says the value, so there is nothing to write when it is there already."""
    ref = f"refs/perennial/{commit}"
    if _git(top, "for-each-ref", ref):
        return
    # Git holds this lock for milliseconds: an old one is of a git that was killed, and would stop every run of this commit.
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
            "a run records its code revision: run `git init` and commit first",
        ) from error
    return top, os.path.relpath(project.resolve(), top.resolve())


def _git(folder: Path, *arguments: str, env: dict[str, str] | None = None) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            env=os.environ | (env or {}),
            check=False,
        )
    except FileNotFoundError as error:
        raise StageError("git", "is not installed", "install it: a run records its code revision") from error
    if done.returncode != 0:
        said = done.stderr.strip() or f"exit {done.returncode}"
        # Of a full disk git complains file by file, and not always by that name.
        full = [line for line in said.splitlines() if "No space left" in line or "unable to write file" in line]
        if full:
            raise StageError(f"git {arguments[0]}", full[0].removeprefix("error: "), "is there room on its disk?")
        raise StageError(f"git {arguments[0]}", said, f"look at {folder}")
    return done.stdout.strip()


def _remove(top: Path, worktree: Path) -> None:
    if worktree.exists():
        # Renamed first: cut short, half a workspace must not look like a whole one.
        doomed = worktree.with_name(f".{worktree.name}.{os.getpid()}")
        with contextlib.suppress(FileNotFoundError):  # another run's pruning was faster
            worktree.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)
    with _worktrees(top):
        # Killed while it made the worktree, git leaves it locked, and what is locked is neither pruned nor made again.
        with contextlib.suppress(StageError):
            _git(top, "worktree", "unlock", str(worktree))
        _git(top, "worktree", "prune")


@contextlib.contextmanager
def _worktrees(top: Path) -> Iterator[None]:
    """One change of the repository's worktrees at a time: git reads those of others, and fails over one half made."""
    common = Path(_git(top, "rev-parse", "--path-format=absolute", "--git-common-dir"))
    with FileLock(common / "perennial-worktrees.lock"):
        yield


def _set_as_of(params: Path, model: str, as_of: datetime) -> None:
    """Changes one value of params.yaml and leaves comments and order alone."""
    round_trip = YAML()
    round_trip.preserve_quotes = True
    round_trip.width = 4096
    settings = round_trip.load(params.read_text(encoding="utf-8"))
    if time_of(settings["models"][model]["as_of"]) == as_of:
        return  # written another way perhaps, but DVC would take that for another value
    settings["models"][model]["as_of"] = as_of.strftime("%Y-%m-%dT%H:%M:%SZ")
    out = io.StringIO()
    round_trip.dump(settings, out)
    params.write_text(out.getvalue(), encoding="utf-8")


def configure_dvc(folder: Path, project: Path, home: Path, cache: Path | None = None) -> None:
    """Gives `folder` the project's DVC remote and cache, or `cache` in its place, whatever its own .dvc/config says."""
    from dvc.repo import Repo

    with Repo(str(project)) as repo:
        remote = repo.config["core"].get("remote")
        options = dict(repo.config["remote"][remote]) if remote else {}
        shared = repo.cache.local_cache_dir
    local = ConfigObj(encoding="utf-8", list_values=True)
    local["cache"] = {"dir": str(cache or shared)}
    local["core"] = {"site_cache_dir": str(private_site_cache(home))}
    if remote:
        local["core"]["remote"] = remote
        local[f'remote "{remote}"'] = options
    # The remote's options may hold keys.
    with open(os.open(folder / ".dvc" / "config.local", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        local.write(file)


def private_site_cache(home: Path) -> Path:
    """DVC keeps pickles in its site cache; the default one is open to every user of the machine."""
    folder = home / "dvc-site"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def _environment(workspace: Workspace):
    """What a stage's command sees: this Python first on the path, and where the project is."""
    changed = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "PERENNIAL_PROJECT": str(workspace.project),
        "PERENNIAL_STAGE_ERROR": str(workspace.folder / ERROR_FILE),
        stage_server.USAGE_VARIABLE: str(workspace.folder / USAGE_FILE),
        "DVC_NO_ANALYTICS": "1",
        # Threads that wait for each other sleep: spinning, runs side by side take twice the processor time they need.
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
