"""What a run leaves with MLflow: one MLflow run with its params, data, metrics and verdicts, and one version.

Everything here may be called again for the same run without a second version: a run is known by its tags. What a
version was made from is never written again.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import GateError
from pipeline.gates.base import Verdict
from pipeline.registry.versions import (
    AS_OF_TAG,
    BACKFILL,
    CODE_TAG,
    DATA_TAG,
    DIGEST_TAG,
    ORIGIN_TAG,
    REPORTS,
    RETRAIN,
    RUN_TAG,
    SIGNATURE_TAG,
    Registry,
)
from pipeline.settings.models import Model
from pipeline.training import fit
from pipeline.training.evaluate import PREDICTION, Evaluation
from pipeline.workspaces import dvc_remote
from pipeline.workspaces.dvc_graph import environment, read_json
from pipeline.workspaces.workspace import RUN_FILE, Workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXAMPLE_ROWS = 5
GATE_TAG = "gate."
VERDICTS = "gates.json"
# In place of a digest, where data was refused.
NO_MODEL = "none"


def record(registry: Registry, workspace: Workspace, model: Model, verdicts: list[Verdict], origin: str) -> str:
    """Logs a run's params, data, metrics and verdicts to MLflow and returns the MLflow run's id."""
    evaluation = Evaluation.read(workspace.files.metrics)
    figures = {**evaluation.metrics, **{f"baseline_{name}": value for name, value in evaluation.baseline.items()}}
    return _recorded(registry, workspace, model, verdicts, _tags(workspace, origin), figures)


def record_refused(registry: Registry, workspace: Workspace, model: Model, verdicts: list[Verdict], origin: str) -> str:
    """The same of a run that stopped at its data: the verdicts, and the rows in quarantine for whoever has to mend them."""
    tags = _run_tags(workspace, origin) | {DIGEST_TAG: NO_MODEL}
    return _recorded(registry, workspace, model, verdicts, tags, {})


def _recorded(
    registry: Registry,
    workspace: Workspace,
    model: Model,
    verdicts: list[Verdict],
    tags: dict[str, str],
    figures: dict[str, float],
) -> str:
    import mlflow

    client = registry.client()
    experiment = _experiment(client, registry, workspace.model)
    # By the model's digest too: a run done again with another outcome may not change what an older version says of itself.
    same = " and ".join(f"tags.`{tag}` = '{tags[tag]}'" for tag in (RUN_TAG, DIGEST_TAG, DATA_TAG, ORIGIN_TAG))
    found = [run.info.run_id for run in client.search_runs([experiment], same, max_results=1)]
    # Nor may the same outcome: it may have come from other code, other settings or other packages since.
    if found and client.search_model_versions(f"run_id = '{found[0]}'"):
        return found[0]
    with mlflow.start_run(
        run_id=found[0] if found else None,
        experiment_id=None if found else experiment,
        run_name=None if found else workspace.run,
    ) as run:
        mlflow.set_tags(tags | {f"{GATE_TAG}{v.gate}": str(v) for v in verdicts})
        if not found:
            mlflow.log_params(_flat(model))
            if figures:
                mlflow.log_input(_dataset(workspace, model), context="training")
        mlflow.log_metrics({k: v for k, v in figures.items() if v == v})
        mlflow.log_dict({"verdicts": [v.as_dict() for v in verdicts]}, VERDICTS)
        mlflow.log_dict(dvc_remote.partitions(workspace.folder, workspace.data_version()), "partitions.json")
        mlflow.log_dict(environment(), "environment.json")
        for file in (RUN_FILE, "dvc.lock", "params.yaml"):
            mlflow.log_artifact(str(workspace.folder / file))
        if read_json(workspace.files.validation)["quarantined"]:
            mlflow.log_artifact(str(workspace.files.quarantine))
        for report in (
            workspace.files.validation,
            workspace.files.counts,
            *([workspace.files.metrics] if figures else []),
        ):
            mlflow.log_artifact(str(report))
        return run.info.run_id


def keep_report(registry: Registry, name: str, version: str, report: Path) -> None:
    """Puts a drift report beside the version that it is about, for readers who do not share this disk."""
    client = registry.client()
    client.log_artifact(client.get_model_version(name, version).run_id, str(report), REPORTS)


def create_version(registry: Registry, workspace: Workspace, model: Model, mlflow_run: str, origin: str) -> str:
    """Registers the run's model with its package and reference data, without an alias; returns the version.

    The same outcome of the same run, or of the same backfilled as-of, is the version that it was.
    """
    import mlflow

    client = registry.client()
    tags = _tags(workspace, origin)
    version = _version_of(client, workspace.model, tags)
    if version is None:
        with mlflow.start_run(run_id=mlflow_run):
            mlflow.log_artifacts(str(workspace.files.package), "package")
            mlflow.log_artifact(str(workspace.files.reference))
            logged = _log_model(workspace, model)
        if origin == RETRAIN:
            tags[SIGNATURE_TAG] = _signature(registry, client, workspace, mlflow_run)
        _ensure_registered(client, workspace.model, model.description)
        created = client.create_model_version(
            workspace.model, logged.model_uri, mlflow_run, tags=tags, model_id=logged.model_id
        )
        version = str(created.version)
        client.update_model_version(
            workspace.model, version, _description(registry, workspace, version, client, mlflow_run)
        )
    return version


def _signature(registry: Registry, client: MlflowClient, workspace: Workspace, mlflow_run: str) -> str:
    """Signs a package whose gates all passed, by the verdicts of its MLflow run. Raises GateError for any other."""
    verdicts = _verdicts(client, mlflow_run)
    failed = [verdict.gate for verdict in verdicts if not verdict.passed]
    if failed or not verdicts:
        raise GateError(
            f"model {workspace.model}", f"did not pass {', '.join(failed) or 'any gate'}", "nothing was registered"
        )
    return registry.key.sign((workspace.files.package / "manifest.json").read_bytes())


def _verdicts(client: MlflowClient, mlflow_run: str) -> list[Verdict]:
    """The verdicts that a run was recorded with: none when it has no such file. The run's tags are for readers only."""
    import mlflow

    if not any(file.path == VERDICTS for file in client.list_artifacts(mlflow_run)):
        return []
    recorded = mlflow.artifacts.load_dict(f"{client.get_run(mlflow_run).info.artifact_uri}/{VERDICTS}")
    return [Verdict.from_dict(verdict) for verdict in recorded["verdicts"]]


