"""Makes the databases of Airflow and MLflow before the services that need them start; does nothing once they are made.

MLflow's tables must be there before several processes use them: processes that create them at the same time break the file. A retrain
that brings the services up may be as far, so that MLflow's are made under the registry's lock.

    python -m pipeline.services.databases
"""

from __future__ import annotations

import logging
import os
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pipeline.errors import ServiceError
from pipeline.registry import moved_store
from pipeline.registry.versions import artifact_root, making_tables
from pipeline.settings import logs

log = logging.getLogger("pipeline.services.databases")


def make(home: Path, mlflow_store: str) -> bool:
    """Makes both databases, also those that an earlier try left half made; returns False when they are there. Raises ServiceError."""
    made, being_made = home / "airflow" / "airflow.db", home / "airflow" / "airflow.db.being-made"
    if made.is_file() and not being_made.exists():
        return False
    being_made.touch()
    with ThreadPoolExecutor() as both:
        airflow = both.submit(_run, ["airflow", "db", "migrate"])
        with making_tables(home):
            _run(["mlflow", "db", "upgrade", mlflow_store])
        airflow.result()
    being_made.unlink()
    return True


def _run(command: list[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        last = (result.stderr.strip() or result.stdout.strip() or "no output").splitlines()[-1]
        raise ServiceError(
            " ".join(command[:3]), last, "is there room on the disk? are the files below the home intact?"
        )


def main() -> int:
    """Returns the exit code: 1 where a database cannot be made."""
    logs.configure("service")
    try:
        home = Path(os.environ["PERENNIAL_HOME"])
        if make(home, os.environ["PERENNIAL_MLFLOW_STORE"]):
            log.info("made the databases of Airflow and MLflow")
        for old in moved_store.follow(home / "mlflow" / "mlflow.db", artifact_root(home)):
            log.info("MLflow's artifacts were in %s and are in %s", old, artifact_root(home))
    except (ServiceError, OSError, sqlite3.Error) as error:
        log.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
