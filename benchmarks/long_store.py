"""MLflow's store in a file as it is with the versions of a long ledger: what MLflow made the tables of, filled without MLflow.

Each version has its run, its tags, its logged model and its aliases. The newest version of each model has its files too; those of all
would be a hundred thousand.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from harness.project import CHURN
from pipeline.ledger.events import VersionRegistered
from pipeline.ledger.store import Entry, Ledger
from pipeline.registry.lookups import AS_OF_TAG
from pipeline.registry.versions import CHALLENGER, CHAMPION, DATA_TAG, DIGEST_TAG, PACKAGE_TAG, RUN_TAG

INTO = "INSERT INTO"
Row = tuple[str, tuple[Any, ...]]


def fill(ledger: Ledger, home: Path) -> None:
    """Registers what the ledger says was registered. The tables are there."""
    root = home / "mlflow" / "artifacts"
    registered = ledger.events(VersionRegistered)
    newest = {entry.model: entry for entry in registered}
    with contextlib.closing(sqlite3.connect(home / "mlflow" / "mlflow.db")) as connection, connection:
        for number, model in enumerate(newest, start=1):
            _add(connection, _of_model(number, model, newest[model].event.version, root))
        experiments = {model: number for number, model in enumerate(newest, start=1)}
        for entry in registered:
            _add(connection, _of_version(entry, experiments[entry.model], root))
    for entry in newest.values():
        _write_files(entry, root / entry.model / _run(entry) / "artifacts")


def _add(connection: sqlite3.Connection, rows: Iterable[Row]) -> None:
    for statement, values in rows:
        connection.execute(f"{statement} VALUES ({', '.join('?' * len(values))})", values)


def _run(entry: Entry[VersionRegistered]) -> str:
    return f"{entry.seq:032x}"


def _of_model(number: int, model: str, newest: str, root: Path) -> Iterator[Row]:
    where = (number, model, str(root / model), "active")
    yield f"{INTO} experiments (experiment_id, name, artifact_location, lifecycle_stage)", where
    yield f"{INTO} registered_models (name)", (model,)
    for alias in (CHAMPION, CHALLENGER):
        yield f"{INTO} registered_model_aliases (alias, version, name)", (alias, int(newest), model)


def _of_version(entry: Entry[VersionRegistered], experiment: int, root: Path) -> Iterator[Row]:
    event, model, run = entry.event, entry.model, _run(entry)
    at, version = int(datetime.fromisoformat(entry.at).timestamp() * 1000), int(event.version)
    logged, folder = f"m-{run}", root / model
    columns = "run_uuid, user_id, artifact_uri, lifecycle_stage, status, start_time, end_time, experiment_id"
    artifacts = str(folder / run / "artifacts")
    yield f"{INTO} runs ({columns})", (run, "airflow", artifacts, "active", "FINISHED", at, at, experiment)
    columns = "model_id, experiment_id, name, artifact_location, creation_timestamp_ms, last_updated_timestamp_ms, status, lifecycle_stage"
    place = str(folder / "models" / logged / "artifacts")
    yield f"{INTO} logged_models ({columns})", (logged, experiment, "model", place, at, at, 2, "active")
    columns = "input_uuid, source_type, source_id, destination_type, destination_id"
    yield f"{INTO} inputs ({columns})", (run, "RUN_OUTPUT", run, "MODEL_OUTPUT", logged)
    columns = "name, version, current_stage, source, run_id, status"
    yield f"{INTO} model_versions ({columns})", (model, version, "None", f"models:/{logged}", run, "READY")
    tags = {
        RUN_TAG: entry.run,
        DATA_TAG: event.data_version,
        AS_OF_TAG: event.as_of,
        DIGEST_TAG: f"d{version}",
        PACKAGE_TAG: f"d{version}",
    }
    for key, value in tags.items():
        yield f"{INTO} model_version_tags (key, value, name, version)", (key, value, model, version)
        yield f"{INTO} tags (key, value, run_uuid)", (key, value, run)


def _write_files(entry: Entry[VersionRegistered], folder: Path) -> None:
    files: dict[str, Any] = {
        "run.yaml": {"run": entry.run, "as_of": entry.event.as_of},
        "params.yaml": {"models": {entry.model: CHURN}},
        "dvc.lock": {},
        "environment.json": {},
        "metrics.json": {},
        "gates.json": {"verdicts": []},
        "snapshot.json": {},
        "validation.json": {},
        "package/manifest.json": {},
    }
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(yaml.safe_dump(content) if file.suffix == ".yaml" else json.dumps(content), encoding="utf-8")
