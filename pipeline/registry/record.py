"""A run's record in MLflow: one MLflow run with params, data, metrics and verdicts, and one version.

Every function may be called again for the same run and makes no second version: the tags identify the run. The record of a
registered version is never written again.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import GateError
from pipeline.gates import bill_of_materials, report
from pipeline.gates.base import Verdict
from pipeline.gates.serving_packages import base_image, serving_packages
from pipeline.registry import judged, logged_model
from pipeline.registry.card_records import RELIABILITY_PICTURE, SHAP_PICTURE
from pipeline.registry.packages import package_digest, refusal
from pipeline.registry.versions import (
    AS_OF_TAG,
    BACKFILL,
    CODE_TAG,
    DATA_TAG,
    DIGEST_TAG,
    ORIGIN_TAG,
    PACKAGE_TAG,
    REFERENCE_TAG,
    REPORTS,
    RETRAIN,
    RUN_TAG,
    SIGNATURE_TAG,
    Registry,
)
from pipeline.settings.models import Model
from pipeline.training import signing
from pipeline.training.evaluate import Evaluation
from pipeline.training.measured import Choice
from pipeline.training.tasks import PREDICTION, PROBABILITIES
from pipeline.workspaces import dvc_remote
from pipeline.workspaces.dvc_graph import environment, read_json
from pipeline.workspaces.workspace import RUN_FILE, Workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient

GATE_TAG = "gate."
# In place of a digest, when the data failed its gates.
NO_MODEL = "none"
ENCODINGS_TAG = "perennial.encodings"


def record(
    registry: Registry,
    workspace: Workspace,
    model: Model,
    verdicts: list[Verdict],
    origin: str,
    explained: Mapping[str, str] | None = None,
) -> str:
    """Logs a run's params, data, metrics and verdicts to MLflow and returns the MLflow run's id.

    `explained` are the texts of what moves the model's predictions, by their path among the artifacts.
    """
    evaluation = Evaluation.read(workspace.files.metrics)
    figures = {**evaluation.metrics, **{f"baseline_{name}": value for name, value in evaluation.baseline.items()}}
    choice = Choice.read(evaluation.encodings)
    figures |= {f"encoding {name} {choice.metric}": score for name, score in choice.scores.items()}
    tags = _tags(workspace, origin) | ({ENCODINGS_TAG: str(choice)} if str(choice) else {})
    options = {f"search.chosen.{name}": str(value) for name, value in evaluation.search.get("chosen", {}).items()}
    return _record(registry, workspace, model, verdicts, tags, figures, options, explained or {})


def record_refused(registry: Registry, workspace: Workspace, model: Model, verdicts: list[Verdict], origin: str) -> str:
    """The same for a run that stopped at its data: the verdicts, and the quarantined rows for the person who corrects them."""
    tags = _run_tags(workspace, origin) | {DIGEST_TAG: NO_MODEL}
    return _record(registry, workspace, model, verdicts, tags, {}, {}, {})


def _record(
    registry: Registry,
    workspace: Workspace,
    model: Model,
    verdicts: list[Verdict],
    tags: dict[str, str],
    figures: dict[str, float],
    chosen: Mapping[str, str],
    explained: Mapping[str, str],
) -> str:
    import mlflow

    client = registry.client()
    experiment = _experiment(client, registry, workspace.model)
    # The digest is part of the search: a run done again with another outcome may not change an older version's record.
    same = " and ".join(f"tags.`{tag}` = '{tags[tag]}'" for tag in (RUN_TAG, DIGEST_TAG, DATA_TAG, ORIGIN_TAG))
    earlier = next((run.info.run_id for run in client.search_runs([experiment], same, max_results=1)), None)
    # The same outcome may not either: code, settings or packages may have changed since.
    if earlier and client.search_model_versions(f"run_id = '{earlier}'"):
        return earlier
    with mlflow.start_run(
        run_id=earlier,
        experiment_id=None if earlier else experiment,
        run_name=None if earlier else workspace.run,
    ) as run:
        mlflow.set_tags(tags | {f"{GATE_TAG}{v.gate}": str(v) for v in verdicts})
        if not earlier:
            mlflow.log_params(_flat(model) | dict(chosen))
            if figures:
                mlflow.log_input(_dataset(workspace, model), context="training")
        # Beside the verdicts in words: figures that a search can compare, `metrics.`gate.champion` > 0`.
        observed = {f"{GATE_TAG}{v.gate}": v.observed for v in verdicts if v.has_figure and math.isfinite(v.observed)}
        mlflow.log_metrics({k: v for k, v in (figures | observed).items() if v == v})
        mlflow.log_dict({"verdicts": [v.as_dict() for v in verdicts]}, "gates.json")
        for path, text in _report(workspace, verdicts, explained).items():
            mlflow.log_text(text, path)
        mlflow.log_dict(dvc_remote.partitions(workspace.folder, workspace.data_version()), "partitions.json")
        mlflow.log_dict(environment(), "environment.json")
        if figures:
            mlflow.log_dict(_served_by(workspace), bill_of_materials.FILE)
        for file in _files(workspace, evaluated=bool(figures)):
            mlflow.log_artifact(str(file))
        return run.info.run_id


def _report(workspace: Workspace, verdicts: list[Verdict], explained: Mapping[str, str]) -> dict[str, str]:
    """The gates' report and its pictures, as texts by their path."""
    drawn = report.pictures(verdicts)
    texts = {**explained, **({RELIABILITY_PICTURE: drawn["calibration"]} if "calibration" in drawn else {})}
    names, pictures = (workspace.model, workspace.run, verdicts), [path for path in texts if path.endswith(".svg")]
    texts[report.MARKDOWN] = report.markdown(*names, pictures)
    texts[report.HTML] = report.html(*names, texts.get(SHAP_PICTURE, ""))
    return texts


