"""MLflow: one experiment a model, one MLflow run a run, and the registered versions with their aliases.

Everything here may be called again for the same run without a second version: a run is found by its tag.
MLflow is imported inside the functions, so that only the steps that need it wait for it.
"""

from __future__ import annotations

import os
import urllib.error
import urllib.request
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from pipeline import training
from pipeline.errors import RegistryError
from pipeline.evaluation import PREDICTION
from pipeline.gates.verdict import Verdict
from pipeline.lineage import read_json
from pipeline.params import Model
from pipeline.workspace import RUN_FILE, Workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHAMPION, CHALLENGER = "champion", "challenger"
RUN_TAG, DATA_TAG, CODE_TAG, AS_OF_TAG = (
    "perennial.run",
    "perennial.data_version",
    "perennial.code_revision",
    "perennial.as_of",
)
EXAMPLE_ROWS = 5


def tracking_uri(home: Path) -> str:
    """$MLFLOW_TRACKING_URI, or this machine's own store."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home / 'mlflow' / 'mlflow.db'}"


def artifact_root(home: Path) -> Path:
    return home / "mlflow" / "artifacts"


def connect(home: Path) -> MlflowClient:
    """A client that is known to answer. Raises RegistryError in one line instead of retrying for minutes."""
    uri = tracking_uri(home)
    if uri.startswith("http"):
        try:
            with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=10):
                pass
        except (urllib.error.URLError, OSError) as error:
            reason = getattr(error, "reason", error)
            raise RegistryError(
                f"mlflow {uri}", f"does not answer ({reason})", "is it up? `make up` starts it"
            ) from error
    else:
        (home / "mlflow").mkdir(parents=True, exist_ok=True)
    import mlflow

    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    mlflow.set_tracking_uri(uri)
    client = mlflow.MlflowClient()
    if uri.startswith("sqlite") and not Path(uri.removeprefix("sqlite:///")).exists():
        # Several processes that make MLflow's tables at once break the file for good.
        with FileLock(home / "mlflow" / "made.lock"):
            client.search_experiments(max_results=1)
    return client


def record(home: Path, workspace: Workspace, model: Model, verdicts: list[Verdict]) -> str:
    """Logs a run's params, data, metrics and verdicts to MLflow and returns the MLflow run's id."""
    import mlflow

    client = connect(home)
    experiment = _experiment(client, home, workspace.model)
    found = client.search_runs([experiment], f"tags.`{RUN_TAG}` = '{workspace.run}'", max_results=1)
    evaluation = read_json(workspace.files.metrics)
    with mlflow.start_run(
        run_id=found[0].info.run_id if found else None,
        experiment_id=None if found else experiment,
        run_name=None if found else workspace.run,
    ) as run:
        mlflow.set_tags(_tags(workspace) | {f"gate.{v.gate}": str(v) for v in verdicts})
        if not found:
            mlflow.log_params(_flat(model))
            mlflow.log_input(_dataset(workspace, model), context="training")
        mlflow.log_metrics({k: v for k, v in evaluation["metrics"].items() if v == v})
        mlflow.log_metrics({f"baseline_{k}": v for k, v in evaluation["baseline"].items() if v == v})
        mlflow.log_dict({"verdicts": [v.as_dict() for v in verdicts]}, "gates.json")
        for file in (RUN_FILE, "dvc.lock", "params.yaml"):
            mlflow.log_artifact(str(workspace.folder / file))
        for report in (workspace.files.validation, workspace.files.metrics, workspace.files.counts):
            mlflow.log_artifact(str(report))
        return run.info.run_id


def register(home: Path, workspace: Workspace, model: Model, mlflow_run: str, alias: str = CHALLENGER) -> str:
    """Registers the run's model with its package and reference data under `alias`; returns the version."""
    import mlflow

    client = connect(home)
    version = _version_of(client, workspace)
    if version is None:
        with mlflow.start_run(run_id=mlflow_run):
            mlflow.log_artifacts(str(workspace.files.package), "package")
            mlflow.log_artifact(str(workspace.files.reference))
            logged = _log_model(workspace, model)
        _ensure_registered(client, workspace.model, model.description)
        created = client.create_model_version(
            workspace.model, logged.model_uri, mlflow_run, tags=_tags(workspace), model_id=logged.model_id
        )
        version = str(created.version)
    if alias != CHALLENGER or champion(home, workspace.model, client) != version:
        client.set_registered_model_alias(workspace.model, alias, version)
    return version


def promote(home: Path, name: str, version: str) -> None:
    """Makes `version` the champion; it is a challenger no longer."""
    client = connect(home)
    client.set_registered_model_alias(name, CHAMPION, version)
    if _alias(client, name, CHALLENGER) == version:
        client.delete_registered_model_alias(name, CHALLENGER)


def champion(home: Path, name: str, client: MlflowClient | None = None) -> str | None:
    """The champion's version, or None."""
    return _alias(client or connect(home), name, CHAMPION)


def version_facts(home: Path, name: str, version: str) -> dict[str, Any]:
    """{"version", "mlflow_run", "tags", "metrics"} of a version. Raises RegistryError when there is none."""
    client = connect(home)
    found = _get(client, name, version)
    run = client.get_run(found.run_id)
    return {
        "version": str(found.version),
        "mlflow_run": found.run_id,
        "tags": dict(found.tags),
        "metrics": dict(run.data.metrics),
    }


def package_folder(home: Path, name: str, version: str) -> Path:
    """The package of a version on this machine, fetched from MLflow when it is not here yet."""
    return _fetched(home, name, version, "package")


def reference_file(home: Path, name: str, version: str) -> Path:
    """The training data sample of a version, with its predictions."""
    return _fetched(home, name, version, "reference.parquet")


def _fetched(home: Path, name: str, version: str, artifact: str) -> Path:
    kept = home / "versions" / name / version / artifact
    if kept.exists():
        return kept
    client = connect(home)
    found = _get(client, name, version)
    import tempfile

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


def _experiment(client: MlflowClient, home: Path, name: str) -> str:
    """The experiment's id. Not set_experiment: it races and files runs elsewhere without a word."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        local = not tracking_uri(home).startswith("http")
        try:
            return client.create_experiment(name, str(artifact_root(home) / name) if local else None)
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


def _version_of(client: MlflowClient, workspace: Workspace) -> str | None:
    found = [
        v for v in client.search_model_versions(f"name = '{workspace.model}'") if v.tags.get(RUN_TAG) == workspace.run
    ]
    return str(found[0].version) if found else None


def _tags(workspace: Workspace) -> dict[str, str]:
    manifest = read_json(workspace.files.package / "manifest.json")
    return {
        RUN_TAG: workspace.run,
        DATA_TAG: workspace.data_version(),
        CODE_TAG: workspace.code_revision,
        AS_OF_TAG: workspace.as_of,
        "perennial.reason": workspace.reason,
        "perennial.uncommitted": str(workspace.uncommitted).lower(),
        "perennial.model_digest": manifest["model_digest"],
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
    example = training.feature_frame(rows, model.training)
    estimator = training.load(workspace.files.model)
    answer = training.predict(estimator, example, model.training)
    return mlflow.sklearn.log_model(
        estimator,
        name="model",
        serialization_format="skops",
        skops_trusted_types=training.TRUSTED_TYPES,
        signature=mlflow.models.infer_signature(example, answer),
        input_example=example,
        # Named here: left to itself MLflow loads the model in another process to find out.
        pip_requirements=[f"scikit-learn=={sklearn.__version__}", f"skops=={skops.__version__}", "pandas"],
        pyfunc_predict_fn="predict_proba" if model.training.task == "binary" else "predict",
    )
