"""What MLflow has of a version for its model card, and the card itself among the version's artifacts."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.registry.lookups import failures, model_version, refused, versions_of
from pipeline.registry.versions import RUN_TAG, Registry
from pipeline.settings import yaml_file

FOLDER = "explanation"
SHAP, INTERVALS = f"{FOLDER}/shap.json", f"{FOLDER}/intervals.json"
SHAP_PICTURE, RELIABILITY_PICTURE = f"{FOLDER}/shap.svg", f"{FOLDER}/reliability.svg"
CARD, CARD_PAGE = "card.md", "card.html"
# The small files of a version's run that a card is made of.
FILES = (
    *("run.yaml", "params.yaml", "metrics.json", "gates.json", "snapshot.json", "validation.json", "environment.json"),
    *("package/manifest.json", SHAP, INTERVALS),
)


@dataclass(frozen=True)
class CardRecords:
    """A version's tags and aliases, the id of its MLflow run, and the contents of FILES, by name; a lost one is missing."""

    version: str
    mlflow_run: str
    tags: Mapping[str, str]
    aliases: tuple[str, ...]
    files: Mapping[str, Any]

    def file(self, name: str) -> dict[str, Any]:
        """The content of a file; {} where there is none."""
        content = self.files.get(name)
        return content if isinstance(content, dict) else {}


def read(registry: Registry, name: str, version: str) -> CardRecords:
    """Raises RegistryError when there is no such version, or MLflow is away."""
    client = registry.reading()
    registered = model_version(client, name, version)
    files: dict[str, Any] = {}
    try:
        there = {
            item.path
            for folder in ("", "package", FOLDER)
            for item in client.list_artifacts(registered.run_id, folder or None)
        }
        with tempfile.TemporaryDirectory() as aside:
            for file in FILES:
                if file in there:
                    path = Path(client.download_artifacts(registered.run_id, file, aside))
                    text = path.read_text(encoding="utf-8")
                    files[file] = json.loads(text) if file.endswith(".json") else yaml_file.parse(text)
        aliases = client.get_registered_model(name).aliases
    except (*failures(), OSError, ValueError) as error:
        raise refused(registry.uri, error) from error
    own = tuple(sorted(alias for alias, number in aliases.items() if str(number) == version))
    return CardRecords(version, registered.run_id, dict(registered.tags), own, files)


def kept(registry: Registry, name: str, version: str) -> set[str]:
    """The version's artifacts that a card has to do with, by their path. Raises RegistryError."""
    client = registry.reading()
    run = model_version(client, name, version).run_id
    try:
        return {item.path for folder in (None, FOLDER) for item in client.list_artifacts(run, folder)}
    except (*failures(), OSError) as error:
        raise refused(registry.uri, error) from error


def shap_of_run(registry: Registry, name: str, run: str) -> dict[str, Any]:
    """SHAP of the newest record of a ledger's run; {} where MLflow has none. Raises RegistryError."""
    from mlflow.exceptions import MlflowException

    client = registry.client()
    try:
        experiment = client.get_experiment_by_name(name)
        same = f"tags.`{RUN_TAG}` = '{run}'"
        found = client.search_runs([experiment.experiment_id], same, max_results=1) if experiment else []
        for recorded in found:
            if any(item.path == SHAP for item in client.list_artifacts(recorded.info.run_id, FOLDER)):
                with tempfile.TemporaryDirectory() as aside:
                    path = Path(client.download_artifacts(recorded.info.run_id, SHAP, aside))
                    return json.loads(path.read_text(encoding="utf-8"))
    except (MlflowException, OSError, ValueError) as error:
        raise refused(registry.uri, error) from error
    return {}


def keep(registry: Registry, name: str, version: str, texts: Mapping[str, str]) -> int:
    """Puts the texts among the version's artifacts, by their path there, and returns their bytes; an earlier one is replaced.

    Raises RegistryError.
    """
    client = registry.client()
    run = model_version(client, name, version).run_id
    try:
        for path, text in texts.items():
            client.log_text(run, text, path)
    except (*failures(), OSError) as error:
        raise refused(registry.uri, error) from error
    return sum(len(text.encode()) for text in texts.values())


def newest(registry: Registry, name: str) -> str:
    """The newest version of a model; '' when it has none."""
    return (versions_of(registry.reading(), name) or [""])[-1]
