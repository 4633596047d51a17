"""What MLflow holds of a version that is live: facts, which nobody has judged yet.

A server is asked by its REST API: the import of MLflow takes seconds, and its client repeats a call for minutes when nobody
answers. A store in a file is read through MLflow's client.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.errors import RegistryAwayError

if TYPE_CHECKING:
    from mlflow import MlflowClient

DELETED, MISSING = "deleted", "missing"
# MLflow's word for what there is not.
NOT_THERE = "RESOURCE_DOES_NOT_EXIST"
LIMIT_S = 2.0


@dataclass(frozen=True)
class Held:
    """`champion` is the alias's version, None without one. `run` and `experiment` are ids.

    `run_state` and `experiment_state` are MLflow's `active` or `deleted`, or `missing`. `is_another` says that the version with this
    number is another package.
    """

    has_model: bool = False
    has_version: bool = False
    champion: str | None = None
    is_another: bool = False
    run: str = ""
    run_state: str = MISSING
    experiment: str = ""
    experiment_state: str = MISSING


class Reader(Protocol):
    """MLflow; each call returns None for what there is not."""

    def aliases(self, name: str) -> Mapping[str, str] | None:
        """The versions of the registered model's aliases, by alias."""

    def version(self, name: str, version: str) -> tuple[Mapping[str, str], str] | None:
        """(the tags of the version, the id of its run)."""

    def run_state(self, run: str) -> str | None:
        """MLflow's lifecycle stage of a run."""

    def experiment(self, name: str) -> tuple[str, str] | None:
        """(the id, the lifecycle stage) of an experiment."""


def held(reader: Reader, name: str, version: str, is_another: Callable[[Mapping[str, str]], bool]) -> Held:
    """The facts on the model's version; `is_another` judges by its tags. Raises RegistryAwayError."""
    aliases = reader.aliases(name)
    found = reader.version(name, version) if aliases is not None else None
    tags, run = found if found is not None else ({}, "")
    experiment, state = reader.experiment(name) or ("", MISSING)
    return Held(
        aliases is not None,
        found is not None,
        (aliases or {}).get("champion"),
        found is not None and is_another(tags),
        run,
        (reader.run_state(run) if run else None) or MISSING,
        experiment,
        state,
    )


@dataclass(frozen=True)
class Rest:
    """A server of MLflow at `uri`, asked once."""

    uri: str

    def aliases(self, name: str) -> Mapping[str, str] | None:
        found = self._get("registered-models/get", "registered_model", name=name)
        return None if found is None else {a["alias"]: str(a["version"]) for a in found.get("aliases", ())}

    def version(self, name: str, version: str) -> tuple[Mapping[str, str], str] | None:
        found = self._get("model-versions/get", "model_version", name=name, version=version)
        return None if found is None else ({t["key"]: t["value"] for t in found.get("tags", ())}, found["run_id"])

    def run_state(self, run: str) -> str | None:
        found = self._get("runs/get", "run", run_id=run)
        return None if found is None else found["info"]["lifecycle_stage"]

    def experiment(self, name: str) -> tuple[str, str] | None:
        found = self._get("experiments/get-by-name", "experiment", experiment_name=name)
        return None if found is None else (found["experiment_id"], found["lifecycle_stage"])

    def _get(self, what: str, part: str, **query: str) -> Any:
        # httpx takes a tenth of a second to import, and most commands ask MLflow nothing.
        import httpx

        url = f"{self.uri.rstrip('/')}/api/2.0/mlflow/{what}"
        try:
            answer = httpx.get(url, params=query, timeout=LIMIT_S, verify=url.startswith("https:"))
            if answer.status_code == 404 and answer.json().get("error_code") == NOT_THERE:
                return None
            answer.raise_for_status()
            return answer.json()[part]
        except (httpx.HTTPError, ValueError, KeyError, TypeError, AttributeError) as error:
            why = (str(error) or type(error).__name__).splitlines()[0]
            raise RegistryAwayError(f"mlflow {self.uri}", f"does not answer ({why})", "start it: `make up`") from error


@dataclass(frozen=True)
class Client:
    """A store that MLflow's client reads."""

    client: MlflowClient

    def aliases(self, name: str) -> Mapping[str, str] | None:
        found = _found(lambda: self.client.get_registered_model(name))
        return None if found is None else {alias: str(version) for alias, version in found.aliases.items()}

    def version(self, name: str, version: str) -> tuple[Mapping[str, str], str] | None:
        found = _found(lambda: self.client.get_model_version(name, version))
        return None if found is None else (found.tags, found.run_id)

    def run_state(self, run: str) -> str | None:
        found = _found(lambda: self.client.get_run(run))
        return None if found is None else found.info.lifecycle_stage

    def experiment(self, name: str) -> tuple[str, str] | None:
        found = self.client.get_experiment_by_name(name)
        return None if found is None else (found.experiment_id, found.lifecycle_stage)


def _found(get: Callable[[], Any]) -> Any:
    from mlflow.exceptions import MlflowException

    try:
        return get()
    except MlflowException as error:
        if error.error_code == NOT_THERE:
            return None
        raise RegistryAwayError("mlflow", str(error).splitlines()[0], "look at MLflow's log") from error
