"""What one of a server's containers has on its own disk and may go: the logs of tasks, and the pages of looks that MLflow has too.

No `prune` reaches another container's disk, so each does it for itself: docker/airflow/entrypoint.sh runs this every hour.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import SettingsError
from pipeline.settings import logs, models
from pipeline.settings.environment import Environment
from pipeline.settings.keep import Keep

log = logging.getLogger(__name__)
DAY_S = 86_400.0


def prune(environment: Environment, log_days: float, dry_run: bool = False) -> list[Path]:
    """Removes the old files, and the folders that are empty then; returns the files. `dry_run` only tells them.

    Task logs go after keep.logs_days, or after `log_days` where that is not set or params.yaml cannot be read.
    """
    keep, home = _keep(environment), environment.home
    days = {home / "airflow" / "logs": keep.logs_days or log_days, home / "reports": keep.reports_days}
    gone = []
    for top, limit in days.items():
        for path in [*_older(top, limit)] if limit is not None else ():
            gone.append(path)
            if not dry_run:
                path.unlink(missing_ok=True)
                _remove_empty(path.parent, top)
    return gone


def _keep(environment: Environment) -> Keep:
    try:
        return models.load(environment.project, environment.params_read).keep
    except SettingsError as error:
        log.warning("%s", error)
        return Keep()


def _older(folder: Path, days: float) -> Iterator[Path]:
    old = time.time() - days * DAY_S
    for path in folder.rglob("*"):
        try:
            if path.is_file() and path.lstat().st_mtime < old:
                yield path
        except FileNotFoundError:
            continue  # who writes there may remove it meanwhile


def _remove_empty(folder: Path, top: Path) -> None:
    """The folders of a run and of its tasks stay no longer than their files."""
    while folder != top:
        try:
            folder.rmdir()
        except OSError:
            return  # it has other files
        folder = folder.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--log-days", type=float, default=30.0, help="where keep.logs_days is not set")
    parser.add_argument("--dry-run", action="store_true", help="only tell what would go")
    arguments = parser.parse_args()
    logs.configure("service")
    for path in prune(Environment.read(), arguments.log_days, arguments.dry_run):
        if arguments.dry_run:
            print(path)


if __name__ == "__main__":
    main()
