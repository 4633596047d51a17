"""What the gates get of the live version beside its package: its newest requests, and its features' importances."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np

from pipeline.context import Context
from pipeline.errors import PerennialError
from pipeline.ledger.timeline import LiveVersion
from pipeline.settings.models import Model

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.gates.base import LiveFacts

log = logging.getLogger(__name__)


def live_facts(context: Context, name: str, model: Model, live: LiveVersion) -> LiveFacts:
    """Raises nothing: what cannot be read is said, and the gates that need it give no verdict."""
    from pipeline.gates.base import LiveFacts

    requests, why = _requests(context, name, model, live)
    return LiveFacts(requests, why, _importances(context, name, live))


def _requests(context: Context, name: str, model: Model, live: LiveVersion) -> tuple[pd.DataFrame | None, str]:
    """(the features of the newest rows that the live version answered, why there are none)."""
    import pandas as pd

    from pipeline.rollout.logged_requests import newest_rows
    from pipeline.rollout.paired import features_of
    from pipeline.rollout.prediction_folders import predictions_folder

    if personal := [column for column in model.rollout.serving.personal if column in model.training.features]:
        return (
            None,
            f"{', '.join(personal)} is personal and not in the prediction log as asked (rollout.serving.personal)",
        )
    since = context.clock() - timedelta(days=model.rollout.replay_days)
    try:
        newest = newest_rows(predictions_folder(context.home, name), since, model.gates.churn.rows)
    except (OSError, ValueError) as error:
        return None, f"the prediction log cannot be read ({error})"
    parts: list[Mapping[str, np.ndarray]] = []
    for table in newest.tables:
        own = np.asarray(table["version"].to_numpy() == live.version)
        if own.any() and (features := features_of(table)):
            parts.append({column: values[own] for column, values in features.items()})
    if not parts:
        return (
            None,
            f"version {live.version} has answered no request in {model.rollout.replay_days:g} days (rollout.replay_days)",
        )
    rows = pd.concat([pd.DataFrame(part) for part in parts], ignore_index=True)
    return rows.head(model.gates.churn.rows), ""


def _importances(context: Context, name: str, live: LiveVersion) -> Mapping[str, float]:
    from pipeline.monitoring.profiles import reference

    try:
        kept = reference.kept_in(context.registry.reference_file(name, live.version, live.digest))
    except (PerennialError, OSError, ValueError) as error:
        log.warning("the importances of version %s of %s are not known: %s", live.version, name, error)
        return {}
    return kept.importances if kept is not None else {}
