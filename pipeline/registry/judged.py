"""A version's judged model in MLflow, beside its package, which was fitted again: by it the next challenger is compared (gates.judged_champion)."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

from pipeline.errors import PerennialError
from pipeline.gates.judged_champion import JudgedChampion
from pipeline.registry.lookups import model_version
from pipeline.registry.records import download
from pipeline.registry.versions import AS_OF_TAG, PACKAGE_TAG, Registry
from pipeline.settings import yaml_file
from pipeline.settings.models import Model
from pipeline.training import signing
from pipeline.workspaces.dvc_graph import Artifacts

log = logging.getLogger(__name__)

FOLDER = "judged"
# The sha256 of the file.
TAG = "perennial.judged_digest"


def log_judged(files: Artifacts) -> dict[str, str]:
    """Puts the run's judged model into the MLflow run that is going on, and returns its tag; {} where what is served is the judged one."""
    import mlflow

    digest = signing.digest(files.model)
    if digest == signing.digest(files.served_model):
        return {}
    mlflow.log_artifact(str(files.model), FOLDER)
    return {TAG: digest}


def judged_champion(registry: Registry, name: str, version: str, digest: str) -> JudgedChampion | None:
    """The version, whose package has this digest, as it was judged; None where that was not kept, is not as it was kept, or cannot be read:
    then its package is compared."""
    from pipeline.training import skops_file

    try:
        client = registry.reading()
        found = model_version(client, name, version)
        if not found.tags.get(TAG) or found.tags.get(PACKAGE_TAG) != digest:
            return None
        with tempfile.TemporaryDirectory() as aside:
            (file,) = download(client, name, found, FOLDER, Path(aside) / "model").iterdir()
            if signing.digest(file) != found.tags[TAG]:
                log.warning(
                    "version %s of %s: its judged model in MLflow has another digest than its tag", version, name
                )
                return None
            text = download(client, name, found, "params.yaml", Path(aside) / "params").read_text(encoding="utf-8")
            block = {**yaml_file.parse(text)["models"][name], "as_of": found.tags[AS_OF_TAG]}
            return JudgedChampion(skops_file.load(file), Model.model_validate(block))
    except (PerennialError, OSError, ValueError, KeyError, TypeError) as error:
        log.warning("version %s of %s is compared by its package: %s", version, name, error)
        return None