def _files(workspace: Workspace, *, evaluated: bool) -> list[Path]:
    """The files of the workspace that belong to the record."""
    files = workspace.files
    recorded = [workspace.folder / name for name in (RUN_FILE, "dvc.lock", "params.yaml")]
    if read_json(files.validation)["quarantined"]:
        recorded.append(files.quarantine)
    recorded += [files.validation, files.counts]
    return [*recorded, files.metrics] if evaluated else recorded


def _served_by(workspace: Workspace) -> dict[str, Any]:
    """The list of what is in the version's serving image."""
    manifest = read_json(workspace.files.package / "manifest.json")
    packages = serving_packages(workspace.folder, manifest.get("runtime", "onnx"))
    return bill_of_materials.bill_of_materials(manifest, packages, base_image(workspace.folder))


def log_report(registry: Registry, name: str, version: str, report: Path) -> None:
    """Adds a drift report to its version's artifacts, for readers that do not share this disk."""
    client = registry.client()
    client.log_artifact(client.get_model_version(name, version).run_id, str(report), REPORTS)


def create_version(
    registry: Registry, workspace: Workspace, model: Model, mlflow_run: str, origin: str, verdicts: Sequence[Verdict]
) -> str:
    """Registers the run's model with its package and reference data, without an alias; returns the version.

    `verdicts` are those of the run's gates: a package is signed only when all passed. The same outcome of the same run, or of a
    backfill's same as-of, returns the version that exists. Raises GateError.
    """
    import mlflow

    client = registry.client()
    tags = _tags(workspace, origin)
    version = _version_of(client, workspace.model, tags)
    if version is None:
        # What is signed must be what was packaged: a slot would refuse it, when it is to go live.
        if damaged := refusal(workspace.files.package, registry.key, "", ""):
            raise GateError(f"model {workspace.model}", damaged, "nothing was registered; run it again")
        with mlflow.start_run(run_id=mlflow_run):
            mlflow.log_artifacts(str(workspace.files.package), "package")
            mlflow.log_artifact(str(workspace.files.reference))
            logged = logged_model.log(workspace, model)
            if origin == RETRAIN:
                tags |= judged.log_judged(workspace.files)
        tags[PACKAGE_TAG] = package_digest(workspace.files.package)
        tags[REFERENCE_TAG] = signing.digest(workspace.files.reference)
        if origin == RETRAIN:
            tags[SIGNATURE_TAG] = _signature(registry, workspace, verdicts)
        _ensure_registered(client, workspace.model, model.description)
        created = client.create_model_version(
            workspace.model, logged.model_uri, mlflow_run, tags=tags, model_id=logged.model_id
        )
        version = str(created.version)
        client.update_model_version(
            workspace.model, version, _description(registry, workspace, version, client, mlflow_run)
        )
    return version


