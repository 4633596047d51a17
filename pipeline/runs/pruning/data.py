"""The files of data versions, in the DVC cache and its remote, that no kept version and no run that goes on needs."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from pipeline.context import Context
from pipeline.errors import DataError, LedgerError
from pipeline.ledger.columns import text
from pipeline.ledger.events import DataLanded, RunSettled, StageKept, VersionRegistered
from pipeline.ledger.landed_events import LandedProfiled
from pipeline.ledger.prune_events import Pruned
from pipeline.ledger.store import EVENTS, VERIFY, Entry, Ledger
from pipeline.runs.pruning.kept import Versions, at_of
from pipeline.settings import yaml_file
from pipeline.settings.keep import Keep
from pipeline.settings.models import time_of
from pipeline.workspaces import dvc_graph, dvc_remote

# In an event's text, wherever it stands.
HASH = re.compile(r"\b[0-9a-f]{32}\b(?:\.dir)?")
LONG_AGO = datetime.min.replace(tzinfo=UTC)
# So many runs are asked for at once, by the index of runs.
RUNS_ASKED = 500


@dataclass(frozen=True)
class Removable:
    """`hashes` has the DVC hashes of folders and files, each with the model that brought it first. Once they are gone, the data `versions` and
    the stages of `runs`, by model, have no file of their own."""

    hashes: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, Collection[str]] = field(default_factory=dict)
    runs: Mapping[str, Collection[str]] = field(default_factory=dict)


def removable(context: Context, of_models: Mapping[str, Versions], keep: Keep) -> Removable:
    """What only removable things of these models have. Nothing while all versions and all refused runs are kept.

    The data of a run with a version stay for keep.versions_days, and those of one that did not end; of a run that made no version
    they stay for keep.refused_days, and without that rule as those of the others. Raises DataError when the files of a kept version's
    data are not known: what it needs could not be left out.
    """
    if keep.versions is None and keep.refused_days is None:
        return Removable()
    landed, pruned = _landings(context.ledger), context.ledger.events(Pruned)
    # What was read of a version is not read again.
    known = {entry.seq: entry for versions in of_models.values() for entry in versions.entries}
    registered = [known.get(entry.seq, entry) for entry in context.ledger.events(VersionRegistered)]
    sent = context.ledger.events(StageKept, LandedProfiled)
    refused = {(entry.model, entry.run) for entry in (*landed, *sent)} - {(e.model, e.run) for e in registered}
    ended = ended_runs(context, keep, refused)
    gone = {version: entry.seq for entry in pruned for version in entry.event.data_versions}
    needed, others, unneeded = set(_of_kept(registered, of_models, pruned)), set[str](), dict[str, str]()
    for entry in landed:
        if not at_of(entry) < ended.get((entry.model, entry.run), LONG_AGO):
            needed.add(entry.data_version)
        elif entry.model not in of_models:
            others.add(entry.data_version)
        elif entry.seq > gone.get(entry.data_version, 0):
            unneeded[entry.data_version] = entry.model
    unneeded = {version: model for version, model in unneeded.items() if version not in needed | others}
    stages, runs = _of_stages(context, [entry for entry in sent if entry.model in of_models], ended, pruned)
    if not unneeded and not stages:
        return Removable()
    listed = dvc_remote.listings(context.project, needed | others | unneeded.keys())
    # What others landed long ago, of no kept version, may have been pruned with them: then it needs nothing.
    if unknown := sorted(version for version in needed if listed[version] is None):
        raise DataError(
            f"data version {unknown[0]}",
            f"is needed and its list of files is neither in the DVC cache nor in the remote ({len(unknown)} such versions)",
            "put the remote back from a backup; no data was pruned",
        )
    hashes = (_with_files(listed, unneeded) | stages.keys()) - _with_files(listed, needed | others)
    # The same data and settings give the same files: a run that goes on may wait for those that one of long ago sent.
    hashes -= {md5 for entry in sent if (entry.model, entry.run) not in ended for md5 in HASH.findall(entry.text)}
    brought = _brought(context.ledger.events(DataLanded), listed, stages, hashes) if hashes else {}
    return Removable(brought, _by_model(unneeded.items()), _by_model(runs))


def _landings(ledger: Ledger) -> list[Any]:
    """(seq, at, model, run, data_version) of each landing: of years the files that they list are most of the ledger. Raises LedgerError."""
    columns = (EVENTS.c[name] for name in ("seq", "at", "model", "run"))
    query = sa.select(*columns, text(ledger, "data_version").label("data_version"))
    found = ledger.rows(query.where(EVENTS.c.kind == DataLanded.KIND).order_by(EVENTS.c.seq))
    for landing in found:
        if landing.data_version is None:
            raise LedgerError(f"event {landing.seq}", "its body has no data_version", VERIFY)
    return found


def _by_model(of: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    """The things of each model, from pairs of a thing and its model."""
    found: dict[str, set[str]] = {}
    for thing, model in of:
        found.setdefault(model, set()).add(thing)
    return found


def ended_runs(context: Context, keep: Keep, refused: Collection[tuple[str, str]]) -> dict[tuple[str, str], datetime]:
    """The runs, by model and run, whose data may go, each with the time before which they must have landed. `refused` are those that made no
    version and landed something."""
    found: dict[tuple[str, str], datetime] = {}
    if keep.versions is not None:
        young = context.clock() - timedelta(days=keep.versions_days)
        settled = sa.select(EVENTS.c.model, EVENTS.c.run, EVENTS.c.at).where(EVENTS.c.kind == RunSettled.KIND)
        found = {(e.model, e.run): young for e in context.ledger.rows(settled) if at_of(e) < young}
    if keep.refused_days is not None:
        young = context.clock() - timedelta(days=keep.refused_days)
        last = last_events(context.ledger, {run for _, run in refused})
        found = {run: before for run, before in found.items() if run not in refused}
        found |= {run: young for run in refused if last.get(run, young) < young}
    return found


def last_events(ledger: Ledger, runs: Collection[str]) -> dict[tuple[str, str], datetime]:
    """When these runs wrote last, by model and run; a run that was killed never says that it ended. Raises LedgerError."""
    last, names = sa.func.max(EVENTS.c.at).label("last"), sorted(runs)
    found: dict[tuple[str, str], datetime] = {}
    for place in range(0, len(names), RUNS_ASKED):
        asked = EVENTS.c.run.in_(names[place : place + RUNS_ASKED])
        query = sa.select(EVENTS.c.model, EVENTS.c.run, last).where(EVENTS.c.model != "", asked)
        for row in ledger.rows(query.group_by(EVENTS.c.model, EVENTS.c.run)):
            found[row.model, row.run] = time_of(row.last.replace("Z", "+00:00"))
    return found


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


def _of_kept(
    registered: Iterable[Entry[VersionRegistered]], of_models: Mapping[str, Versions], before: Iterable[Entry[Pruned]]
) -> Iterable[str]:
    """The data versions of kept versions; of a model that is not asked about all are kept that were not pruned before."""
    pruned = {(entry.model, v): entry.seq for entry in before for v in entry.event.versions}
    for entry in registered:
        versions, number = of_models.get(entry.model), entry.event.version
        let_go = versions is not None and (
            number in versions.removable or versions.registered.get(number) != entry.event
        )
        # A number may come again, in a new registry.
        if not let_go and entry.seq > pruned.get((entry.model, number), 0):
            yield entry.event.data_version


def _with_files(listed: Mapping[str, Mapping[str, str] | None], versions: Collection[str]) -> set[str]:
    return {md5 for version in versions for md5 in (version, *(listed[version] or {}).values())}


def _of_stages(
    context: Context, sent: Iterable[Entry[Any]], ended: Collection[tuple[str, str]], pruned: Iterable[Entry[Pruned]]
) -> tuple[dict[str, str], set[tuple[str, str]]]:
    """Of what was `sent`: what stages after the first, and what counted beside them, pushed for the next worker, each with its model: nobody
    needs it once the run has ended, for a rebuild makes it anew. And those runs, each with its model."""
    gone = {(entry.model, run): entry.seq for entry in pruned for run in entry.event.runs}
    going = [e for e in sent if (run := (e.model, e.run)) in ended and e.seq > gone.get(run, 0)]
    locks = {(entry.model, entry.run): entry for entry in going if entry.kind == StageKept.KIND}
    hashes: dict[str, str] = {}
    for entry in locks.values():
        first = next(iter(dvc_graph.order(context.project)))
        for name, stage in yaml_file.parse(entry.event.lock)["stages"].items():
            if name.partition("@")[0] != first:
                hashes |= {out["md5"]: entry.model for out in stage.get("outs", []) if out["md5"] not in hashes}
    for counted in going:
        if counted.kind == LandedProfiled.KIND:
            hashes.setdefault(counted.event.profiles, counted.model)
    return hashes, {(entry.run, entry.model) for entry in going}
