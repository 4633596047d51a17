"""What `prune` asks of MLflow and removes there: a version's large files, all but the small records of a run that made no version, and
old pages of looks. The runs, their tags, metrics and small records stay."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pipeline.errors import RegistryError
from pipeline.registry import artifacts, judged
from pipeline.registry.file_client import FileClient, Folder
from pipeline.registry.lookups import failures, is_missing, refused
from pipeline.registry.packages import PACKAGE
from pipeline.registry.records import PRUNED_TAG
from pipeline.registry.versions import REFERENCE, REPORTS, RUN_TAG, Registry

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

# Of a run's artifacts. What `reproduce` and `trace` read of it stays: it is some kilobytes.
LARGE = (PACKAGE, REFERENCE, judged.FOLDER, "quarantine.parquet")
# Of a run that made no version these stay: why it was refused, by which settings, code and data.
SMALL = ("gates.json", "run.yaml", "params.yaml", "dvc.lock", "metrics.json", "validation.json", "snapshot.json")


def named_versions(registry: Registry, name: str) -> dict[str, str]:
    """The versions that an alias names, with it; not those of a backfill, which all have one. Raises RegistryError."""
    try:
        aliases = registry.reading().get_registered_model(name).aliases
    except failures() as error:
        if is_missing(error):
            return {}
        raise RegistryError(f"mlflow model {name}", str(error).splitlines()[0], "look at MLflow's log") from error
    return {str(version): alias for alias, version in aliases.items() if not alias.startswith("asof-")}


def large_files(registry: Registry, name: str, versions: Collection[str]) -> list[tuple[str, int]]:
    """The large artifacts of versions that are there, each with its size in bytes. Raises RegistryError."""
    with _reported(registry):
        client = registry.reading()
        places = client.places(name) if versions and isinstance(client, FileClient) else {}
        return [
            (path, size)
            for version in versions
            for _, path, size in (
                _large(*map(artifacts.of_uri, places[version]))
                if version in places
                else _found(registry, name, version)
            )
        ]


def remove(registry: Registry, name: str, version: str, at: datetime) -> list[tuple[str, int]]:
    """Removes the large artifacts of a version, and returns them. From its first moment on nobody can deploy the version."""
    removed = []
    with _reported(registry):
        registry.client().set_model_version_tag(name, version, PRUNED_TAG, f"{at:%Y-%m-%dT%H:%M:%SZ}")
        for repository, path, size in _found(registry, name, version):
            repository.delete_artifacts(path)
            removed.append((path, size))
    return removed


def refused_runs(registry: Registry, name: str, before: datetime, made: Collection[str]) -> list[Run]:
    """The MLflow runs of a model that ended before that time without a version and still have their artifacts.

    Not the MLflow runs in `made`, by their ids: a version that was deleted in MLflow may be live.
    Raises RegistryError.
    """
    with _reported(registry):
        client = registry.reading()
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            return []
        runs = _without_version(client, name, experiment.experiment_id, int(before.timestamp() * 1000))
        return [run for run in runs if run.info.run_id not in made and _may_go(run, before)]


def _without_version(client: MlflowClient | FileClient, name: str, experiment: str, before_ms: int) -> list[Any]:
    if isinstance(client, FileClient):
        return client.runs_without_version(name, experiment, before_ms)
    with_version = {version.run_id for version in _all(client.search_model_versions, f"name = '{name}'")}
    runs = _all(client.search_runs, [experiment], f"attributes.start_time < {before_ms}")
    return [run for run in runs if run.info.run_id not in with_version]


def _may_go(run: Run, before: datetime) -> bool:
    ended = (run.info.end_time or run.info.start_time) / 1000
    # Recorded again since, in the same run, it has artifacts again.
    pruned_to = float(run.data.tags.get(PRUNED_TAG, "0"))
    # One without the tag is a person's own.
    return RUN_TAG in run.data.tags and pruned_to < ended < before.timestamp()


def run_of(run: Run) -> str:
    """The ledger's name of the run that recorded it."""
    return str(run.data.tags[RUN_TAG])


def refused_files(registry: Registry, run: Run) -> list[tuple[str, int]]:
    """What would go of such a run, each with its size in bytes. Raises RegistryError."""
    with _reported(registry):
        return [(path, size) for _, path, size in _of_refused(registry, run)]


def remove_refused(registry: Registry, run: Run, at: datetime) -> list[tuple[str, int]]:
    """Removes the artifacts of such a run but for its small records, and returns them. It is noted once all are gone."""
    removed = []
    with _reported(registry):
        for repository, path, size in _of_refused(registry, run):
            repository.delete_artifacts(path)
            removed.append((path, size))
        registry.client().set_tag(run.info.run_id, PRUNED_TAG, f"{at.timestamp():.3f}")
    return removed


def _of_refused(registry: Registry, run: Run) -> Iterator[tuple[ArtifactRepository | Folder, str, int]]:
    for repository, item in artifacts.of_uri(run.info.artifact_uri):
        if item.path not in SMALL:
            yield repository, item.path, artifacts.size(repository, item)
    # A register step that was killed has logged its model.
    outputs = registry.reading().get_run(run.info.run_id).outputs
    for made in outputs.model_outputs if outputs else ():
        for repository, item in artifacts.of_uri(registry.reading().get_logged_model(made.model_id).artifact_location):
            yield repository, item.path, artifacts.size(repository, item)


def pages(registry: Registry, name: str) -> Iterator[tuple[ArtifactRepository | Folder, Mapping[str, Any]]]:
    """The pages of looks that a server keeps with each version: where they lie, and the items by the pages' names. Raises RegistryError."""
    with _reported(registry):
        client = registry.reading()
        for version in _all(client.search_model_versions, f"name = '{name}'"):
            repository = artifacts.repository(client.get_run(version.run_id).info.artifact_uri)
            listed = {item.path.removeprefix(f"{REPORTS}/"): item for item in repository.list_artifacts(REPORTS)}
            if listed:
                yield repository, listed


def _all(search: Callable[..., Any], *asked: Any) -> Iterator[Any]:
    """All that MLflow finds, page by page."""
    token: str | None = None
    while True:
        page = search(*asked, page_token=token)
        yield from page
        token = page.token or None
        if token is None:
            return


@contextmanager
def _reported(registry: Registry) -> Iterator[None]:
    """Raises RegistryError for what MLflow, or the store of its artifacts, does not do."""
    try:
        yield
    except failures() as error:
        raise refused(registry.uri, error) from error


def _found(registry: Registry, name: str, version: str) -> Iterator[tuple[ArtifactRepository | Folder, str, int]]:
    yield from _large(artifacts.of_run(registry, name, version), artifacts.of_model(registry, name, version))


def _large(
    of_run: Iterable[tuple[ArtifactRepository | Folder, Any]],
    of_model: Iterable[tuple[ArtifactRepository | Folder, Any]] = (),
) -> Iterator[tuple[ArtifactRepository | Folder, str, int]]:
    for repository, item in of_run:
        if item.path in LARGE:
            yield repository, item.path, artifacts.size(repository, item)
    for repository, item in of_model:
        yield repository, item.path, artifacts.size(repository, item)
