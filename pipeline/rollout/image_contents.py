"""The list of what is in a version's serving image below our own packages, kept with the version: only who runs the image can read it."""

from __future__ import annotations

import logging

from pipeline.errors import PerennialError
from pipeline.gates import bill_of_materials
from pipeline.registry.lookups import model_version
from pipeline.rollout.context import RolloutContext
from pipeline.rollout.engines.base import Engine

log = logging.getLogger(__name__)


def keep(context: RolloutContext, engine: Engine, model: str, version: str, slot: str) -> None:
    """Adds the list to the version's MLflow run. A rollout does not end because it cannot: the log says so."""
    from mlflow.exceptions import MlflowException

    try:
        if (found := engine.contents(model, slot)) is None:
            return
        listed = bill_of_materials.image_contents(model, version, found)
        client = context.registry.client()
        run = model_version(client, model, version).run_id
        client.log_dict(run, listed, bill_of_materials.IMAGE_FILE)
    except (PerennialError, MlflowException, OSError) as error:
        log.warning("%s: what is in the image of version %s is not kept with it: %s", model, version, error)