def _experiment(client: MlflowClient, registry: Registry, name: str) -> str:
    """The experiment's id. Not set_experiment: it races and files runs elsewhere without a word."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        local = not registry.uri.startswith("http")
        try:
            return client.create_experiment(name, str(registry.artifact_root / name) if local else None)
        except MlflowException:
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return found.experiment_id


def _ensure_registered(client: MlflowClient, name: str, description: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, description=description)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _version_of(client: MlflowClient, name: str, tags: dict[str, str]) -> str | None:
    """The version with the same outcome: of this run, or for a backfill of any run with this as-of."""
    alike = [DIGEST_TAG, DATA_TAG, ORIGIN_TAG, AS_OF_TAG if tags[ORIGIN_TAG] == BACKFILL else RUN_TAG]
    found = [
        v
        for v in client.search_model_versions(f"name = '{name}'")
        if all(v.tags.get(tag) == tags[tag] for tag in alike)
    ]
    return str(found[0].version) if found else None


def _description(registry: Registry, workspace: Workspace, version: str, client: MlflowClient, mlflow_run: str) -> str:
    """What MLflow's page of a version says, in Markdown: from the model back to its data."""
    data, day = workspace.data_version(), workspace.as_of[:10]
    experiment = client.get_run(mlflow_run).info.experiment_id
    listed = f"[{data}](#/experiments/{experiment}/runs/{mlflow_run}/artifacts/partitions.json)"
    page = f", [where else it was used]({registry.airflow}/perennial/data/{data})" if registry.airflow else ""
    return (
        f"Trained on data version {listed}{page}, as of {day}.\n\n"
        f"`python -m pipeline trace {data}` · `python -m pipeline reproduce {workspace.model} {version}`"
    )


def _tags(workspace: Workspace, origin: str) -> dict[str, str]:
    manifest = read_json(workspace.files.package / "manifest.json")
    return _run_tags(workspace, origin) | {DIGEST_TAG: manifest["model_digest"]}


def _run_tags(workspace: Workspace, origin: str) -> dict[str, str]:
    return {
        RUN_TAG: workspace.run,
        DATA_TAG: workspace.data_version(),
        CODE_TAG: workspace.code_revision,
        AS_OF_TAG: workspace.as_of,
        "perennial.reason": workspace.reason,
        "perennial.uncommitted": str(workspace.uncommitted).lower(),
        # Airflow keeps a run's id when a backfill does it again: the same name, and still another run.
        ORIGIN_TAG: origin,
    }


def _flat(model: Model) -> dict[str, str]:
    """Settings as MLflow params, dotted, at most 6,000 characters each."""
    flat: dict[str, str] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict) and value:
            for key, inner in value.items():
                walk(f"{prefix}.{key}" if prefix else key, inner)
        else:
            flat[prefix] = str(value)[:6000]

    chosen = model.model_dump(mode="json")
    walk("", {key: chosen[key] for key in ("as_of", "source", "training", "evaluation", "gates")})
    return flat


def _dataset(workspace: Workspace, model: Model) -> Any:
    import pandas as pd
    from mlflow.data.pandas_dataset import from_pandas

    rows = pd.read_parquet(workspace.files.reference).drop(columns=PREDICTION)
    warnings.filterwarnings("ignore", message="The specified dataset source can be interpreted")
    return from_pandas(
        rows,
        source=str(workspace.files.snapshot),
        targets=model.training.target,
        name=f"{workspace.model} snapshot (schema from a sample)",
        digest=workspace.data_version()[:32],
    )


def _log_model(workspace: Workspace, model: Model) -> Any:
    import mlflow
    import pandas as pd
    import sklearn
    import skops

    rows = pd.read_parquet(workspace.files.reference).head(EXAMPLE_ROWS)
    example = fit.feature_frame(rows, model.training)
    estimator = fit.load(workspace.files.model)
    answer = fit.predict(estimator, example, model.training)
    return mlflow.sklearn.log_model(
        estimator,
        name="model",
        serialization_format="skops",
        skops_trusted_types=fit.TRUSTED_TYPES,
        signature=mlflow.models.infer_signature(example, answer),
        input_example=example,
        # Named here: left to itself MLflow loads the model in another process to find out.
        pip_requirements=[f"scikit-learn=={sklearn.__version__}", f"skops=={skops.__version__}", "pandas"],
        pyfunc_predict_fn="predict_proba" if model.training.task == "binary" else "predict",
    )
