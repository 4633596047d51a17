"""From data to the versions that were trained on it, and when each of those was live."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import sqlalchemy as sa

from pipeline.context import Context
from pipeline.errors import DataError
from pipeline.ledger.columns import holds, text
from pipeline.ledger.data_revisions import Revision, revisions_of
from pipeline.ledger.events import DataLanded, VersionRegistered
from pipeline.ledger.store import EVENTS, Entry
from pipeline.ledger.timeline import LivePeriod, live_periods_of
from pipeline.workspaces import dvc_remote

DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
# Fewer characters of a data version name too many of them.
SHORTEST_PREFIX = 4
# Of so many data versions registrations are found by their text, without reading the JSON of all.
FEW = 20


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

    `revisions` holds the day's contents by model; None when a data version was traced. `landed_by` names the first model that landed each
    data version.
    """

    data: str
    data_versions: list[str]
    unreadable: list[str]
    versions: list[TracedVersion]
    revisions: Mapping[str, list[Revision]] | None = None
    landed_by: Mapping[str, str] = field(default_factory=dict)

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
    day = data if DAY.fullmatch(data) else None
    landed = _landed(context, model, "" if day else data)
    used, lost = _with_day(context, landed, day) if day else (_with_prefix(landed, data), [])
    # Only of a day the contents are told.
    histories = revisions_of(context.ledger, f"{day}.parquet", model) if day else {}
    if not used and not lost:
        latest = list(dict.fromkeys(version for _, version in _landed(context, model)))[-3:]
        raise DataError(
            f"data {data}",
            "is no data version and no partition's date that a run has landed",
            f"give at least {SHORTEST_PREFIX} characters; the latest data versions are: {', '.join(latest) or 'none'}",
        )
    registered = _registered(context, model, used)
    live = live_periods_of(context.ledger, {entry.model for entry in registered})
    versions = [
        _version(entry, live[entry.model], histories.get(entry.model, []), day, used[entry.event.data_version])
        for entry in registered
    ]
    first = {version: name for name, version in reversed(landed) if version in used}
    return Trace(data, list(used), lost, versions, dict(sorted(histories.items())) if day else None, first)


def _landed(context: Context, model: str, prefix: str = "") -> list[tuple[str, str]]:
    """(model, data version) of each landing, in their order; of one model or of all (''), and of the data versions that begin so."""
    of = EVENTS.c.model == model if model else sa.true()
    of = sa.and_(of, holds(context.ledger, f'"data_version":"{prefix}')) if prefix else of
    query = sa.select(EVENTS.c.model, text(context.ledger, "data_version")).where(EVENTS.c.kind == DataLanded.KIND, of)
    return [(name, str(version)) for name, version in context.ledger.rows(query.order_by(EVENTS.c.seq))]


def _with_prefix(landed: list[tuple[str, str]], prefix: str) -> dict[str, str]:
    """The data versions that begin with `prefix`, each with '' in place of a partition's md5."""
    if len(prefix) < SHORTEST_PREFIX:
        return {}
    return {version: "" for _, version in landed if version.startswith(prefix)}


def _with_day(context: Context, landed: list[tuple[str, str]], day: str) -> tuple[dict[str, str], list[str]]:
    """(data versions that hold a partition of `day`, each with its md5; those whose list of partitions is lost)."""
    name = f"{day}.parquet"
    listings = dvc_remote.listings(context.project, dict.fromkeys(version for _, version in landed), only=name)
    with_day = {version: files[name] for version, files in listings.items() if files and name in files}
    return with_day, [version for version, files in listings.items() if files is None]


def _registered(context: Context, model: str, used: Collection[str]) -> list[Entry[VersionRegistered]]:
    """The first registration of each version that was trained on one of those data versions: a run that is done again registers the same one
    again."""
    ledger, of = context.ledger, EVENTS.c.model == model if model else sa.true()
    names = (text(ledger, "version"), text(ledger, "data_version"))
    if len(used) <= FEW:
        of = sa.and_(of, sa.or_(sa.false(), *(holds(ledger, version) for version in sorted(used))))
    query = sa.select(EVENTS.c.seq, EVENTS.c.model, *names).where(EVENTS.c.kind == VersionRegistered.KIND, of)
    first: dict[tuple[str, str], tuple[int, str]] = {}
    for seq, name, version, data_version in ledger.rows(query.order_by(EVENTS.c.seq)):
        first.setdefault((name, version), (seq, data_version))
    seqs = [seq for seq, data_version in first.values() if data_version in used]
    # A database takes so many values in one query.
    batches = [seqs[start : start + 500] for start in range(0, len(seqs), 500)]
    rows = [row for batch in batches for row in ledger.rows(sa.select(EVENTS).where(EVENTS.c.seq.in_(batch)))]
    entries = [Entry[VersionRegistered](r.seq, r.at, r.model, r.run, r.step, r.kind, r.body, r.hash) for r in rows]
    return sorted(entries, key=lambda entry: entry.seq)


def _version(
    entry: Entry[VersionRegistered],
    live: Mapping[str, list[LivePeriod]],
    of_day: list[Revision],
    day: str | None,
    md5: str,
) -> TracedVersion:
    registered = entry.event
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
        live=live.get(registered.version, []),
    )
