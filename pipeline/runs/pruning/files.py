"""A model's files on this machine that may go: pages of looks, predictions, packages fetched from MLflow, logs of tasks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from pipeline.context import Context
from pipeline.ledger.events import DriftChecked
from pipeline.settings.keep import Keep
from pipeline.settings.models import Model

# Of a look: `2013-07-01T0600-v3.html`, and beside it `….json` and `…-evidently.html`.
LOOK = re.compile(r"^(?P<at>\d{4}-\d\d-\d\dT\d{4})-v(?P<version>[^.-]+)(?P<theirs>-evidently)?\.(html|json|svg)$")


@dataclass(frozen=True)
class Removable:
    """A file or folder that may go: its kind in words, and its size in bytes."""

    kind: str
    path: Path
    size: int


# What slots write into the folder of a prediction log.
LOGGED = (".parquet", ".damaged", ".requests", ".new")


def reports(context: Context, model: str, keep: Keep) -> list[Removable]:
    """The pages of looks that are older than keep.reports_days, but for alarms and the newest; and of every look but these
    Evidently's page, which is some megabytes."""
    folder = context.home / "reports" / model
    looks = sorted((path for path in _files(folder) if LOOK.match(path.name)), key=lambda path: path.name)
    if not looks:
        return []
    newest = _look(looks[-1])
    alarms = {
        f"{entry.event.as_of:.16}".replace(":", "")
        for entry in context.ledger.events(DriftChecked, model=model)
        if entry.event.alarm is not None
    }
    old = _before(context, keep.reports_days)
    found = []
    for path in looks:
        named = LOOK.match(path.name)
        assert named is not None
        if _look(path) == newest or named["at"] in alarms:
            continue
        if named["theirs"] or (old is not None and path.stat().st_mtime < old):
            found.append(Removable("pages of looks", path, path.stat().st_size))
    return found


def predictions(context: Context, model: str, settings: Model | None, keep: Keep) -> list[Removable]:
    """The files of the prediction log whose rows are all older than keep.predictions_days, or than the monitor's window where that is
    longer. Of a model without a readable block none: nobody knows what it needs."""
    if keep.predictions_days is None or settings is None:
        return []
    old = _before(context, max(keep.predictions_days, settings.monitor.window_days))
    assert old is not None
    folder = context.home / "predictions" / model
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix in LOGGED]
    return [
        Removable("files of predictions", path, path.stat().st_size) for path in files if path.stat().st_mtime < old
    ]


def packages(context: Context, model: str, removable: Mapping[str, object]) -> list[Removable]:
    """What was fetched here of versions that are not kept."""
    folder = context.home / "versions" / model
    found = [folder / number for number in removable if (folder / number).is_dir()]
    return [Removable("fetched packages", path, _size(path)) for path in found]


def task_logs(context: Context, model: str, keep: Keep) -> list[Removable]:
    """Airflow's logs of the runs of the model's Dags in which nothing was written for keep.logs_days."""
    old = _before(context, keep.logs_days)
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


def _look(path: Path) -> str:
    named = LOOK.match(path.name)
    assert named is not None
    return f"{named['at']}-v{named['version']}"


def _before(context: Context, days: float | None) -> float | None:
    """The time, in seconds since 1970, that is so many days ago."""
    now: datetime = context.clock()
    return None if days is None else (now - timedelta(days=days)).timestamp()


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else iter(())


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
