"""The files of data versions, in the DVC cache and its remote, that no kept version and no run that goes on needs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from pipeline.context import Context
from pipeline.errors import DataError
from pipeline.ledger.events import DataLanded, RunSettled, StageKept, VersionRegistered
from pipeline.ledger.landed_events import LandedProfiled
from pipeline.ledger.prune_events import Pruned
from pipeline.ledger.store import EVENTS, Entry, Ledger
from pipeline.runs.pruning.kept import Versions, at_of
from pipeline.settings import yaml_file
from pipeline.settings.keep import Keep
from pipeline.settings.models import time_of
from pipeline.workspaces import dvc_graph, dvc_remote

LONG_AGO = datetime.min.replace(tzinfo=UTC)


def removable(context: Context, of_models: Mapping[str, Versions], keep: Keep) -> dict[str, str]:
    """The DVC hashes that only removable things of these models have, of folders and files, each with the model that brought it first.
    None while all versions and all refused runs are kept.

    The data of a run with a version stay for keep.versions_days, and those of one that did not end; of a run that made no version
    they stay for keep.refused_days, and without that rule as those of the others. Raises DataError when the files of a kept version's
    data are not known: what it needs could not be left out.
    """
    if keep.versions is None and keep.refused_days is None:
        return {}
    ended = ended_runs(context, keep)
    landed = context.ledger.events(DataLanded)
    needed, others, unneeded = set(_of_kept(context, of_models)), set[str](), set[str]()
    for entry in landed:
        if not at_of(entry) < ended.get((entry.model, entry.run), LONG_AGO):
            needed.add(entry.event.data_version)
        else:
            (unneeded if entry.model in of_models else others).add(entry.event.data_version)
    unneeded -= needed | others
    listed = dvc_remote.listings(context.project, needed | others | unneeded)
    # What others landed long ago, of no kept version, may have been pruned with them: then it needs nothing.
    if unknown := sorted(version for version in needed if listed[version] is None):
        raise DataError(
            f"data version {unknown[0]}",
            f"is needed and its list of files is neither in the DVC cache nor in the remote ({len(unknown)} such versions)",
            "put the remote back from a backup; no data was pruned",
        )
    stages = _of_stages(context, of_models, ended)
    hashes = (_with_files(listed, unneeded) | stages.keys()) - _with_files(listed, needed | others)
    return _brought(landed, listed, stages, hashes)


def ended_runs(context: Context, keep: Keep) -> dict[tuple[str, str], datetime]:
    """The runs whose data may go, by model and run, each with the time before which they must have landed."""
    found: dict[tuple[str, str], datetime] = {}
    if keep.versions is not None:
        young = context.clock() - timedelta(days=keep.versions_days)
        found = {(e.model, e.run): young for e in context.ledger.events(RunSettled) if at_of(e) < young}
    if keep.refused_days is not None:
        young = context.clock() - timedelta(days=keep.refused_days)
        with_version = {(entry.model, entry.run) for entry in context.ledger.events(VersionRegistered)}
        for run, last in last_events(context.ledger).items():
            if run not in with_version:
                found.pop(run, None)
                found |= {run: young} if last < young else {}
    return found


def last_events(ledger: Ledger, model: str = "") -> dict[tuple[str, str], datetime]:
    """When a run of a model wrote last, by model and run; a run that was killed never says that it ended. Raises LedgerError."""
    of = EVENTS.c.model == model if model else EVENTS.c.model != ""
    last = sa.func.max(EVENTS.c.at).label("last")
    query = sa.select(EVENTS.c.model, EVENTS.c.run, last).where(of, EVENTS.c.run != "")
    rows = ledger.rows(query.group_by(EVENTS.c.model, EVENTS.c.run))
    return {(row.model, row.run): time_of(row.last.replace("Z", "+00:00")) for row in rows}


def _brought(
    landed: Iterable[Entry[DataLanded]],
    listed: Mapping[str, Mapping[str, str] | None],
    stages: Mapping[str, str],
    hashes: set[str],
) -> dict[str, str]:
    """The model that sent each of the hashes to the remote, as far as the ledger and the lists tell: the first that had it."""
    models = {md5: model for md5, model in stages.items() if md5 in hashes}
    # Last those that sent something: one that sent nothing found it there.
    for entry in sorted(landed, key=lambda entry: (entry.event.pushed_bytes > 0, -entry.seq)):
        # Of a version whose list is gone the ledger still has the partitions that were new with it.
        new = {str(partition.get("md5")) for partition in entry.event.landed.values()}
        version = entry.event.data_version
        names = {version, *new, *(listed.get(version) or {}).values()}
        models |= dict.fromkeys(names & hashes, entry.model)
    return models


def _of_kept(context: Context, of_models: Mapping[str, Versions]) -> Iterable[str]:
    """The data versions of kept versions; of a model that is not asked about all are kept that were not pruned before."""
    pruned = {(entry.model, v): entry.seq for entry in context.ledger.events(Pruned) for v in entry.event.versions}
    for entry in context.ledger.events(VersionRegistered):
        versions, number = of_models.get(entry.model), entry.event.version
        let_go = versions is not None and (
            number in versions.removable or versions.registered.get(number) != entry.event
        )
        # A number may come again, in a new registry.
        if not let_go and entry.seq > pruned.get((entry.model, number), 0):
            yield entry.event.data_version


def _with_files(listed: Mapping[str, Mapping[str, str] | None], versions: Collection[str]) -> set[str]:
    return {md5 for version in versions for md5 in (version, *(listed[version] or {}).values())}


def _of_stages(context: Context, models: Collection[str], ended: Collection[tuple[str, str]]) -> dict[str, str]:
    """What stages after the first, and what counted beside them, pushed for the next worker, each with its model: nobody needs it once the
    run has ended, for a rebuild makes it anew."""
    hashes: dict[str, str] = {}
    locks = {(entry.model, entry.run): entry for entry in context.ledger.events(StageKept) if entry.model in models}
    for run, entry in locks.items():
        if run in ended:
            first = next(iter(dvc_graph.order(context.project)))
            stages = yaml_file.parse(entry.event.lock)["stages"]
            for name, stage in stages.items():
                if name.partition("@")[0] != first:
                    hashes |= {out["md5"]: entry.model for out in stage.get("outs", []) if out["md5"] not in hashes}
    for counted in context.ledger.events(LandedProfiled):
        if counted.model in models and (counted.model, counted.run) in ended:
            hashes.setdefault(counted.event.profiles, counted.model)
    return hashes
