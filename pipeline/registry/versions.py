"""MLflow's registered versions: their aliases, and the files fetched from them. record.py creates them.

MLflow is imported inside the functions: its import is slow, and most steps do not need it.
"""

from __future__ import annotations

import json
import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import BaseFileLock, FileLock

from pipeline.errors import RegistryAwayError, RegistryError
from pipeline.ledger import chain
from pipeline.ledger.chain import Anchor, Head
from pipeline.registry import file_client, held, moved_store, packages
from pipeline.registry.held import Client, Held, Reader, Rest
from pipeline.registry.held_file import Database
from pipeline.registry.lookups import (
    AS_OF_TAG,
    another_package,
    failures,
    model_version,
    refused,
    refused_package,
    version_of_alias,
)
from pipeline.registry.records import PRUNED_TAG, Records, VersionFacts, download, has_digest, pruned
from pipeline.settings import yaml_file
from pipeline.settings.environment import Environment
from pipeline.training.signing import SigningKey

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

    from pipeline.serving.runtime import Runtime

CHAMPION, CHALLENGER = "champion", "challenger"
RUN_TAG, DATA_TAG, CODE_TAG = "perennial.run", "perennial.data_version", "perennial.code_revision"
DIGEST_TAG, PACKAGE_TAG, REFERENCE_TAG = (
    "perennial.model_digest",
    "perennial.package_digest",
    "perennial.reference_digest",
)
ORIGIN_TAG, SIGNATURE_TAG, LEDGER_TAG = "perennial.origin", "perennial.signature", "perennial.ledger_head"
# A version's origin, written when it is created and never changed. A backfill's version never goes live.
RETRAIN, BACKFILL = "retrain", "backfill"
# The folder of drift reports among a version's artifacts.
REPORTS = "drift"
REFERENCE = "reference.parquet"


def _refuse_backfilled(name: str, version: ModelVersion) -> None:
    if version.tags.get(ORIGIN_TAG) == BACKFILL:
        raise RegistryError(
            f"model {name}",
            f"version {version.version} was made by a backfill, which never goes live",
            f"train one that may: `perennial retrain {name} --as-of {version.tags.get(AS_OF_TAG)}`",
        )


def as_of_alias(as_of: datetime) -> str:
    """The alias of a backfill's version: asof-2013-06-01, with the time of day unless that is midnight."""
    return f"asof-{as_of:%Y-%m-%d}" + ("" if as_of.time() == time(0) else f"T{as_of:%H%M%S}")


def artifact_root(home: Path) -> Path:
    """Where MLflow keeps artifacts on one machine; a server has a bucket instead."""
    return home / "mlflow" / "artifacts"


def own_store(home: Path) -> str:
    """The address of MLflow's own store in `home`, which this machine's server serves."""
    return f"sqlite:///{home / 'mlflow' / 'mlflow.db'}"


def making_tables(home: Path) -> BaseFileLock:
    """The lock under which MLflow's tables are made: processes that do it at the same time break the file for good."""
    (home / "mlflow").mkdir(parents=True, exist_ok=True)
    return FileLock(home / "mlflow" / "made.lock")


