"""MLflow's store in a file, read with the calls of MLflow's client, without its import, which takes more than a second.

Only what our readers ask is there, and nothing is written. It knows artifacts on this disk alone; for all else there is MLflow.
"""

from __future__ import annotations

import functools
import math
import os
import re
import shutil
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pipeline.registry.held import NOT_THERE
from pipeline.registry.held_file import GONE, HERE, Database

SCHEME = "sqlite:///"
# For who writes the store now: what is asked here has to be known, as by MLflow's client.
WAIT_S = 60.0
BY_NAME = re.compile(r"name = '([^']*)'")


class NotThereError(Exception):
    """What the store does not have, told as MLflow's own exception tells it."""

    error_code = NOT_THERE


class Found(list[Any]):
    """All that a search found, as one page of MLflow's."""

    token = None


@dataclass(frozen=True)
class Version:
    """A registered version, with the names of MLflow's ModelVersion; `model_id` stands in its source."""

    name: str
    version: str
    run_id: str
    source: str
    tags: Mapping[str, str]
    model_id: None = None


@dataclass(frozen=True)
class Aliased:
    """A registered model."""

    aliases: Mapping[str, str]


@dataclass(frozen=True)
class Experiment:
    """`lifecycle_stage` is active or deleted."""

    experiment_id: str
    lifecycle_stage: str


@dataclass(frozen=True)
class Info:
    """Of a run; times are milliseconds since 1970."""

    run_id: str
    artifact_uri: str
    lifecycle_stage: str
    start_time: int
    end_time: int | None


@dataclass(frozen=True)
class Data:
    """Of a run: its newest metrics, and params as the texts that were logged."""

    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    params: Mapping[str, str]


@dataclass(frozen=True)
class Made:
    """A logged model that a run made."""

    model_id: str


@dataclass(frozen=True)
class Outputs:
    """The logged models that a run made."""

    model_outputs: list[Made] = field(default_factory=list)


@dataclass(frozen=True)
class Run:
    """A run, in the parts of MLflow's own class."""

    info: Info
    data: Data
    outputs: Outputs


@dataclass(frozen=True)
class LoggedModel:
    """`artifact_location` is a path or URI."""

    artifact_location: str


@dataclass(frozen=True)
class Item:
    """A file or folder among artifacts, by its path there; `file_size` in bytes, None of a folder."""

    path: str
    is_dir: bool
    file_size: int | None


def of(home: Path, uri: str) -> FileClient | None:
    """What reads the store at `uri`, where that is a file whose tables MLflow made for this `home`; None for MLflow to read it."""
    if not uri.startswith(SCHEME):
        return None
    file, made = Path(uri.removeprefix(SCHEME)), home / "mlflow" / "made"
    try:
        if made.read_text(encoding="utf-8") != str(home):
            return None
        state = file.stat()
    except OSError:
        return None
    return _kept(file, state.st_dev, state.st_ino, os.getpid(), threading.get_ident())


@functools.lru_cache(maxsize=8)
def _kept(file: Path, *_of: int) -> FileClient:
    """One a file, process and thread: SQLite's connections are of one thread, none survives a fork, and to open one takes milliseconds."""
    return FileClient(Database(file, WAIT_S))


def folder_of(uri: str) -> Path | None:
    """The folder of artifacts at an address; None where it is not on this disk."""
    address = urlsplit(uri)
    if address.scheme not in ("", "file") or address.netloc not in ("", "localhost"):
        return None
    return Path(unquote(address.path) if address.scheme else uri)


@dataclass(frozen=True)
class Folder:
    """Artifacts in a folder, with the calls of MLflow's ArtifactRepository."""

    folder: Path

    def list_artifacts(self, path: str | None = None) -> list[Item]:
        at = self.folder / (path or "")
        found = sorted(at.iterdir()) if at.is_dir() else []
        return [
            Item(
                each.relative_to(self.folder).as_posix(), each.is_dir(), None if each.is_dir() else each.stat().st_size
            )
            for each in found
        ]

    def delete_artifacts(self, path: str) -> None:
        at = self.folder / path
        if at.is_dir():
            shutil.rmtree(at)
        else:
            at.unlink(missing_ok=True)


