"""The artifacts of a version in MLflow, with their sizes: those of its run, and those of its model."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pipeline.registry.lookups import model_version
from pipeline.registry.versions import Registry

if TYPE_CHECKING:
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

log = logging.getLogger(__name__)


def of_run(registry: Registry, name: str, version: str) -> Iterator[tuple[ArtifactRepository, Any]]:
    """What lies at the top of the version's run, each with where it lies. Raises RegistryError."""
    client = registry.client()
    yield from of_uri(client.get_run(model_version(client, name, version).run_id).info.artifact_uri)


def of_model(registry: Registry, name: str, version: str) -> Iterator[tuple[ArtifactRepository, Any]]:
    """What lies at the top of the version's model, each with where it lies. Raises RegistryError."""
    client = registry.client()
    if model_id := model_version(client, name, version).model_id:
        yield from of_uri(client.get_logged_model(model_id).artifact_location)


def logged_bytes(registry: Registry, name: str, version: str) -> int | None:
    """The size of all of them; None where MLflow does not say, for nothing depends on it but the bill."""
    try:
        found = [*of_run(registry, name, version), *of_model(registry, name, version)]
        return sum(size(where, item) for where, item in found)
    except Exception as error:
        log.warning("the size of version %s of %s in MLflow is not known: %s", version, name, error)
        return None


def size(where: ArtifactRepository, item: Any) -> int:
    """In bytes, of a file or of all in a folder."""
    if not item.is_dir:
        return int(item.file_size or 0)
    return sum(size(where, inner) for inner in where.list_artifacts(item.path))


def repository(uri: str) -> ArtifactRepository:
    """Where artifacts lie."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    return get_artifact_repository(uri)


def of_uri(uri: str) -> Iterator[tuple[ArtifactRepository, Any]]:
    """What lies at the top there, each with where it lies."""
    found = repository(uri)
    for item in found.list_artifacts():
        yield found, item
