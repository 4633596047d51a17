"""Makes a registered version again from what is recorded of it, and compares.

Its code revision is checked out aside, its data is fetched from the DVC remote into an empty cache, and every
stage after the snapshot runs again: no stage uses the working tree, its cache or the source. The files of each
stage must have the hashes that the version's dvc.lock recorded.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

from pipeline.context import Context
from pipeline.errors import StageError
from pipeline.registry import versions as registry
from pipeline.workspaces import dvc_graph, dvc_remote, workspace


@dataclass(frozen=True)
class Compared:
    """One thing that was recorded, and what came of it this time."""

    what: str
    recorded: str
    rebuilt: str

    def as_dict(self) -> dict[str, Any]:
        return {**vars(self), "same": self.recorded == self.rebuilt}


def rebuild(context: Context, model: str, version: str, say: Callable[[str], None]) -> dict[str, Any]:
    """Rebuilds a version; `say(step)` is told what begins.

    Returns {"model", "version", "identical", "compared": [{"what", "recorded", "rebuilt", "same"}], "metrics",
    "environment": {package: [recorded, here]} of those that differ, …}. Raises StageError, DataError or
    RegistryError when it cannot be made at all.
    """
    started = time.monotonic()
    kept = context.registry.records(model, version)
    folder = context.home / "rebuilds"
    folder.mkdir(parents=True, exist_ok=True)
    _clear_abandoned(context, folder)
    aside = Path(tempfile.mkdtemp(dir=folder, prefix=f"{os.getpid()}-{model}-{version}-"))
    try:
        say(f"check out {kept.run['code_revision'][:12]}")
        opened = _opened(context, kept, aside)
        stages = dvc_graph.order(opened.folder)
        first, *rest = stages
        say(f"fetch {workspace.locked_outs(kept.lock, first, model)[f'artifacts/{model}/snapshot']}")
        dvc_remote.fetch(opened.folder, workspace.locked_outs(kept.lock, first, model))
        compared = [
            Compared(path, md5, dvc_remote.hash_of(opened.folder / path))
            for path, md5 in workspace.locked_outs(kept.lock, first, model).items()
        ]
        for stage in rest:
            say(stage)
            workspace.run_stage(opened, stage)
            made = opened.outs(stage)
            compared += [
                Compared(path, md5, made.get(path, "missing"))
                for path, md5 in workspace.locked_outs(kept.lock, stage, model).items()
            ]
        manifest = dvc_graph.read_json(opened.files.package / "manifest.json")
        compared.append(Compared("model digest (sha256)", kept.model_digest, manifest["model_digest"]))
        metrics = dvc_graph.read_json(opened.files.metrics)["metrics"]
    finally:
        workspace.remove_worktree(context.project, aside)
    here = dvc_graph.environment()
    return {
        "model": model,
        "version": version,
        "identical": all(one.recorded == one.rebuilt for one in compared),
        "compared": [one.as_dict() for one in compared],
        "metrics": metrics,
        "as_of": kept.run["as_of"],
        "code_revision": kept.run["code_revision"],
        "uncommitted": kept.run["uncommitted"],
        "environment": {
            name: [kept.environment.get(name), here.get(name)]
            for name in sorted({*kept.environment, *here})
            if kept.environment.get(name) != here.get(name)
        },
        "wall_s": round(time.monotonic() - started, 3),
    }


def _clear_abandoned(context: Context, folder: Path) -> None:
    """Removes what a rebuild that was killed left behind: each folder's name begins with its process."""
    for left in folder.iterdir():
        pid = left.name.partition("-")[0]
        if not (pid.isdigit() and psutil.pid_exists(int(pid))):
            workspace.remove_worktree(context.project, left)


def _opened(context: Context, kept: registry.Records, aside: Path) -> workspace.Workspace:
    """A workspace as the run's own was before its second stage, with a DVC cache that is empty."""
    told = kept.run
    try:
        folder = workspace.add_worktree(context.project, aside / "project", told["code_revision"])
    except StageError as error:
        raise StageError(
            f"code revision {told['code_revision']}",
            f"is not in this repository ({error.observation})",
            "fetch refs/perennial/* from where the run was made",
        ) from error
    workspace.configure_dvc(folder, context.project, context.home, aside / "cache")
    (folder / "params.yaml").write_text(kept.params, encoding="utf-8")
    first = f"{next(iter(dvc_graph.order(folder)))}@{told['model']}"
    only_data = {**kept.lock, "stages": {first: kept.lock["stages"][first]}}
    (folder / "dvc.lock").write_text(yaml.safe_dump(only_data, sort_keys=False), encoding="utf-8")
    return workspace.Workspace(
        folder,
        context.project,
        told["run"],
        told["model"],
        told["as_of"],
        "a rebuild",
        told["code_revision"],
        told["uncommitted"],
    )
