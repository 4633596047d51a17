"""From data to the versions that learnt from it, and when each of those was live."""

from __future__ import annotations

import re
from typing import Any

from pipeline.context import Context
from pipeline.errors import DataError
from pipeline.ledger.data_revisions import Revision, revisions
from pipeline.ledger.events import DataLanded, VersionRegistered
from pipeline.ledger.store import Entry
from pipeline.ledger.timeline import live_periods
from pipeline.workspaces import dvc_remote

DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


def trace(context: Context, asked: str, model: str = "") -> dict[str, Any]:
    """The versions trained on `asked`: a data version (its first characters will do) or a partition's date.

    Returns {"asked", "data_versions", "unreadable": data versions whose list of partitions is lost, "revisions":
    {model: [...]} of a date, "versions": [{"model", "version", "registered_as", "as_of", "data_version", "partition", "run", "mlflow_run", "registered_at", "live": [{"from",
    "until"}]}]}. Raises DataError when nothing is known of it.
    """
    landed = context.ledger.events(DataLanded, model=model)
    day = asked if DAY.fullmatch(asked) else None
    histories = {name: revisions(context.ledger, name) for name in sorted({e.model for e in landed})}
    used, lost = _with_day(context, landed, day) if day else (_starting_with(landed, asked), [])
    if not used and not lost:
        known = "\n".join(dict.fromkeys(e.event.data_version for e in landed)).split()[-3:]
        raise DataError(
            f"data {asked}",
            "is no data version and no partition's date that a run has landed",
            f"give at least 4 characters; the latest data versions are: {', '.join(known) or 'none'}",
        )
    versions = [
        _version(context, entry, histories[entry.model], day, used[entry.event.data_version])
        for entry in _registered(context, model)
        if entry.event.data_version in used
    ]
    told: dict[str, Any] = {"asked": asked, "data_versions": list(used), "unreadable": lost, "versions": versions}
    if day:
        told["revisions"] = {
            name: [vars(one) for one in history[f"{day}.parquet"]]
            for name, history in histories.items()
            if f"{day}.parquet" in history
        }
    return told


def _starting_with(landed: list[Entry[DataLanded]], asked: str) -> dict[str, str]:
    return {e.event.data_version: "" for e in landed if len(asked) >= 4 and e.event.data_version.startswith(asked)}


def _with_day(context: Context, landed: list[Entry[DataLanded]], day: str) -> tuple[dict[str, str], list[str]]:
    """(data versions that hold a partition of `day`, each with its md5; those whose list of partitions is lost)."""
    listed = dvc_remote.listings(context.project, dict.fromkeys(e.event.data_version for e in landed))
    name = f"{day}.parquet"
    found = {version: files[name] for version, files in listed.items() if files and name in files}
    return found, [version for version, files in listed.items() if files is None]


def _registered(context: Context, model: str) -> list[Entry[VersionRegistered]]:
    """The registrations, once each version: a run done again registers nothing new."""
    entries = context.ledger.events(VersionRegistered, model=model)
    return list({(e.model, e.event.version): e for e in reversed(entries)}.values())[::-1]


def _version(
    context: Context, entry: Entry[VersionRegistered], history: dict[str, list[Revision]], day: str | None, md5: str
) -> dict[str, Any]:
    registered = entry.event
    of_day = history.get(f"{day}.parquet", []) if day else []
    return {
        "model": entry.model,
        "version": registered.version,
        "registered_as": registered.alias,
        "as_of": registered.as_of,
        "data_version": registered.data_version,
        "mlflow_run": registered.mlflow_run,
        "partition": next(
            ({"date": day, "revision": r.number, "rows": r.rows, "md5": md5} for r in of_day if r.md5 == md5), None
        ),
        "run": entry.run,
        "registered_at": entry.at,
        "live": [period.as_dict() for period in live_periods(context.ledger, entry.model, registered.version)],
    }
