"""Prunes models: pages of looks, predictions, packages, artifacts and data, by the section `keep` of params.yaml.

What is removed of a version is noted in MLflow before and in the ledger after, so that a prune which was cut off goes on the next time.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from pipeline.context import Context
from pipeline.deployer import old_files, traffic
from pipeline.errors import PerennialError
from pipeline.ledger import lease
from pipeline.ledger.events import VersionRegistered
from pipeline.ledger.prune_events import Pruned
from pipeline.registry import pruning
from pipeline.runs.pruning import beside, data
from pipeline.runs.pruning.kept import Versions, versions_of
from pipeline.workspaces import dvc_remote, whole_files

log = logging.getLogger(__name__)

# For a rollout that goes on.
WAIT_S = 10
ARTIFACTS, REFUSED, DATA = "artifacts in MLflow", "artifacts of refused runs in MLflow", "files of data"


@dataclass
class PrunedModel:
    """What went of a model, or would go: the number of things by kind, their bytes, those of them that the DVC remote had, and the
    versions that are gone with them, as in the event `Pruned`."""

    model: str
    removed: Counter[str] = field(default_factory=Counter)
    size: int = 0
    remote_size: int = 0
    versions: list[str] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)
    data_versions: list[str] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)

    def add(self, kind: str, count: int, size: int) -> None:
        if count:
            self.removed[kind] += count
            self.size += size


@dataclass(frozen=True)
class Pruning:
    """The models, the files of data with their bytes, and what could not be looked at, a line each."""

    models: tuple[PrunedModel, ...]
    data_files: int
    data_bytes: int
    notes: tuple[str, ...]
    dry_run: bool

    def as_dict(self) -> dict[str, Any]:
        return {
            "dry_run": self.dry_run,
            "models": [
                {
                    "model": each.model,
                    "removed": dict(each.removed),
                    "bytes": each.size,
                    "versions": each.versions,
                    "kept": each.kept,
                }
                for each in self.models
            ],
            "data_files": self.data_files,
            "data_bytes": self.data_bytes,
            "notes": list(self.notes),
        }


def prune(context: Context, run: str, models: Sequence[str] = (), dry_run: bool = False) -> Pruning:
    """Prunes the models, all when none is named; with `dry_run` says what would go. One model's trouble is a note, and stops no other.

    Raises SettingsError when `keep` is wrong, and DataError or RemoteError when the data cannot be looked through.
    """
    of_models: dict[str, Versions] = {}
    pruned: list[PrunedModel] = []
    notes: list[str] = []
    names = models or _every_model(context)
    # A look reads what it needs of all models at once; what is removed goes by what is there at its moment.
    with context.ledger.reading(names if dry_run else ()):
        for model in names:
            try:
                versions, found = _model(context, run, model, dry_run)
                pruned.append(found)
                of_models[model] = versions
            except (PerennialError, OSError) as error:
                notes.append(f"{model} was left alone: {error}")
                log.warning(notes[-1])
        if dry_run:
            removable = data.removable(context, of_models, context.params.keep)
            of_data = _counted(pruned, removable, dvc_remote.kept(context.project, removable.hashes))
        else:
            of_data = _removed(context, run, pruned, of_models)
    return Pruning(tuple(pruned), of_data["files"], of_data["bytes"], tuple(notes), dry_run)


def _removed(context: Context, run: str, pruned: list[PrunedModel], of_models: Mapping[str, Versions]) -> Counter[str]:
    """Removes the files of data, and notes what is gone of each model; returns their number and bytes."""
    try:
        with beside.removing(context.ledger):
            removable = data.removable(context, of_models, context.params.keep)
            of_data = _counted(pruned, removable, dvc_remote.remove(context.project, removable.hashes))
            _all_gone(pruned, removable)
    finally:
        # What is gone is gone, also where the remote broke off.
        _note(context, run, pruned)
    return of_data


def _counted(pruned: list[PrunedModel], removable: data.Removable, files: Iterable[whole_files.Kept]) -> Counter[str]:
    """Adds each of the files to the model that brought it, also one that nobody asked about: it brought a file first that another one had
    last. Returns their number and bytes."""
    of = {each.model: each for each in pruned}
    sums: Counter[str] = Counter()
    for file in files:
        if (model := removable.hashes[file.md5]) not in of:
            of[model] = PrunedModel(model)
            pruned.append(of[model])
        of[model].add(DATA, 1, file.size)
        of[model].remote_size += file.size if file.in_remote else 0
        sums += Counter(files=1, bytes=file.size)
    return sums


def _all_gone(pruned: Sequence[PrunedModel], removable: data.Removable) -> None:
    """Says of each model which data versions and runs have no files of their own any more, now that all went that may."""
    for each in pruned:
        each.data_versions = sorted(removable.versions.get(each.model, ()))
        each.runs = sorted(removable.runs.get(each.model, ()))


def _every_model(context: Context) -> Collection[str]:
    known = {entry.model for entry in context.ledger.newest(VersionRegistered)}
    return sorted(known | context.params.names)


def _model(context: Context, run: str, model: str, dry_run: bool) -> tuple[Versions, PrunedModel]:
    """The model's versions, and what would go of it, or went."""
    versions = versions_of(context, model, context.params.keep)
    # Of a server's artifacts and deployer to ask twice takes longer than a lease.
    if dry_run or not context.server_mode:
        found = _of_versions(context, run, model, versions, dry_run=True)
        if dry_run or not (found.removed or found.versions):
            return versions, found
    # No rollout may begin with a version that is on its way out, and what went live meanwhile stays.
    with lease.held(context.ledger, model, wait_s=WAIT_S):
        versions = versions_of(context, model, context.params.keep)
        return versions, _of_versions(context, run, model, versions, dry_run=False)


