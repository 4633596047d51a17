"""A run's workspace where workers share no disk: after each stage its outs go to the DVC remote and its dvc.lock to the
ledger, and whichever worker takes the next step makes the workspace as it was left.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.context import Context
from pipeline.errors import DataError, StageError
from pipeline.ledger.store import Event, Ledger
from pipeline.settings import yaml_file
from pipeline.workspaces import dvc_graph, dvc_remote, workspace

LOCK = "dvc.lock"


def keep(context: Context, opened: workspace.Workspace, stage: str) -> None:
    """Lets other workers go on from here. Raises DataError when the outs cannot all be pushed, or there is no remote."""
    pushed = dvc_remote.push(opened.folder, opened.outs(stage).values())
    if pushed.url is None:
        raise DataError(
            "DVC remote", "there is none, and workers share no disk", "name one: `dvc remote add -d store URL`"
        )
    lock = (opened.folder / LOCK).read_text(encoding="utf-8")
    body = {"stage": stage, "lock": lock, "pushed_files": pushed.files, "pushed_bytes": pushed.size}
    context.ledger.append(Event("stage_kept", opened.model, opened.run, stage, body))


def at_hand(context: Context, folder: str) -> workspace.Workspace:
    """The run's workspace on this worker, as its last stage left it, wherever that was. Raises StageError or DataError."""
    if not context.apart:
        return workspace.read(Path(folder))
    told = _opened(context, folder)
    if not (Path(folder) / workspace.RUN_FILE).is_file():
        # Not only where runs are settled, which this worker's queue may never bring.
        prune(context)
        _make(context, told)
    opened = workspace.read(Path(folder))
    kept = context.ledger.events(kind="stage_kept", run=opened.run, after=told.seq)
    if kept and _differs(opened, kept[-1].body["lock"]):
        _bring(opened, kept[-1].body["lock"])
    return opened


def _opened(context: Context, folder: str) -> Event:
    """The event with which the run's workspace was opened last."""
    name = Path(folder).relative_to(context.home / "workspaces").parts[0]
    events = [e for e in context.ledger.events(kind="run_opened") if workspace.folder_name(e.run) == name]
    if not events:
        raise StageError(f"workspace {folder}", "is of no run in the ledger", "clear the run's first task")
    return events[-1]


def _make(context: Context, told: Event) -> None:
    body = told.body
    workspace.make(
        context.project,
        context.home,
        told.run,
        told.model,
        body["as_of"],
        body["reason"],
        body["code_revision"],
        body["uncommitted"],
    )


def prune(context: Context) -> None:
    """Removes old workspaces of this worker's; see pipeline.workspaces.workspace.prune."""
    rule = context.params.workspaces
    workspace.prune(context.project, context.home, rule.keep, _ended(context.ledger), rule.abandoned_hours * 3600)


def _ended(ledger: Ledger) -> set[str]:
    """Runs that were settled and not taken up again since."""
    ended: set[str] = set()
    for event in ledger.events(kind=("run_settled", "step_started")):
        if event.kind == "run_settled":
            ended.add(event.run)
        else:
            ended.discard(event.run)
    return ended


def _differs(opened: workspace.Workspace, lock: str) -> bool:
    path = opened.folder / LOCK
    return not path.is_file() or path.read_text(encoding="utf-8") != lock


def _bring(opened: workspace.Workspace, lock: str) -> None:
    """Fetches what the stages of `lock` made; the lock is written last, so that a fetch cut short is done again."""
    locked: dict[str, Any] = yaml_file.parse(lock)
    outs: dict[str, str] = {}
    for stage in dvc_graph.order(opened.folder):
        if f"{stage}@{opened.model}" in locked["stages"]:
            outs |= workspace.locked_outs(locked, stage, opened.model)
    opened.files.folder.mkdir(parents=True, exist_ok=True)
    dvc_remote.fetch(opened.folder, outs)
    aside = opened.folder / f"{LOCK}.part"
    aside.write_text(lock, encoding="utf-8")
    aside.replace(opened.folder / LOCK)
