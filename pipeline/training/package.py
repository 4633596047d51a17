"""Builds the package: all files that a slot needs to serve one version, with their digests.

model.onnx       the fitted pipeline, with two matrices as inputs and one as output; model.skops where ONNX is not possible. Numbers are
                 float32, or float64 where the schema says so (see double_onnx)
manifest.json    name, the schema of its columns, task, runtime, to when it has learnt, sha256 of every other file
categories.json  the categories that the model learnt, by column
golden.json      golden requests with the answers that scikit-learn gave, and how far a slot's may differ
background.json  held-out rows that explanations compare with; only with `evaluation.explain`
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.data.schema_rules import with_rules
from pipeline.errors import StageError
from pipeline.serving.contents import BACKGROUND, CATEGORIES
from pipeline.serving.runtime import Runtime
from pipeline.serving.schema import Schema
from pipeline.serving.schema.columns import Precision
from pipeline.settings.models import Model
from pipeline.settings.training import Training
from pipeline.training import frames, onnx_form, parity, pipelines, skops_file, tasks
from pipeline.training.estimators import boosters
from pipeline.training.estimators.named import first_line
from pipeline.training.signing import MANIFEST, digest
from pipeline.training.tasks import PREDICTION, Answers, classes_of

GOLDEN = "golden.json"
# The manifest's key for the exclusive end of the event times that the model was fitted on, ISO 8601.
TRAINED_TO = "trained_to"
BACKGROUND_ROWS = 64
MODELS = {"onnx": "model.onnx", "skops": "model.skops"}


def build(
    name: str,
    model: Model,
    model_file: Path,
    predictions: Path,
    folder: Path,
    snapshot: Path | None = None,
    refitted: bool = False,
) -> dict[str, Any]:
    """Writes the package of a fitted model into `folder` and returns its manifest. The schema is that of `snapshot`. `refitted` says that
    the model has learnt as `evaluation.refit` says, so that the manifest has to when.

    Raises StageError for a model that cannot be served as `training.runtime` says.
    """
    folder.mkdir(parents=True, exist_ok=True)
    fitted = skops_file.load(model_file)
    schema = pipelines.with_learnt(with_rules(frames.schema_of(model, snapshot), model), fitted)
    held_out = pd.read_parquet(predictions)
    trained_to = frames.trained_to(held_out, model) if refitted else model.held_out_from.isoformat()
    classes = classes_of(fitted)
    golden = golden_requests(held_out, model, schema, classes)
    (folder / CATEGORIES).write_text(_categories(schema), encoding="utf-8")
    (folder / GOLDEN).write_text(json.dumps(golden, indent=1) + "\n", encoding="utf-8")
    if model.evaluation.explain:
        background = frames.records(background_rows(held_out), schema)
        (folder / BACKGROUND).write_text(json.dumps(background, indent=1) + "\n", encoding="utf-8")
    runtime, content, reason = _served(model_file, fitted, model.training, schema.precision)
    manifest = _written(name, model, schema, model_file, folder, runtime, content, reason, classes, trained_to)
    if model.training.runtime != "auto" or runtime != "onnx":
        return manifest
    if reason := _unlike(folder, held_out, classes, golden["scale"], model.gates.parity_tolerance):
        _refuse_skops(fitted, model.training, reason)
        (folder / MODELS[runtime]).unlink()
        return _written(
            name, model, schema, model_file, folder, "skops", model_file.read_bytes(), reason, classes, trained_to
        )
    return manifest


def _unlike(folder: Path, held_out: pd.DataFrame, classes: tuple[str, ...], scale: float, tolerance: float) -> str:
    """How the package's ONNX answers the held-out rows otherwise than scikit-learn did; '' when it answers alike."""
    try:
        answers = Runtime.load(folder).predict_frame(held_out)
    except Exception as error:
        # onnxruntime has its own exceptions, for a graph that it cannot load and for a row that it cannot compute.
        return f"onnxruntime cannot run its ONNX ({first_line(error)[:200]})"
    difference = parity.difference(answers, Answers.of(held_out, classes).values, scale)
    # NaN is within no limit.
    if difference <= tolerance:
        return ""
    limit = f"limit {tolerance:g} (gates.parity_tolerance)"
    return f"ONNX answers held-out rows otherwise: largest difference {difference:.1e}, {limit}"


