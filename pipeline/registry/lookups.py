"""Versions and aliases from MLflow's client, and the errors that say what is wrong with one."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from pipeline.errors import RegistryError
from pipeline.registry.file_client import NotThereError
from pipeline.registry.held import NOT_THERE

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

    from pipeline.registry.file_client import FileClient

AS_OF_TAG = "perennial.as_of"


def another_package(name: str, version: str) -> RegistryError:
    """For a number that MLflow gave anew: what went live under it is gone from there."""
    return RegistryError(
        f"model {name} version {version}",
        "in MLflow is another package than the one that went live with this number",
        f"deploy a version by its number: `perennial deploy {name} VERSION`",
    )


def refused_package(name: str, registered: ModelVersion, why: str, what: str = "package") -> RegistryError:
    """`why` is what the check of the package or, by `what`, of another file of it found: no signature of this
    installation, or other bytes."""
    unsigned = f"its {what} is not signed as one that passed its gates here"
    return RegistryError(
        f"model {name} version {registered.version}",
        unsigned if "signed" in why else f"its {what} is damaged, here and in MLflow ({why})",
        f"train it again: `perennial retrain {name} --as-of {registered.tags.get(AS_OF_TAG)}`",
    )


def refused(uri: str, error: Exception) -> RegistryError:
    """`uri` must have no password: it is shown."""
    return RegistryError(f"mlflow {uri}", (str(error) or type(error).__name__).splitlines()[0], "look at MLflow's log")


def failures() -> tuple[type[Exception], type[Exception]]:
    """What a client raises. MLflow, which takes a second to import, has raised nothing as long as it is not imported."""
    of_mlflow: type[Exception] = getattr(sys.modules.get("mlflow.exceptions"), "MlflowException", NotThereError)
    return NotThereError, of_mlflow


def is_missing(error: Exception) -> bool:
    """Whether a client says that there is no such thing."""
    return getattr(error, "error_code", "") == NOT_THERE


def model_version(client: MlflowClient | FileClient, name: str, version: str) -> Any:
    """MLflow's ModelVersion. Raises RegistryError when there is none."""
    try:
        return client.get_model_version(name, version)
    except failures() as error:
        versions = versions_of(client, name)
        if not versions:
            train = f"train it first: `perennial retrain {name}`"
            raise RegistryError(f"model {name}", "was never trained", train) from error
        raise RegistryError(
            f"model {name}", f"has no version {version}", f"its versions are: {', '.join(versions)}"
        ) from error


def versions_of(client: MlflowClient | FileClient, name: str) -> list[str]:
    """The numbers of the model's versions, the newest last; none of a model that is not there."""
    # In MLflow's filter a quote would end the name; no model's name has one.
    found: list[Any] = [] if "'" in name else client.search_model_versions(f"name = '{name}'")
    return sorted((str(v.version) for v in found), key=int)


def version_of_alias(client: MlflowClient | FileClient, name: str, alias: str) -> str | None:
    """None for a model or an alias that is not there. Raises RegistryError where MLflow does not answer."""
    try:
        registered = client.get_registered_model(name)
    except failures() as error:
        if is_missing(error):
            return None
        raise RegistryError(f"mlflow model {name}", str(error).splitlines()[0], "look at MLflow's log") from error
    version = registered.aliases.get(alias)
    return None if version is None else str(version)