def _signature(registry: Registry, workspace: Workspace, verdicts: Sequence[Verdict]) -> str:
    """The signature of a package whose gates all passed. Raises GateError for any other."""
    failed = [verdict.gate for verdict in verdicts if verdict.stops]
    if failed or not verdicts:
        raise GateError(
            f"model {workspace.model}", f"did not pass {', '.join(failed) or 'any gate'}", "nothing was registered"
        )
    return registry.key.sign((workspace.files.package / "manifest.json").read_bytes())


def _experiment(client: MlflowClient, registry: Registry, name: str) -> str:
    """The experiment's id. Not by set_experiment: in a race it puts runs into another experiment without an error."""
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        local = not registry.uri.startswith("http")
        try:
            return client.create_experiment(name, str(registry.artifact_root / name) if local else None)
        except MlflowException:
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                raise
    return experiment.experiment_id


def _ensure_registered(client: MlflowClient, name: str, description: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, description=description)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _version_of(client: MlflowClient, name: str, tags: dict[str, str]) -> str | None:
    """The version with the same outcome: of this run, or for a backfill of any run with this as-of."""
    compared = [DIGEST_TAG, DATA_TAG, ORIGIN_TAG, AS_OF_TAG if tags[ORIGIN_TAG] == BACKFILL else RUN_TAG]
    versions = client.search_model_versions(f"name = '{name}'")
    return next((str(v.version) for v in versions if all(v.tags.get(tag) == tags[tag] for tag in compared)), None)


def _description(registry: Registry, workspace: Workspace, version: str, client: MlflowClient, mlflow_run: str) -> str:
    """The text of a version's page in MLflow, in Markdown: it leads from the model back to its data."""
    data, day = workspace.data_version(), workspace.as_of[:10]
    experiment = client.get_run(mlflow_run).info.experiment_id
    listed = f"[{data}](#/experiments/{experiment}/runs/{mlflow_run}/artifacts/partitions.json)"
    page = f", [where else it was used]({registry.airflow}/perennial/data/{data})" if registry.airflow else ""
    choice = str(Choice.read(Evaluation.read(workspace.files.metrics).encodings))
    said = f"{choice[0].upper()}{choice[1:]}.\n\n" if choice else ""
    return (
        f"Trained on data version {listed}{page}, as of {day}.\n\n{said}"
        f"`perennial trace {data}` · `perennial reproduce {workspace.model} {version}`"
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
        # A backfill that does a run again keeps Airflow's run id: the same name, but another run.
        ORIGIN_TAG: origin,
    }


def _flat(model: Model) -> dict[str, str]:
    """Settings as MLflow params, dotted, at most 6,000 characters each. The rules of columns, and their encodings, are one param each, as JSON: MLflow allows
    few letters in a param's name, and a column may have any."""
    flat: dict[str, str] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict) and value:
            for key, inner in value.items():
                walk(f"{prefix}.{key}" if prefix else key, inner)
        else:
            flat[prefix] = str(value)[:6000]

    settings = model.model_dump(mode="json")
    contract = settings["gates"]["contract"]
    contract["columns"] = json.dumps(contract["columns"], ensure_ascii=False)
    for by_column in ("encodings", "calendar"):
        settings["training"][by_column] = json.dumps(settings["training"][by_column], ensure_ascii=False)
    walk("", {key: settings[key] for key in ("as_of", "source", "training", "evaluation", "gates")})
    return flat


def _dataset(workspace: Workspace, model: Model) -> Any:
    import pandas as pd
    from mlflow.data.pandas_dataset import from_pandas

    rows = pd.read_parquet(workspace.files.reference).drop(columns=[PREDICTION, PROBABILITIES], errors="ignore")
    warnings.filterwarnings("ignore", message="The specified dataset source can be interpreted")
    return from_pandas(
        rows,
        source=str(workspace.files.snapshot),
        targets=model.training.target,
        name=f"{workspace.model} snapshot (schema from a sample)",
        digest=workspace.data_version()[:32],
    )
