"""Up to which event time a version's rows went, for packages of before their manifests said it."""

from __future__ import annotations

import math
from datetime import timedelta

from pipeline.errors import RegistryError
from pipeline.registry.lookups import AS_OF_TAG, model_version
from pipeline.registry.versions import Registry
from pipeline.settings import models

HOLDOUT_PARAM = "evaluation.holdout_days"


def trained_to(registry: Registry, name: str, version: str) -> str | None:
    """The start of the version's held-out days (ISO 8601, exclusive end of the rows that it was fitted on), by its as-of and the
    settings of its run in MLflow; None where MLflow does not say both."""
    try:
        client = registry.reading()
        registered = model_version(client, name, version)
        days = float(client.get_run(registered.run_id).data.params.get(HOLDOUT_PARAM, "nan"))
    except RegistryError:
        return None
    as_of = registered.tags.get(AS_OF_TAG)
    if as_of is None or not math.isfinite(days):
        return None
    return (models.time_of(as_of) - timedelta(days=days)).isoformat()
