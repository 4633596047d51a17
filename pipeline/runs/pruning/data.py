"""The files of data versions, in the DVC cache and its remote, that no kept version and no run that goes on needs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import timedelta

from pipeline.context import Context
from pipeline.errors import DataError
from pipeline.ledger.events import DataLanded, RunSettled, StageKept, VersionRegistered
from pipeline.runs.pruning.kept import Versions, at_of
from pipeline.settings import yaml_file
from pipeline.settings.keep import Keep
from pipeline.workspaces import dvc_graph, dvc_remote


def removable(context: Context, of_models: Mapping[str, Versions], keep: Keep) -> list[str]:
    """The DVC hashes that only removable things of these models have, of folders and files. None while all versions are kept.

    A run's data stay for keep.versions_days, whatever became of it, and those of one that did not end. Raises DataError when the
    files of a kept version's data are not known: what it needs could not be left out.
    """
    if keep.versions is None:
        return []
    young = context.clock() - timedelta(days=keep.versions_days)
    settled = {entry.run for entry in context.ledger.events(RunSettled) if at_of(entry) < young}
    needed, unneeded = set(_of_kept(context, of_models)), set[str]()
    for entry in context.ledger.events(DataLanded):
        goes = entry.model in of_models and entry.run in settled and at_of(entry) < young
        (unneeded if goes else needed).add(entry.event.data_version)
    unneeded -= needed
    listed = dvc_remote.listings(context.project, needed | unneeded)
    if unknown := sorted(version for version in needed if listed[version] is None):
        raise DataError(
            f"data version {unknown[0]}",
            f"is needed and its list of files is neither in the DVC cache nor in the remote ({len(unknown)} such versions)",
            "put the remote back from a backup; no data was pruned",
        )
    hashes = _with_files(listed, unneeded) | _of_stages(context, of_models, settled)
    return sorted(hashes - _with_files(listed, needed))


def _of_kept(context: Context, of_models: Mapping[str, Versions]) -> Iterable[str]:
    """The data versions of kept versions; those of a model that is not asked about are all kept."""
    for entry in context.ledger.events(VersionRegistered):
        versions = of_models.get(entry.model)
        number = entry.event.version
        same = versions is not None and versions.registered.get(number) == entry.event
        if versions is None or (same and number not in versions.removable and number not in versions.gone):
            yield entry.event.data_version


def _with_files(listed: Mapping[str, Mapping[str, str] | None], versions: Collection[str]) -> set[str]:
    return {md5 for version in versions for md5 in (version, *(listed[version] or {}).values())}


def _of_stages(context: Context, models: Collection[str], settled: Collection[str]) -> set[str]:
    """What stages after the first pushed for the next worker: nobody needs it once the run has ended, for a rebuild makes it anew."""
    hashes: set[str] = set()
    locks = {entry.run: entry for entry in context.ledger.events(StageKept) if entry.model in models}
    for run, entry in locks.items():
        if run in settled:
            first = next(iter(dvc_graph.order(context.project)))
            stages = yaml_file.parse(entry.event.lock)["stages"]
            for name, stage in stages.items():
                if name.partition("@")[0] != first:
                    hashes |= {out["md5"] for out in stage.get("outs", [])}
    return hashes
