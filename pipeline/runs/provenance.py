"""From data to the versions that were trained on it, and when each of those was live."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.context import Context
from pipeline.errors import DataError
from pipeline.ledger.data_revisions import Revision, revisions
from pipeline.ledger.events import DataLanded, VersionRegistered
from pipeline.ledger.store import Entry
from pipeline.ledger.timeline import LivePeriod, live_periods
from pipeline.workspaces import dvc_remote

DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
# Fewer characters of a data version name too many of them.
SHORTEST_PREFIX = 4


@dataclass(frozen=True)
class TracedPartition:
    """The day's content that a version was trained on."""

    date: str
    revision: int
    rows: int
    md5: str


@dataclass(frozen=True)
class TracedVersion:
    """A registered version; `partition` is set when a day was traced, `live` are the periods in which it was live."""

    model: str
    version: str
    registered_as: str
    as_of: str
    data_version: str
    mlflow_run: str
    partition: TracedPartition | None
    run: str
    registered_at: str
    live: list[LivePeriod]

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "live": [period.as_dict() for period in self.live]}


@dataclass(frozen=True)
class Trace:
    """`data` is what was traced, `unreadable` the data versions whose list of partitions is lost.

    `revisions` holds the day's contents by model; None when a data version was traced.
    """

    data: str
    data_versions: list[str]
    unreadable: list[str]
    versions: list[TracedVersion]
    revisions: Mapping[str, list[Revision]] | None = None

    def as_dict(self) -> dict[str, Any]:
        values: dict[str, Any] = {
            "asked": self.data,
            "data_versions": self.data_versions,
            "unreadable": self.unreadable,
            "versions": [version.as_dict() for version in self.versions],
        }
        if self.revisions is not None:
            values["revisions"] = {
                model: [asdict(revision) for revision in history] for model, history in self.revisions.items()
            }
        return values


def trace(context: Context, data: str, model: str = "") -> Trace:
    """The versions trained on `data`: a data version, of which the first characters are enough, or a partition's date.

    Raises DataError when no run has landed it.
    """
    landed = context.ledger.events(DataLanded, model=model)
    day = data if DAY.fullmatch(data) else None
    used, lost = _with_day(context, landed, day) if day else (_with_prefix(landed, data), [])
    # Of a data version only its own models are asked for.
    models = {entry.model for entry in landed if day or entry.event.data_version in used}
    histories = {name: revisions(context.ledger, name) for name in sorted(models)}
    if not used and not lost:
        latest = "\n".join(dict.fromkeys(entry.event.data_version for entry in landed)).split()[-3:]
        raise DataError(
            f"data {data}",
            "is no data version and no partition's date that a run has landed",
            f"give at least {SHORTEST_PREFIX} characters; the latest data versions are: {', '.join(latest) or 'none'}",
        )
    versions = [
        _version(context, entry, histories.get(entry.model, {}), day, used[entry.event.data_version])
        for entry in _registered(context, model)
        if entry.event.data_version in used
    ]
    of_day = {name: history[f"{day}.parquet"] for name, history in histories.items() if f"{day}.parquet" in history}
    return Trace(data, list(used), lost, versions, of_day if day else None)


def _with_prefix(landed: list[Entry[DataLanded]], prefix: str) -> dict[str, str]:
    """The data versions that begin with `prefix`, each with '' in place of a partition's md5."""
    if len(prefix) < SHORTEST_PREFIX:
        return {}
    return {e.event.data_version: "" for e in landed if e.event.data_version.startswith(prefix)}


def _with_day(context: Context, landed: list[Entry[DataLanded]], day: str) -> tuple[dict[str, str], list[str]]:
    """(data versions that hold a partition of `day`, each with its md5; those whose list of partitions is lost)."""
    listings = dvc_remote.listings(context.project, dict.fromkeys(e.event.data_version for e in landed))
    name = f"{day}.parquet"
    with_day = {version: files[name] for version, files in listings.items() if files and name in files}
    return with_day, [version for version, files in listings.items() if files is None]


def _registered(context: Context, model: str) -> list[Entry[VersionRegistered]]:
    """The first registration of each version: a run that is done again registers the same one again."""
    entries = context.ledger.events(VersionRegistered, model=model)
    return list({(e.model, e.event.version): e for e in reversed(entries)}.values())[::-1]


def _version(
    context: Context, entry: Entry[VersionRegistered], history: dict[str, list[Revision]], day: str | None, md5: str
) -> TracedVersion:
    registered = entry.event
    of_day = history.get(f"{day}.parquet", []) if day else []
    return TracedVersion(
        model=entry.model,
        version=registered.version,
        registered_as=registered.alias,
        as_of=registered.as_of,
        data_version=registered.data_version,
        mlflow_run=registered.mlflow_run,
        partition=next((TracedPartition(str(day), r.number, r.rows, md5) for r in of_day if r.md5 == md5), None),
        run=entry.run,
        registered_at=entry.at,
        live=live_periods(context.ledger, entry.model, registered.version),
    )
