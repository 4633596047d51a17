"""A run's workspace where workers share no disk.

After each stage its outs go to the DVC remote and its dvc.lock to the ledger. The worker that takes the next step makes the
workspace as the last stage left it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.context import Context
from pipeline.errors import DataError, StageError
from pipeline.ledger.events import RunOpened, RunSettled, StageKept, StepStarted
from pipeline.ledger.store import Entry, Ledger
from pipeline.ledger.usage_events import BytesMoved
from pipeline.runs.pruning import beside
from pipeline.settings import yaml_file
from pipeline.workspaces import dvc_graph, dvc_remote, workspace

LOCK = "dvc.lock"


def push(context: Context, opened: workspace.Workspace, stage: str) -> None:
    """Makes a stage's result available to other workers. Raises DataError without a remote, or when a push fails."""
    outs = list(opened.outs(stage).values())
    with beside.sending(context.ledger, lambda: dvc_remote.push(opened.folder, outs)):
        pushed = dvc_remote.push(opened.folder, outs)
        if pushed.url is None:
            raise DataError(
                "DVC remote", "is not configured, and workers share no disk", "add one: `dvc remote add -d store URL`"
            )
        lock = (opened.folder / LOCK).read_text(encoding="utf-8")
        transferred = StageKept(stage=stage, lock=lock, pushed_files=pushed.files, pushed_bytes=pushed.size)
        context.ledger.append(transferred, opened.model, opened.run, stage)


def current_workspace(context: Context, folder: str) -> workspace.Workspace:
    """The run's workspace on this worker, as the last stage left it on any worker. Raises StageError or DataError."""
    if not context.server_mode:
        return workspace.read(Path(folder))
    run_opened = last_opening(context, folder)
    if not (Path(folder) / workspace.RUN_FILE).is_file():
        # Not only where runs are settled: this worker's queue may never bring it that step.
        prune(context)
        _make(context, run_opened)
    opened = workspace.read(Path(folder))
    transferred = context.ledger.events(StageKept, run=opened.run, after=run_opened.seq)
    differs = bool(transferred) and _differs(opened, transferred[-1].event.lock)
    if differs and (fetched := _fetch(opened, transferred[-1].event.lock)):
        context.ledger.append(BytesMoved(what="fetched by a worker", bytes=fetched), opened.model, opened.run)
    return opened


def last_opening(context: Context, folder: str) -> Entry[RunOpened]:
    """The event with which the run's workspace was opened last."""
    name = Path(folder).relative_to(context.home / "workspaces").parts[0]
    entries = [entry for entry in context.ledger.events(RunOpened) if workspace.folder_name(entry.run) == name]
    if not entries:
        raise StageError(f"workspace {folder}", "belongs to no run in the ledger", "clear the run's first task")
    return entries[-1]


def _make(context: Context, entry: Entry[RunOpened]) -> None:
    opened = entry.event
    workspace.create_workspace(
        context.project,
        context.home,
        entry.run,
        entry.model,
        opened.as_of,
        opened.reason,
        opened.code_revision,
        opened.uncommitted,
    )


def prune(context: Context) -> None:
    """Removes old workspaces of this worker; see pipeline.workspaces.workspace.prune."""
    rule = context.params.workspaces
    workspace.prune(
        context.project, context.home, rule.keep, _settled_runs(context.ledger), rule.abandoned_hours * 3600
    )


def _settled_runs(ledger: Ledger) -> set[str]:
    """Runs that were settled and have not been started again since."""
    settled: set[str] = set()
    for entry in ledger.events(RunSettled, StepStarted):
        if isinstance(entry.event, RunSettled):
            settled.add(entry.run)
        else:
            settled.discard(entry.run)
    return settled


def _differs(opened: workspace.Workspace, lock: str) -> bool:
    path = opened.folder / LOCK
    return not path.is_file() or path.read_text(encoding="utf-8") != lock


def _fetch(opened: workspace.Workspace, lock: str) -> int:
    """Fetches the outs of the stages in `lock`, and returns the bytes that came. The lock is written last, so that a fetch that was cut off is repeated."""
    locked: dict[str, Any] = yaml_file.parse(lock)
    outs: dict[str, str] = {}
    for stage in dvc_graph.order(opened.folder):
        if f"{stage}@{opened.model}" in locked["stages"]:
            outs |= workspace.locked_outs(locked, stage, opened.model)
    opened.files.folder.mkdir(parents=True, exist_ok=True)
    fetched = dvc_remote.fetch(opened.folder, outs)
    aside = opened.folder / f"{LOCK}.part"
    aside.write_text(lock, encoding="utf-8")
    aside.replace(opened.folder / LOCK)
    return fetched
