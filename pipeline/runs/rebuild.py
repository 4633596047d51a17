"""Rebuilds a registered version from its records, and compares the two.

Its code revision is checked out aside, its data is fetched from the DVC remote into an empty cache, and every stage after
the snapshot runs again. No stage uses the working tree, its cache or the source. The outs of each stage must have the
hashes that the version's dvc.lock recorded.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

from pipeline.context import Context
from pipeline.errors import StageError
from pipeline.ledger.usage_events import BytesMoved
from pipeline.registry.records import Records
from pipeline.workspaces import dvc_config, dvc_graph, dvc_remote, whole_files, workspace

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Compared:
    """One recorded hash beside the hash of the rebuild; `what` is a path or the model's digest."""

    what: str
    recorded: str
    rebuilt: str

    @property
    def same(self) -> bool:
        return self.recorded == self.rebuilt

    def as_dict(self) -> dict[str, Any]:
        return {**vars(self), "same": self.same}


@dataclass(frozen=True)
class RebuildResult:
    """`environment` is {package: (recorded version, version in this environment)} of the packages that differ."""

    model: str
    version: str
    compared: tuple[Compared, ...]
    metrics: Mapping[str, float]
    as_of: str
    code_revision: str
    uncommitted: bool
    environment: Mapping[str, tuple[str | None, str | None]]
    wall_s: float

    @property
    def identical(self) -> bool:
        return all(compared.same for compared in self.compared)

    def as_dict(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "version": self.version,
            "identical": self.identical,
            "compared": [compared.as_dict() for compared in self.compared],
            "metrics": dict(self.metrics),
            "as_of": self.as_of,
            "code_revision": self.code_revision,
            "uncommitted": self.uncommitted,
            "environment": {package: list(versions) for package, versions in self.environment.items()},
            "wall_s": self.wall_s,
        }


def rebuild(context: Context, model: str, version: str) -> RebuildResult:
    """Rebuilds a version and compares every out. Raises StageError, DataError or RegistryError when it cannot."""
    started = time.monotonic()
    records = context.registry.records(model, version)
    folder = context.home / "rebuilds"
    folder.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(context, folder)
    aside = Path(tempfile.mkdtemp(dir=folder, prefix=f"{os.getpid()}-{model}-{version}-"))
    try:
        _log_step(model, version, f"check out {records.run['code_revision'][:12]}")
        opened = _open_workspace(context, records, aside)
        compared = _rebuilt_outs(context, opened, records, version)
        manifest = dvc_graph.read_json(opened.files.package / "manifest.json")
        compared.append(Compared("model digest (sha256)", records.model_digest, manifest["model_digest"]))
        metrics = dvc_graph.read_json(opened.files.metrics)["metrics"]
    finally:
        workspace.remove_worktree(context.project, aside)
    return RebuildResult(
        model=model,
        version=version,
        compared=tuple(compared),
        metrics=metrics,
        as_of=records.run["as_of"],
        code_revision=records.run["code_revision"],
        uncommitted=records.run["uncommitted"],
        environment=_differences(records.environment, dvc_graph.environment()),
        wall_s=round(time.monotonic() - started, 3),
    )


def _rebuilt_outs(context: Context, opened: workspace.Workspace, records: Records, version: str) -> list[Compared]:
    """Fetches the snapshot, runs the other stages, and compares the outs of each."""
    model = opened.model
    first, *rest = dvc_graph.order(opened.folder)
    snapshot = workspace.locked_outs(records.lock, first, model)
    _log_step(model, version, f"fetch {snapshot[f'artifacts/{model}/snapshot']}")
    if fetched := dvc_remote.fetch(opened.folder, snapshot):
        context.ledger.append(BytesMoved(what="fetched by a rebuild", bytes=fetched), model)
    if found := records.evaluation.get("search"):
        # A clock ended the search of the run; the rebuild ends where it did.
        opened.files.recorded_search.write_text(json.dumps(found), encoding="utf-8")
    compared = [Compared(path, md5, whole_files.hash_of(opened.folder / path)) for path, md5 in snapshot.items()]
    for stage in rest:
        _log_step(model, version, stage)
        workspace.run_stage(opened, stage)
        outs = opened.outs(stage)
        compared += [
            Compared(path, md5, outs.get(path, "missing"))
            for path, md5 in workspace.locked_outs(records.lock, stage, model).items()
        ]
    return compared


def _log_step(model: str, version: str, step: str) -> None:
    log.info("%s version %s: %s", model, version, step)


def _differences(recorded: Mapping[str, str], current: Mapping[str, str]) -> dict[str, tuple[str | None, str | None]]:
    return {
        name: (recorded.get(name), current.get(name))
        for name in sorted({*recorded, *current})
        if recorded.get(name) != current.get(name)
    }


def _remove_abandoned(context: Context, folder: Path) -> None:
    """Removes what killed rebuilds left: each folder's name begins with the pid of its process."""
    for abandoned in folder.iterdir():
        pid = abandoned.name.partition("-")[0]
        if not (pid.isdigit() and psutil.pid_exists(int(pid))):
            workspace.remove_worktree(context.project, abandoned)


def _open_workspace(context: Context, records: Records, aside: Path) -> workspace.Workspace:
    """A workspace as the run's own was before its second stage, with an empty DVC cache."""
    run = records.run
    try:
        folder = workspace.add_worktree(context.project, aside / "project", run["code_revision"])
    except StageError as error:
        raise StageError(
            f"code revision {run['code_revision']}",
            f"is not in this repository ({error.observation})",
            "fetch refs/perennial/* from the clone in which the run was made",
        ) from error
    dvc_config.configure(folder, context.project, context.home, aside / "cache")
    (folder / "params.yaml").write_text(records.params, encoding="utf-8")
    first = f"{next(iter(dvc_graph.order(folder)))}@{run['model']}"
    only_data = {**records.lock, "stages": {first: records.lock["stages"][first]}}
    (folder / "dvc.lock").write_text(yaml.safe_dump(only_data, sort_keys=False), encoding="utf-8")
    return workspace.Workspace(
        folder,
        context.project,
        run["run"],
        run["model"],
        run["as_of"],
        "a rebuild",
        run["code_revision"],
        run["uncommitted"],
    )
