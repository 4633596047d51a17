"""The artifacts of a version in MLflow, with their sizes: those of its run, and those of its model."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pipeline.registry.file_client import Folder, folder_of
from pipeline.registry.lookups import model_version
from pipeline.registry.versions import Registry

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

log = logging.getLogger(__name__)

# What the source of a version begins with that is a logged model; the ids of those begin with m-.
LOGGED = "models:/"


def of_run(registry: Registry, name: str, version: str) -> Iterator[tuple[ArtifactRepository | Folder, Any]]:
    """What lies at the top of the version's run, each with where it lies. Raises RegistryError."""
    client = registry.reading()
    yield from of_uri(client.get_run(model_version(client, name, version).run_id).info.artifact_uri)


def of_model(registry: Registry, name: str, version: str) -> Iterator[tuple[ArtifactRepository | Folder, Any]]:
    """What lies at the top of the version's model, each with where it lies. Raises RegistryError."""
    client = registry.reading()
    if model_id := _model_id(model_version(client, name, version)):
        yield from of_uri(client.get_logged_model(model_id).artifact_location)


def _model_id(registered: ModelVersion) -> str:
    """Of the logged model that a version is; '' where it is none. A store in a database keeps it in the version's source alone."""
    source = registered.source or ""
    return registered.model_id or (source.removeprefix(LOGGED) if source.startswith(f"{LOGGED}m-") else "")


def logged_bytes(registry: Registry, name: str, version: str) -> int | None:
    """The size of all of them; None where MLflow does not say, for nothing depends on it but the bill."""
    try:
        found = [*of_run(registry, name, version), *of_model(registry, name, version)]
        return sum(size(where, item) for where, item in found)
    except Exception as error:
        log.warning("the size of version %s of %s in MLflow is not known: %s", version, name, error)
        return None


def size(where: ArtifactRepository | Folder, item: Any) -> int:
    """In bytes, of a file or of all in a folder."""
    if not item.is_dir:
        return int(item.file_size or 0)
    return sum(size(where, inner) for inner in where.list_artifacts(item.path))


def repository(uri: str) -> ArtifactRepository | Folder:
    """Where artifacts lie."""
    folder = folder_of(uri)
    if folder is not None:
        return Folder(folder)
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    return get_artifact_repository(uri)


def of_uri(uri: str) -> Iterator[tuple[ArtifactRepository | Folder, Any]]:
    """What lies at the top there, each with where it lies."""
    found = repository(uri)
    for item in found.list_artifacts():
        yield found, item
