"""Versions and aliases from MLflow's client, and the errors that say what is wrong with one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.errors import RegistryError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

AS_OF_TAG = "perennial.as_of"


def another_package(name: str, version: str) -> RegistryError:
    return RegistryError(
        f"model {name} version {version}",
        "in MLflow is another package than the one that went live with this number",
        f"deploy a version by its number: `perennial deploy {name} VERSION`",
    )


def refused_package(name: str, registered: ModelVersion, why: str, what: str = "package") -> RegistryError:
    unsigned = f"its {what} is not signed as one that passed its gates here"
    return RegistryError(
        f"model {name} version {registered.version}",
        unsigned if "signed" in why else f"its {what} is damaged, here and in MLflow ({why})",
        f"train it again: `perennial retrain {name} --as-of {registered.tags.get(AS_OF_TAG)}`",
    )


def refused(uri: str, error: Exception) -> RegistryError:
    return RegistryError(f"mlflow {uri}", (str(error) or type(error).__name__).splitlines()[0], "look at MLflow's log")


def model_version(client: MlflowClient, name: str, version: str) -> Any:
    """MLflow's ModelVersion. Raises RegistryError when there is none."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version(name, version)
    except MlflowException as error:
        versions = versions_of(client, name)
        if not versions:
            train = f"train it first: `perennial retrain {name}`"
            raise RegistryError(f"model {name}", "was never trained", train) from error
        raise RegistryError(
            f"model {name}", f"has no version {version}", f"its versions are: {', '.join(versions)}"
        ) from error


def versions_of(client: MlflowClient, name: str) -> list[str]:
    """The numbers of the model's versions, the newest last; none of a model that is not there."""
    # In MLflow's filter a quote would end the name; no model's name has one.
    found = [] if "'" in name else client.search_model_versions(f"name = '{name}'")
    return sorted((str(v.version) for v in found), key=int)


def version_of_alias(client: MlflowClient, name: str, alias: str) -> str | None:
    from mlflow.exceptions import MlflowException

    try:
        registered = client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise RegistryError(f"mlflow model {name}", str(error).splitlines()[0], "look at MLflow's log") from error
    version = registered.aliases.get(alias)
    return None if version is None else str(version)
