"""A model's files on this machine that may go: pages of looks, predictions, packages fetched from MLflow, logs of tasks.

On a server the prediction log lies with the deployer, which removes its old files itself (`prune_log`).
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pipeline.context import Context
from pipeline.ledger.events import DriftChecked, VersionRegistered
from pipeline.ledger.prune_events import Pruned
from pipeline.settings.keep import Keep

# Of a look: `2013-07-01T0600-v3.html`, and beside it `….json` and `…-evidently.html`.
LOOK = re.compile(r"^(?P<at>\d{4}-\d\d-\d\dT\d{4})-v(?P<version>[^.-]+)(?P<theirs>-evidently)?\.(html|json|svg)$")


@dataclass(frozen=True)
class Removable:
    """A file or folder that may go: its kind in words, and its size in bytes."""

    kind: str
    path: Path
    size: int


LOOKS = "pages of looks"
# What slots write into the folder of a prediction log.
LOGGED = (".parquet", ".damaged", ".requests", ".new")


def reports(context: Context, model: str, keep: Keep) -> list[Removable]:
    """The pages of looks that are older than keep.reports_days, but for alarms and the newest; and of every look but these
    Evidently's page, which is some megabytes."""
    written = {path.name: path for path in _files(context.home / "reports" / model)}
    times = {name: path.stat().st_mtime for name, path in written.items()}
    going = old_looks(context, model, keep, times)
    return [Removable(LOOKS, written[name], written[name].stat().st_size) for name in going]


def old_looks(context: Context, model: str, keep: Keep, times: Mapping[str, float | None]) -> list[str]:
    """Those of the pages, by their names, that may go. `times` says when each was written, in seconds since 1970; None: at its look's
    as-of. A name that is no look's stays."""
    looks = {name: named for name in sorted(times) if (named := LOOK.match(name)) is not None}
    if not looks:
        return []
    newest = _look(looks[max(looks)])
    alarms = {
        f"{entry.event.as_of:.16}".replace(":", "")
        for entry in context.ledger.events(DriftChecked, model=model)
        if entry.event.alarm is not None
    }
    old = before(context, keep.reports_days)
    found = []
    for name, named in looks.items():
        if _look(named) == newest or named["at"] in alarms:
            continue
        at = times[name]
        if at is None:
            at = datetime.strptime(named["at"], "%Y-%m-%dT%H%M").replace(tzinfo=UTC).timestamp()
        if named["theirs"] or (old is not None and at < old):
            found.append(name)
    return found


def predictions(context: Context, model: str, keep: Keep) -> list[Removable]:
    """The files of the prediction log whose rows are all older than keep.predictions_days, or than the monitor's window where that is
    longer. Of a model without a readable block none: nobody knows what it needs."""
    days = keep.predictions_days
    if days is None:
        return []
    folder = context.home / "predictions" / model
    files = {path: path.stat() for path in folder.rglob("*") if path.is_file() and path.suffix in LOGGED}

    def older(days: float) -> list[Removable]:
        old = (context.clock() - timedelta(days=days)).timestamp()
        kind = "files of predictions"
        return [Removable(kind, path, state.st_size) for path, state in files.items() if state.st_mtime < old]

    # To read the settings of 200 models takes longer than to look at their files, and few have one that is old.
    settings = context.params.models.get(model) if older(days) else None
    return older(max(days, settings.monitor.window_days)) if settings is not None else []


def packages(context: Context, model: str, removable: Collection[str]) -> list[Removable]:
    """What was fetched here of versions that are not kept."""
    folder = context.home / "versions" / model
    found = [folder / number for number in removable if (folder / number).is_dir()]
    return [Removable("fetched packages", path, _size(path)) for path in found]


def task_logs(context: Context, model: str, keep: Keep) -> list[Removable]:
    """Airflow's logs of the runs of the model's Dags in which nothing was written for keep.logs_days."""
    old = before(context, keep.logs_days)
    if old is None:
        return []
    dag = re.compile(rf"dag_id=[a-z]+__{re.escape(model)}")
    runs = [
        run for run in (context.home / "airflow" / "logs").glob("dag_id=*/run_id=*") if dag.fullmatch(run.parent.name)
    ]
    return [Removable("logs of runs", run, _size(run)) for run in runs if _newest(run) < old]


def _newest(folder: Path) -> float:
    """When something in it was written last, in seconds since 1970."""
    return max(path.stat().st_mtime for path in (folder, *folder.rglob("*")))


def remove(each: Removable) -> None:
    """It may be gone already."""
    if each.path.is_dir():
        shutil.rmtree(each.path)
    else:
        each.path.unlink(missing_ok=True)


def prune_log(context: Context, model: str, dry_run: bool) -> dict[str, list[int]]:
    """Removes the old files of the model's prediction log, and packages of versions that `prune` let go; [number, bytes] of each kind.

    `dry_run` says what would go.
    """
    keep = context.params.keep
    # A number may come again, in a new registry.
    made = {entry.event.version: entry.seq for entry in context.ledger.events(VersionRegistered, model=model)}
    pruned = context.ledger.events(Pruned, model=model)
    gone = {number for entry in pruned for number in entry.event.versions if made.get(number, 0) < entry.seq}
    going = predictions(context, model, keep) + packages(context, model, gone)
    sums: dict[str, list[int]] = {}
    for each in going:
        if not dry_run:
            remove(each)
        number, size = sums.get(each.kind, [0, 0])
        sums[each.kind] = [number + 1, size + each.size]
    return sums


def _look(named: re.Match[str]) -> str:
    return f"{named['at']}-v{named['version']}"


def before(context: Context, days: float | None) -> float | None:
    """The time, in seconds since 1970, that is so many days ago."""
    now: datetime = context.clock()
    return None if days is None else (now - timedelta(days=days)).timestamp()


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else iter(())


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
