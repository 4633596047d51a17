"""What a registered version has beside its package: its tags and figures, what a rebuild needs, and its files in MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import RegistryError
from pipeline.registry.lookups import failures
from pipeline.training import signing

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

    from pipeline.registry.file_client import FileClient


@dataclass(frozen=True)
class Records:
    """What a rebuild of a version needs: its run.yaml, dvc.lock and params.yaml, its digest and environment."""

    run: dict[str, Any]
    lock: dict[str, Any]
    params: str
    model_digest: str
    environment: dict[str, str]
    # What evaluation found, with the search of options.
    evaluation: dict[str, Any]


@dataclass(frozen=True)
class VersionFacts:
    """A version with its tags (the *_TAG constants) and the metrics of its MLflow run."""

    version: str
    mlflow_run: str
    tags: Mapping[str, str]
    metrics: Mapping[str, float]


# The time at which `prune` removed the version's files.
PRUNED_TAG = "perennial.pruned"


def pruned(name: str, registered: ModelVersion) -> RegistryError:
    """The error of a version whose files were pruned."""
    return RegistryError(
        f"model {name} version {registered.version}",
        f"was pruned at {registered.tags[PRUNED_TAG]}, by keep.versions of params.yaml: its package and data are gone",
        f"train it anew: `perennial retrain {name} --as-of {registered.tags.get('perennial.as_of', 'TIME')}`",
    )


def download(
    client: MlflowClient | FileClient, name: str, registered: ModelVersion, artifact: str, folder: Path
) -> Path:
    """Fetches an artifact of a version into `folder`. Raises RegistryError when MLflow does not have it."""
    run = registered.run_id or ""
    if PRUNED_TAG in registered.tags:
        raise pruned(name, registered)
    folder.mkdir()
    try:
        return Path(client.download_artifacts(run, artifact, str(folder)))
    except (*failures(), OSError) as error:
        raise RegistryError(
            f"model {name} version {registered.version}",
            f"its {artifact} cannot be fetched ({str(error).splitlines()[0]})",
            f"look at MLflow's run {run}; a deleted one comes back with `mlflow runs restore --run-id {run}`",
        ) from error


def has_digest(file: Path, digest: str) -> bool:
    """Whether the file is there, and is the one with this sha256; '' is any one: an older version has no tag with it."""
    return file.is_file() and digest in ("", signing.digest(file))
