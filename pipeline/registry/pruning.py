"""What `prune` asks of MLflow and removes there: a version's large files. Its run, tags, metrics and small records stay."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from pipeline.errors import RegistryError
from pipeline.registry import artifacts, judged
from pipeline.registry.lookups import refused
from pipeline.registry.packages import PACKAGE
from pipeline.registry.records import PRUNED_TAG
from pipeline.registry.versions import REFERENCE, Registry

if TYPE_CHECKING:
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

# Of a run's artifacts. What `reproduce` and `trace` read of it stays: it is some kilobytes.
LARGE = (PACKAGE, REFERENCE, judged.FOLDER, "quarantine.parquet")


def named_versions(registry: Registry, name: str) -> dict[str, str]:
    """The versions that an alias names, with it; not those of a backfill, which all have one. Raises RegistryError."""
    from mlflow.exceptions import MlflowException

    try:
        aliases = registry.client().get_registered_model(name).aliases
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return {}
        raise RegistryError(f"mlflow model {name}", str(error).splitlines()[0], "look at MLflow's log") from error
    return {str(version): alias for alias, version in aliases.items() if not alias.startswith("asof-")}


def large_files(registry: Registry, name: str, version: str) -> list[tuple[str, int]]:
    """The large artifacts of a version that are there, each with its size in bytes. Raises RegistryError."""
    with _reported(registry):
        return [(path, size) for _, path, size in _found(registry, name, version)]


def remove(registry: Registry, name: str, version: str, at: datetime) -> list[tuple[str, int]]:
    """Removes the large artifacts of a version, and returns them. From its first moment on nobody can deploy the version."""
    removed = []
    with _reported(registry):
        registry.client().set_model_version_tag(name, version, PRUNED_TAG, f"{at:%Y-%m-%dT%H:%M:%SZ}")
        for repository, path, size in _found(registry, name, version):
            repository.delete_artifacts(path)
            removed.append((path, size))
    return removed


@contextmanager
def _reported(registry: Registry) -> Iterator[None]:
    """Raises RegistryError for what MLflow, or the store of its artifacts, does not do."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        raise refused(registry.uri, error) from error


def _found(registry: Registry, name: str, version: str) -> Iterator[tuple[ArtifactRepository, str, int]]:
    for repository, item in artifacts.of_run(registry, name, version):
        if item.path in LARGE:
            yield repository, item.path, artifacts.size(repository, item)
    for repository, item in artifacts.of_model(registry, name, version):
        yield repository, item.path, artifacts.size(repository, item)