def _written(
    name: str,
    model: Model,
    schema: Schema,
    model_file: Path,
    folder: Path,
    runtime: str,
    content: bytes,
    reason: str,
    classes: tuple[str, ...],
    trained_to: str,
) -> dict[str, Any]:
    """Writes the model in that form, and the manifest, which it returns."""
    file, task = MODELS[runtime], tasks.of(model.training)
    background = [BACKGROUND] if model.evaluation.explain else []
    (folder / file).write_bytes(content)
    manifest = {
        "model": name,
        "task": task.name,
        "output": task.output,
        **({"classes": list(classes)} if classes else {}),
        "answer": task.answer(classes),
        "runtime": runtime,
        "runtime_reason": reason,
        "schema": schema.as_json(),
        "features": features(schema),
        "key": schema.key,
        "event_time": schema.event_time,
        "model_digest": digest(model_file),
        TRAINED_TO: trained_to,
        "files": {path: digest(folder / path) for path in (file, GOLDEN, CATEGORIES, *background)},
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return manifest


def _categories(schema: Schema) -> str:
    """The categories that the model learnt, by column."""
    learnt = {column.name: sorted(column.learnt) for column in schema.columns if column.learnt is not None}
    return json.dumps(learnt, indent=1) + "\n"


def features(schema: Schema) -> list[dict[str, Any]]:
    """The columns as manifests had them before schemas: a slot of that time can still serve the package."""
    columns = []
    for column in schema.columns:
        feature: dict[str, Any] = {
            "name": column.name,
            "kind": "string" if column.kind in ("category", "text") else "number",
            "nullable": column.nullable,
        }
        if column.kind == "integer":
            feature["integer"] = True
        if column.allowed:
            feature["allowed"] = list(column.allowed)
        columns.append(feature)
    return columns


def _served(model_file: Path, fitted: Any, settings: Training, precision: Precision) -> tuple[str, bytes, str]:
    """(runtime, content of the model's file, why not ONNX). Raises StageError when the model must be ONNX and cannot be."""
    if settings.runtime == "skops":
        _refuse_skops(fitted, settings, "params.yaml says training.runtime: skops")
        return "skops", model_file.read_bytes(), "params.yaml says training.runtime: skops"
    try:
        return "onnx", onnx_form.onnx_bytes(fitted, settings, precision), ""
    except StageError as error:
        if settings.runtime == "onnx":
            raise
        _refuse_skops(fitted, settings, error.observation)
        return "skops", model_file.read_bytes(), error.observation


def _refuse_skops(fitted: Any, settings: Training, why: str) -> None:
    """Raises StageError for a model that the serving image cannot read."""
    if boosters.is_booster(onnx_form.innermost(fitted[-1])):
        raise StageError(
            "package",
            f"{why}; {settings.estimator} is served from ONNX only, because the serving image does not have it",
            "change training.options, training.calibration or the data's scale, or use training.estimator: boosting",
        )


def golden_requests(
    predictions: pd.DataFrame, model: Model, schema: Schema, classes: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The golden requests: held-out rows spread evenly over the range of predictions, with the recorded answers."""
    ordered = _ordered(predictions)
    count = min(model.evaluation.golden_rows, len(ordered))
    picked = ordered.iloc[[round(i * (len(ordered) - 1) / max(count - 1, 1)) for i in range(count)]]
    return {
        "request": {"dataframe_records": frames.records(picked, schema)},
        "predictions": Answers.of(picked, classes).as_json,
        "scale": tasks.of(model.training).scale(Answers.of(predictions, classes).values),
        "tolerance": model.gates.parity_tolerance,
    }


def background_rows(predictions: pd.DataFrame) -> pd.DataFrame:
    """The held-out rows that explanations compare with: the middle one of each of BACKGROUND_ROWS equal parts of the range of
    predictions, so that their mean prediction is near that of all."""
    ordered = _ordered(predictions)
    count = min(BACKGROUND_ROWS, len(ordered))
    return ordered.iloc[[int((i + 0.5) * len(ordered) / count) for i in range(count)]]


def _ordered(predictions: pd.DataFrame) -> pd.DataFrame:
    # Stable: which of equal answers comes first must not hang on the processor's way to sort.
    return predictions.sort_values(PREDICTION, kind="stable", ignore_index=True)
