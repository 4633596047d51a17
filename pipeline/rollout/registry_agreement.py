"""Does MLflow agree with what is live? The ledger says which package is live; a person can move, delete and make anew in MLflow.

What is live goes on in any case. Each disagreement is one line that says what to do.
"""

from __future__ import annotations

from pipeline.errors import RegistryError
from pipeline.registry.held import DELETED, MISSING, Held


def away(error: RegistryError) -> str:
    """The line for an MLflow that could not be asked, the same for every model."""
    return f"{error.subject}: {error.observation}, so it was not compared with what is live; {error.next_check}"


def lines(model: str, version: str, held: Held, uri: str) -> list[str]:
    """What does not agree with version `version`, which is live."""
    live = f"version {version}, which is live and goes on"
    new = f"bring a new version live: `perennial retrain {model} --deploy`"
    found = []
    if held.experiment_state == DELETED:
        restore = f"`MLFLOW_TRACKING_URI={uri} mlflow experiments restore -x {held.experiment}`"
        found.append(
            f"{model}: MLflow's experiment {model} was deleted, so no run of it can begin; restore it: {restore}"
        )
    if not held.has_model:
        return [*found, f"{model}: MLflow's registered model {model} was deleted, with {live}; {new}"]
    if not held.has_version:
        return [*found, f"{model}: MLflow no longer has {live}; {new}"]
    if held.is_another:
        deploy = f"`perennial deploy {model} {version}`"
        made = f"MLflow's version {version} is another package than {live}: the registered model was made again"
        return [*found, f"{model}: {made}; bring MLflow's live: {deploy}, or {new}"]
    if held.run_state == MISSING:
        found.append(f"{model}: MLflow no longer has run {held.run} of {live}; {new}")
    elif held.run_state == DELETED and held.experiment_state != DELETED:
        restore = f"`MLFLOW_TRACKING_URI={uri} mlflow runs restore --run-id {held.run}`"
        found.append(f"{model}: MLflow's run {held.run} of {live}, was deleted; restore it: {restore}")
    if held.champion != version:
        was = f"is on version {held.champion}" if held.champion else "is gone"
        put_back = f"put it back: `perennial reconcile {model}`"
        found.append(f"{model}: MLflow's alias champion {was}, and version {version} is live; {put_back}")
    return found
