"""MLflow's registered versions: their aliases, and what is fetched back of them. `recording` puts them there.

MLflow is imported inside the functions, so that only the steps that need it wait for it.
"""

from __future__ import annotations

import json
import os
import tempfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from pipeline.errors import RegistryAwayError, RegistryError
from pipeline.settings import yaml_file
from pipeline.settings.environment import Environment
from pipeline.training.signing import SigningKey
from pipeline.workspaces.workspace import RUN_FILE

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHAMPION, CHALLENGER = "champion", "challenger"
RUN_TAG, DATA_TAG, CODE_TAG, AS_OF_TAG, DIGEST_TAG, ORIGIN_TAG, SIGNATURE_TAG = (
    "perennial.run",
    "perennial.data_version",
    "perennial.code_revision",
    "perennial.as_of",
    "perennial.model_digest",
    "perennial.origin",
    "perennial.signature",
)
# What a version was made by, written when it is created and never changed. A backfill's never goes live.
RETRAIN, BACKFILL = "retrain", "backfill"
# The folder of drift reports among a version's artefacts.
REPORTS = "drift"


def _refuse_backfilled(name: str, found: Any) -> None:
    if found.tags.get(ORIGIN_TAG) == BACKFILL:
        raise RegistryError(
            f"model {name}",
            f"version {found.version} was made by a backfill, which never goes live",
            f"`python -m pipeline retrain {name} --as-of {found.tags.get(AS_OF_TAG)}` makes one that may",
        )


def as_of_alias(as_of: datetime) -> str:
    """What a backfill's version is called: asof-2013-06-01, with the time of day when that is not midnight."""
    return f"asof-{as_of:%Y-%m-%d}" + ("" if as_of.time() == time(0) else f"T{as_of:%H%M%S}")


@dataclass(frozen=True)
class Records:
    """What a version needs to be made again: its run.yaml, dvc.lock and params.yaml, its digest and environment."""

    run: dict[str, Any]
    lock: dict[str, Any]
    params: str
    model_digest: str
    environment: dict[str, str]


def artifact_root(home: Path) -> Path:
    return home / "mlflow" / "artifacts"