@dataclass(frozen=True)
class Registry:
    """MLflow at `uri`. Fetched files are stored below `home`; `key` signs the packages that passed their gates."""

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
        """Where MLflow keeps artifacts when this machine is its server."""
        return artifact_root(self.home)

    @property
    def is_new(self) -> bool:
        """Whether this machine's own store was not made yet, so that it has no version."""
        return self.uri.startswith("sqlite:///") and not Path(self.uri.removeprefix("sqlite:///")).exists()

    def check_answers(self) -> None:
        """Raises RegistryAwayError where the server of MLflow does not answer: at once, where MLflow would retry for minutes."""
        if not self.uri.startswith("http"):
            return
        try:
            with urllib.request.urlopen(f"{self.uri.rstrip('/')}/health", timeout=10):
                pass
        except (urllib.error.URLError, OSError) as error:
            reason = getattr(error, "reason", error)
            raise RegistryAwayError(
                f"mlflow {self.uri}", f"does not answer ({reason})", "start it: `make up`"
            ) from error

    def client(self) -> MlflowClient:
        """A client of a server that answers. Raises RegistryAwayError."""
        uri = self.uri
        self.check_answers()
        if not uri.startswith("http"):
            (self.home / "mlflow").mkdir(parents=True, exist_ok=True)
        import mlflow

        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        mlflow.set_tracking_uri(uri)
        if not uri.startswith("sqlite:///"):
            return mlflow.MlflowClient()
        # Its content is the home for which the store was made: a moved one has to follow.
        tables_exist = self.home / "mlflow" / "made"
        if tables_exist.is_file() and tables_exist.read_text(encoding="utf-8") == str(self.home):
            return mlflow.MlflowClient()
        # The file exists before its tables.
        with making_tables(self.home):
            client = mlflow.MlflowClient()
            client.search_experiments(max_results=1)
            if uri == own_store(self.home):
                moved_store.follow(self.home / "mlflow" / "mlflow.db", self.artifact_root)
            tables_exist.write_text(str(self.home), encoding="utf-8")
        return client

    def reading(self) -> Any:
        """What reads MLflow as its client does: the store's own file, where it is on this machine. Raises RegistryAwayError."""
        return file_client.of(self.home, self.uri) or self.client()

    def check_experiment(self, name: str) -> None:
        """Raises RegistryError when the model's experiment was deleted. While MLflow is away it is not checked."""
        if self.is_new:
            return
        try:
            experiment = self.reading().get_experiment_by_name(name)
        except RegistryAwayError:
            return
        if experiment is not None and experiment.lifecycle_stage == "deleted":
            raise RegistryError(
                f"mlflow experiment {name}",
                "was deleted",
                f"restore it: `MLFLOW_TRACKING_URI={self.uri} mlflow experiments restore -x {experiment.experiment_id}`",
            )

    def nominate(self, name: str, version: str) -> None:
        """Makes `version` the challenger, unless it is the champion already. Raises RegistryError for a backfill's."""
        client = self.client()
        _refuse_backfilled(name, model_version(client, name, version))
        if self.champion(name, client) != version:
            client.set_registered_model_alias(name, CHALLENGER, version)

    def name_as_of(self, name: str, version: str, alias: str) -> None:
        """Gives a backfill's version its alias. Raises RegistryError for any other kind of alias."""
        if not alias.startswith("asof-"):
            raise RegistryError(
                f"alias {alias}", "does not begin with asof-", "give a backfill's version an alias like asof-2013-06-01"
            )
        self.client().set_registered_model_alias(name, alias, version)

    def anchor(self, name: str, version: str, head: Head) -> None:
        """Writes the ledger's head into the version's tags, unless they have a later one."""
        client = self.client()
        tagged = Head.parse(model_version(client, name, version).tags.get(LEDGER_TAG))
        if chain.later(tagged, head) is not tagged:
            client.set_model_version_tag(name, version, LEDGER_TAG, str(head))

    def anchors(self, names: Iterable[str]) -> list[Anchor]:
        """For each version of the models `names` the ledger's head in its tags."""
        if self.is_new:
            return []
        client = self.reading()
        try:
            return [
                Anchor(f"version {version.version} of {name} in MLflow", Head.parse(version.tags.get(LEDGER_TAG)))
                for name in names
                for version in client.search_model_versions(f"name = '{name}'")
            ]
        except failures() as error:
            raise refused(self.uri, error) from error

    def promote(self, name: str, version: str) -> None:
        """Makes `version` the champion and no longer the challenger. Raises RegistryError for a backfill's."""
        client = self.client()
        _refuse_backfilled(name, model_version(client, name, version))
        client.set_registered_model_alias(name, CHAMPION, version)
        if version_of_alias(client, name, CHALLENGER) == version:
            client.delete_registered_model_alias(name, CHALLENGER)

    def demote(self, name: str) -> None:
        """Removes the champion: a first rollout was undone, so that there is no version to go back to."""
        client = self.client()
        if self.champion(name, client) is not None:
            client.delete_registered_model_alias(name, CHAMPION)

    def champion(self, name: str, client: MlflowClient | None = None) -> str | None:
        """The champion's version, or None."""
        return version_of_alias(client or self.reading(), name, CHAMPION)

    def version_facts(self, name: str, version: str, digest: str = "") -> VersionFacts:
        """A version's tags and metrics. `digest` as in `reference_file`. Raises RegistryError when there is no such version."""
        registered = self._registered(name, version, digest)
        run = self.reading().get_run(registered.run_id)
        return VersionFacts(str(registered.version), registered.run_id, dict(registered.tags), dict(run.data.metrics))

    def records(self, name: str, version: str) -> Records:
        """The records of a version. Raises RegistryError when there is no such version, or a record is missing."""
        from pipeline.workspaces.workspace import RUN_FILE

        client = self.reading()
        registered = model_version(client, name, version)
        if PRUNED_TAG in registered.tags:
            raise pruned(name, registered)
        run = registered.run_id
        with tempfile.TemporaryDirectory() as aside:

            def text(file: str) -> str:
                return Path(client.download_artifacts(run, file, aside)).read_text(encoding="utf-8")

            try:
                return Records(
                    yaml_file.parse(text(RUN_FILE)),
                    yaml_file.parse(text("dvc.lock")),
                    text("params.yaml"),
                    registered.tags[DIGEST_TAG],
                    json.loads(text("environment.json")),
                    json.loads(text("metrics.json")),
                )
            except (*failures(), OSError, KeyError) as error:
                raise RegistryError(
                    f"model {name} version {version}",
                    f"lacks a record of its run ({str(error).splitlines()[0]})",
                    f"look at MLflow's run {run}",
                ) from error

    def package_folder(self, name: str, version: str, digest: str = "") -> Path:
        """The folder of a version's package, checked as a slot checks it. Fetched from MLflow once, and again when it is damaged.

        `digest` is that of the package which was live with this number, as far as it is known: MLflow is not asked for one that
        is kept here. Raises RegistryError.
        """
        if digest and (kept := packages.kept(self._folder(name, version), self.key, digest)):
            return kept
        registered = model_version(self.reading(), name, version)
        signature, model_digest = registered.tags.get(SIGNATURE_TAG, ""), registered.tags.get(DIGEST_TAG, "")
        local = self._folder(name, version) / packages.PACKAGE
        with self._fetching(name, version) as aside:
            refused = packages.refusal(local, self.key, signature, model_digest)
            if refused:
                fetched = download(self.reading(), name, registered, packages.PACKAGE, aside / "fetched")
                refused = packages.refusal(fetched, self.key, signature, model_digest)
                if refused:
                    raise refused_package(name, registered, refused)
                packages.put_aside(local, self.key, aside)
                fetched.rename(local)
            packages.keep_signature(local, signature)
        if digest and packages.package_digest(local) != digest:
            raise another_package(name, version)
        return local

    def runtime(self, name: str, version: str, digest: str = "") -> Runtime:
        """The loaded package of a version that passed its gates, with the checks that a slot makes. Raises RegistryError."""
        folder = self.deployable_package(name, version, digest)
        from pipeline.serving.runtime import Runtime

        return Runtime.load(folder, self.key.public(), self.signature(name, version, digest))

    def deployable_package(self, name: str, version: str, digest: str = "") -> Path:
        """The package of a version that may go live. Raises RegistryError for a backfill's, or without a valid signature.

        One with this `digest` that is kept here has gone live before: it is taken whatever has become of its version in MLflow.
        """
        if digest and (kept := packages.kept(self._folder(name, version), self.key, digest)):
            return kept
        registered = model_version(self.reading(), name, version)
        _refuse_backfilled(name, registered)
        if not registered.tags.get(SIGNATURE_TAG):
            raise refused_package(name, registered, "signed")
        return self.package_folder(name, version, digest)

    def signature(self, name: str, version: str, digest: str = "") -> str:
        """The signature of the manifest of a version's package, hexadecimal; '' without one. `digest` as in `package_folder`."""
        if digest and (kept := packages.kept(self._folder(name, version), self.key, digest)):
            return packages.kept_signature(kept)
        return model_version(self.reading(), name, version).tags.get(SIGNATURE_TAG, "")

    def reference_file(self, name: str, version: str, digest: str = "") -> Path:
        """The sample of a version's training data, with the version's predictions, as it was registered.

        Raises RegistryError when the sample is not the one that the version's tag names, or when MLflow's version is of another
        package than the one with this `digest`.
        """
        registered = self._registered(name, version, digest)
        expected = registered.tags.get(REFERENCE_TAG, "")
        local = self._folder(name, version) / REFERENCE
        with self._fetching(name, version) as aside:
            if not has_digest(local, expected):
                fetched = download(self.reading(), name, registered, REFERENCE, aside / "fetched")
                if not has_digest(fetched, expected):
                    raise refused_package(name, registered, "its digest differs", REFERENCE)
                fetched.replace(local)
        return local

    def report_file(self, name: str, version: str, report: str) -> Path:
        """A drift report of a version. Raises RegistryError when the version has no such report."""
        local = self._folder(name, version) / REPORTS / report
        if local.exists():
            return local
        registered = model_version(self.reading(), name, version)
        local.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self._fetching(name, version) as aside:
                download(self.reading(), name, registered, f"{REPORTS}/{report}", aside / "fetched").replace(local)
        except RegistryError as error:
            raise RegistryError(
                f"report {report}", "is not among the version's artifacts", f"run `perennial drift {name}`"
            ) from error
        return local

    def held(self, name: str, version: str, digest: str, reader: Reader | None = None) -> Held:
        """What MLflow holds of a live version whose package has this `digest`, asked by a `reader` of `reader()`. Raises
        RegistryError when MLflow does not say."""
        if self.is_new:
            return Held()
        return held.held(
            reader or self.reader(), name, version, lambda tags: self._is_another(name, version, tags, digest)
        )

    def reader(self) -> Reader:
        """How MLflow is asked what it holds; one serves for many questions. Raises RegistryAwayError."""
        if self.uri.startswith("http"):
            return Rest(self.uri)
        if self.uri.startswith("sqlite:///"):
            return Database(Path(self.uri.removeprefix("sqlite:///")))
        return Client(self.client())

    def _is_another(self, name: str, version: str, tags: Mapping[str, str], digest: str) -> bool:
        tagged, signature = tags.get(PACKAGE_TAG, ""), tags.get(SIGNATURE_TAG, "")
        return packages.is_another(self._folder(name, version), self.key, tagged, signature, digest)

    def _registered(self, name: str, version: str, digest: str) -> Any:
        """MLflow's ModelVersion, whose package has this `digest`. Raises RegistryError when it has another, or there is none."""
        registered = model_version(self.reading(), name, version)
        if self._is_another(name, version, registered.tags, digest):
            raise another_package(name, version)
        return registered

    def _folder(self, name: str, version: str) -> Path:
        return self.home / "versions" / name / version

    @contextmanager
    def _fetching(self, name: str, version: str) -> Iterator[Path]:
        """A folder aside, on the same disk, while no other process fetches files of the version."""
        folder = self._folder(name, version)
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "package.lock"), tempfile.TemporaryDirectory(dir=folder) as aside:
            yield Path(aside)