@dataclass(frozen=True)
class FileClient:
    """Raises NotThereError for what is not there, and RegistryAwayError for a file that cannot be read."""

    store: Database
    # What was read of all runs, by the state of the store that it is of.
    _read: dict[int, tuple[dict[str, list[tuple[str, int]]], dict[str, set[str]]]] = field(
        default_factory=dict, repr=False, compare=False
    )

    def get_registered_model(self, name: str) -> Aliased:
        aliases = self.store.aliases(name)
        if aliases is None:
            raise NotThereError(f"Registered Model with name={name} not found")
        return Aliased(aliases)

    def get_model_version(self, name: str, version: str) -> Version:
        found = [each for each in self._versions(name, version) if each.version == str(version)]
        if not found:
            raise NotThereError(f"Model Version (name={name}, version={version}) not found")
        return found[0]

    def search_model_versions(self, filter_string: str, page_token: str | None = None) -> Found:
        """Takes `name = '…'` alone."""
        named = BY_NAME.fullmatch(filter_string)
        if named is None:
            raise ValueError(f"{filter_string!r} is not asked of a file")
        return Found(self._versions(named[1]))

    def _versions(self, name: str, version: str = "") -> list[Version]:
        only, values = (" AND version = ?", (version,)) if version else ("", ())
        tags: dict[str, dict[str, str]] = {}
        for number, key, value in self.store.rows(
            f"SELECT version, key, value FROM model_version_tags WHERE {HERE} AND name = ?{only}", name, *values
        ):
            tags.setdefault(str(number), {})[key] = value
        query = (
            f"SELECT version, run_id, source FROM model_versions WHERE {HERE} AND name = ? AND current_stage != ?{only}"
        )
        rows = self.store.rows(f"{query} ORDER BY version DESC", name, GONE, *values)
        return [Version(name, str(n), run or "", source or "", tags.get(str(n), {})) for n, run, source in rows]

    def get_experiment_by_name(self, name: str) -> Experiment | None:
        found = self.store.experiment(name)
        return Experiment(*found) if found is not None else None

    def get_run(self, run: str) -> Run:
        found = self._runs("run_uuid = ?", run)
        if not found:
            raise NotThereError(f"Run with id={run} not found")
        return found[0]

    def runs_without_version(self, name: str, experiment: str, before_ms: int) -> list[Run]:
        """The runs of a model's experiment that began before that time, are not deleted, and made none of its versions.

        The store has no index of an experiment's runs: those of all are read at once, and again when something was written.
        """
        state = self.store.state
        if state not in self._read:
            self._read.clear()
            self._read[state] = self._began_and_made()
        began, made = self._read[state]
        return [
            self.get_run(run)
            for run, at in began.get(str(experiment), ())
            if at < before_ms and run not in made.get(name, ())
        ]

    def _began_and_made(self) -> tuple[dict[str, list[tuple[str, int]]], dict[str, set[str]]]:
        """By experiment the runs that are not deleted, each with its start in ms since 1970; by model the runs of its versions."""
        began: dict[str, list[tuple[str, int]]] = {}
        active = "lifecycle_stage = 'active' AND start_time IS NOT NULL"
        for experiment, *run in self.store.rows(f"SELECT experiment_id, run_uuid, start_time FROM runs WHERE {active}"):
            began.setdefault(str(experiment), []).append(tuple(run))
        made: dict[str, set[str]] = {}
        query = f"SELECT name, run_id FROM model_versions WHERE {HERE} AND current_stage != ?"
        for name, run in self.store.rows(query, GONE):
            made.setdefault(name, set()).add(run)
        return began, made

    def places(self, name: str) -> dict[str, list[str]]:
        """Where the artifacts of each version of a model lie whose run is there: those of the run, then those of its logged model. In one
        query, for a model of years has hundreds."""
        # A version's source is models:/ and the id.
        places = self.store.rows(
            "SELECT version, artifact_uri, artifact_location FROM model_versions JOIN runs ON run_uuid = run_id "
            f"LEFT JOIN logged_models ON model_id = substr(source, 9) WHERE {HERE} AND model_versions.name = ? AND current_stage != ?",
            name,
            GONE,
        )
        return {str(version): [place for place in of if place] for version, *of in places}

    def _runs(self, where: str, *values: str | int) -> list[Run]:
        columns = "run_uuid, artifact_uri, lifecycle_stage, start_time, end_time"
        return [
            Run(Info(*row), self._data(row[0]), self._made_by(row[0]))
            for row in self.store.rows(f"SELECT {columns} FROM runs WHERE {where}", *values)
        ]

    def _data(self, run: str) -> Data:
        tags, params = (
            dict(self.store.rows(f"SELECT key, value FROM {table} WHERE run_uuid = ?", run))
            for table in ("tags", "params")
        )
        metrics = self.store.rows("SELECT key, value, is_nan FROM latest_metrics WHERE run_uuid = ?", run)
        return Data(tags, {key: math.nan if is_nan else value for key, value, is_nan in metrics}, params)

    def _made_by(self, run: str) -> Outputs:
        of = "source_type = 'RUN_OUTPUT' AND destination_type = 'MODEL_OUTPUT' AND source_id = ?"
        return Outputs(
            [Made(each) for (each,) in self.store.rows(f"SELECT destination_id FROM inputs WHERE {of}", run)]
        )

    def get_logged_model(self, model_id: str) -> LoggedModel:
        found = self.store.rows("SELECT artifact_location FROM logged_models WHERE model_id = ?", model_id)
        if not found:
            raise NotThereError(f"Logged model with id={model_id} not found")
        return LoggedModel(found[0][0])

    def list_artifacts(self, run: str, path: str | None = None) -> list[Item]:
        folder = self._artifacts(run)
        return Folder(folder).list_artifacts(path) if folder is not None else self._mlflow().list_artifacts(run, path)

    def download_artifacts(self, run: str, path: str, folder: str) -> str:
        """Copies an artifact to its path in the folder, and returns where it is."""
        here = self._artifacts(run)
        if here is None:
            return str(self._mlflow().download_artifacts(run, path, folder))
        source, copied = here / path, Path(folder) / path
        if not source.exists():
            raise NotThereError(f"No such artifact: {path!r}")
        copied.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, copied, dirs_exist_ok=True)
        else:
            shutil.copy2(source, copied)
        return str(copied)

    def _artifacts(self, run: str) -> Path | None:
        """The folder of a run's artifacts; None where they are not on this disk."""
        found = self.store.rows("SELECT artifact_uri FROM runs WHERE run_uuid = ?", run)
        if not found:
            raise NotThereError(f"Run with id={run} not found")
        return folder_of(found[0][0])

    def _mlflow(self) -> Any:
        import mlflow

        return mlflow.MlflowClient(tracking_uri=f"{SCHEME}{self.store.file}")