@dataclass(frozen=True)
class Registry:
    """MLflow at `uri`; what is fetched from it is kept below `home`, and `key` says which packages passed their gates here."""

    home: Path
    uri: str
    key: SigningKey
    airflow: str = ""

    @classmethod
    def of(cls, environment: Environment) -> Registry:
        home = environment.home
        key = SigningKey(home, environment.signing_key, environment.signing_seed)
        return cls(home, environment.mlflow_uri, key, environment.airflow)

    @property
    def artifact_root(self) -> Path:
        """Where MLflow keeps artefacts when this machine is its server."""
        return artifact_root(self.home)

    def client(self) -> MlflowClient:
        """A client that is known to answer. Raises RegistryError in one line instead of retrying for minutes."""
        uri = self.uri
        if uri.startswith("http"):
            try:
                with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=10):
                    pass
            except (urllib.error.URLError, OSError) as error:
                reason = getattr(error, "reason", error)
                raise RegistryAwayError(
                    f"mlflow {uri}", f"does not answer ({reason})", "is it up? `make up` starts it"
                ) from error
        else:
            (self.home / "mlflow").mkdir(parents=True, exist_ok=True)
        import mlflow

        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        mlflow.set_tracking_uri(uri)
        made = self.home / "mlflow" / "made"
        if not uri.startswith("sqlite") or made.exists():
            return mlflow.MlflowClient()
        # Several processes that make MLflow's tables at once break the file for good; that the file is there says nothing.
        with FileLock(self.home / "mlflow" / "made.lock"):
            client = mlflow.MlflowClient()
            client.search_experiments(max_results=1)
            made.touch()
        return client

    def nominate(self, name: str, version: str) -> None:
        """Makes `version` the challenger, unless it is the champion already. Raises RegistryError for a backfill's."""
        client = self.client()
        _refuse_backfilled(name, _get(client, name, version))
        if self.champion(name, client) != version:
            client.set_registered_model_alias(name, CHALLENGER, version)

    def name_as_of(self, name: str, version: str, alias: str) -> None:
        """Gives a backfill's version its alias. Raises RegistryError for any other kind of alias."""
        if not alias.startswith("asof-"):
            raise RegistryError(f"alias {alias}", "is not an as-of", "a backfill is called asof-DATE and nothing else")
        self.client().set_registered_model_alias(name, alias, version)

    def promote(self, name: str, version: str) -> None:
        """Makes `version` the champion; it is a challenger no longer. Raises RegistryError for a backfill's."""
        client = self.client()
        _refuse_backfilled(name, _get(client, name, version))
        client.set_registered_model_alias(name, CHAMPION, version)
        if _alias(client, name, CHALLENGER) == version:
            client.delete_registered_model_alias(name, CHALLENGER)

    def demote(self, name: str) -> None:
        """No version is the champion any more: that of a first rollout that was undone."""
        client = self.client()
        if self.champion(name, client) is not None:
            client.delete_registered_model_alias(name, CHAMPION)

    def champion(self, name: str, client: MlflowClient | None = None) -> str | None:
        """The champion's version, or None."""
        return _alias(client or self.client(), name, CHAMPION)

    def version_facts(self, name: str, version: str) -> dict[str, Any]:
        """{"version", "mlflow_run", "tags", "metrics"} of a version. Raises RegistryError when there is none."""
        client = self.client()
        found = _get(client, name, version)
        run = client.get_run(found.run_id)
        return {
            "version": str(found.version),
            "mlflow_run": found.run_id,
            "tags": dict(found.tags),
            "metrics": dict(run.data.metrics),
        }

    def records(self, name: str, version: str) -> Records:
        """The records of a version. Raises RegistryError when there is no such version or it has none."""
        import mlflow
        from mlflow.exceptions import MlflowException

        client = self.client()
        found = _get(client, name, version)
        with tempfile.TemporaryDirectory() as aside:

            def text(file: str) -> str:
                got = mlflow.artifacts.download_artifacts(run_id=found.run_id, artifact_path=file, dst_path=aside)
                return Path(got).read_text(encoding="utf-8")

            try:
                return Records(
                    yaml_file.parse(text(RUN_FILE)),
                    yaml_file.parse(text("dvc.lock")),
                    text("params.yaml"),
                    found.tags[DIGEST_TAG],
                    json.loads(text("environment.json")),
                )
            except (MlflowException, OSError, KeyError) as error:
                raise RegistryError(
                    f"model {name} version {version}",
                    f"has not all records of its run ({str(error).splitlines()[0]})",
                    f"look at MLflow's run {found.run_id}",
                ) from error

    def package_folder(self, name: str, version: str) -> Path:
        """The package of a version on this machine, fetched from MLflow when it is not here yet."""
        return self._fetched(name, version, "package")

    def deployable_package(self, name: str, version: str) -> Path:
        """The package of a version that may go live. Raises RegistryError for a backfill's, and for one without our signature."""
        found = _get(self.client(), name, version)
        _refuse_backfilled(name, found)
        folder = self.package_folder(name, version)
        if not self.key.verified((folder / "manifest.json").read_bytes(), found.tags.get(SIGNATURE_TAG, "")):
            raise RegistryError(
                f"model {name} version {version}",
                "its package is not signed as one that passed its gates here",
                f"train it again: `python -m pipeline retrain {name} --as-of {found.tags.get(AS_OF_TAG)}`",
            )
        return folder

    def signature(self, name: str, version: str) -> str:
        """The signature of the manifest of a version's package, in hexadecimal; '' when it has none."""
        return _get(self.client(), name, version).tags.get(SIGNATURE_TAG, "")

    def reference_file(self, name: str, version: str) -> Path:
        """The training data sample of a version, with its predictions."""
        return self._fetched(name, version, "reference.parquet")

    def report_file(self, name: str, version: str, report: str) -> Path:
        """A drift report of a version, from MLflow. Raises RegistryError when it is not there."""
        from mlflow.exceptions import MlflowException

        try:
            return self._fetched(name, version, f"{REPORTS}/{report}")
        except (MlflowException, OSError) as error:
            raise RegistryError(
                f"report {report}", "is not among the version's artefacts", "run the monitor"
            ) from error

    def _fetched(self, name: str, version: str, artifact: str) -> Path:
        kept = self.home / "versions" / name / version / artifact
        if kept.exists():
            return kept
        client = self.client()
        found = _get(client, name, version)
        import mlflow

        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as aside:
            got = mlflow.artifacts.download_artifacts(run_id=found.run_id, artifact_path=artifact, dst_path=aside)
            if not kept.exists():
                Path(got).rename(kept)
        return kept


def _get(client: MlflowClient, name: str, version: str) -> Any:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version(name, version)
    except MlflowException as error:
        known = _versions(client, name)
        hint = (
            f"its versions are: {', '.join(known)}" if known else f"train it first: `python -m pipeline retrain {name}`"
        )
        raise RegistryError(
            f"model {name}", f"has no version {version}" if known else "was never trained", hint
        ) from error


def _versions(client: MlflowClient, name: str) -> list[str]:
    return sorted((str(v.version) for v in client.search_model_versions(f"name = '{name}'")), key=int)


def _alias(client: MlflowClient, name: str, alias: str) -> str | None:
    from mlflow.exceptions import MlflowException

    try:
        found = client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise RegistryError(f"mlflow model {name}", str(error).splitlines()[0], "look at MLflow's log") from error
    version = found.aliases.get(alias)
    return None if version is None else str(version)