def _of_versions(context: Context, run: str, model: str, versions: Versions, dry_run: bool) -> PrunedModel:
    found = PrunedModel(model, kept=dict(versions.kept))
    keep = context.params.keep
    found.versions = sorted(versions.removable, key=int)
    local = [*old_files.reports(context, model, keep), *old_files.predictions(context, model, keep)]
    local += old_files.packages(context, model, versions.removable) + old_files.task_logs(context, model, keep)
    if dry_run:
        _count(found, pruning.large_files(context.registry, model, found.versions))
    else:
        for number in found.versions:
            log.info("%s version %s: removing its artifacts", model, number)
            _count(found, pruning.remove(context.registry, model, number, context.clock()))
    _elsewhere(context, run, found, versions, dry_run)
    for each in local:
        if not dry_run:
            old_files.remove(each)
        found.add(each.kind, 1, each.size)
    return found


def _elsewhere(context: Context, run: str, found: PrunedModel, versions: Versions, dry_run: bool) -> None:
    """The artifacts of runs that made no version; on a server the pages of looks in MLflow, and the prediction log of the deployer."""
    keep, registry, model = context.params.keep, context.registry, found.model
    if keep.refused_days is not None:
        before = context.clock() - timedelta(days=keep.refused_days)
        refused_runs = pruning.refused_runs(registry, model, before, versions.mlflow_runs)
        last = data.last_events(context.ledger, {pruning.run_of(refused) for refused in refused_runs})
        for refused in refused_runs:
            # It was begun again.
            if last.get((model, pruning.run_of(refused)), data.LONG_AGO) >= before:
                continue
            if dry_run:
                _count(found, pruning.refused_files(registry, refused), REFUSED)
            else:
                _count(found, pruning.remove_refused(registry, refused, context.clock()), REFUSED)
    if context.server_mode:
        _pages_in_mlflow(context, found, dry_run)
    if context.environment.deployer:
        for kind, (count, size) in traffic(context).prune_log(run, model, dry_run).items():
            found.add(kind, count, size)


def _pages_in_mlflow(context: Context, found: PrunedModel, dry_run: bool) -> None:
    listed = [*pruning.pages(context.registry, found.model)]
    names = {name: None for _, items in listed for name in items}
    going = set(old_files.old_looks(context, found.model, context.params.keep, names))
    for repository, items in listed:
        for name in sorted(items.keys() & going):
            if not dry_run:
                repository.delete_artifacts(items[name].path)
            found.add(old_files.LOOKS, 1, int(items[name].file_size or 0))


def _count(found: PrunedModel, artifacts: list[tuple[str, int]], kind: str = ARTIFACTS) -> None:
    found.add(kind, len(artifacts), sum(size for _, size in artifacts))


def _note(context: Context, run: str, pruned: Sequence[PrunedModel]) -> None:
    """An event for each model of which something went."""
    keep = context.params.keep.model_dump(exclude={"services_log_mb"})
    rules = {f"keep.{key}": value for key, value in keep.items()}
    for each in pruned:
        if each.removed or each.versions or each.data_versions or each.runs:
            gone = Pruned(
                removed=dict(each.removed),
                bytes=each.size,
                versions=each.versions,
                rules=rules,
                remote_bytes=each.remote_size,
                data_versions=each.data_versions,
                runs=each.runs,
            )
            context.ledger.append(gone, each.model, run)
