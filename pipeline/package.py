"""The package: all that a slot needs to serve one model, and the digests to prove it is unchanged.

model.onnx       the fitted pipeline, one input a feature
manifest.json    name, features with their kinds, task, sha256 of every other file
golden.json      requests with the answers that evaluation recorded
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline import training
from pipeline.errors import StageError
from pipeline.evaluation import PREDICTION
from pipeline.params import Model, Training
from pipeline.signing import MANIFEST, digest

MODEL, GOLDEN = "model.onnx", "golden.json"


def build(name: str, model: Model, model_file: Path, predictions: Path, folder: Path) -> dict[str, Any]:
    """Writes the package of a fitted model into `folder` and returns its manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MODEL).write_bytes(onnx_bytes(training.load(model_file), model.training))
    golden = golden_requests(pd.read_parquet(predictions), model)
    (folder / GOLDEN).write_text(json.dumps(golden, indent=1) + "\n", encoding="utf-8")
    manifest = {
        "model": name,
        "task": model.training.task,
        "features": [{"name": f, "kind": "number"} for f in model.training.numeric]
        + [{"name": f, "kind": "string"} for f in model.training.categorical],
        "key": model.source.key,
        "event_time": model.source.event_time,
        "model_digest": digest(model_file),
        "files": {file: digest(folder / file) for file in (MODEL, GOLDEN)},
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return manifest


def onnx_bytes(estimator: Any, settings: Training) -> bytes:
    """The fitted pipeline as ONNX. Raises StageError when it cannot be converted."""
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType

    inputs = [(f, FloatTensorType([None, 1])) for f in settings.numeric]
    inputs += [(f, StringTensorType([None, 1])) for f in settings.categorical]
    options = {id(estimator): {"zipmap": False}} if settings.task == "binary" else None
    try:
        converted = to_onnx(estimator, initial_types=inputs, options=options)
    except (RuntimeError, NotImplementedError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise StageError(
            "package", f"the model cannot be converted to ONNX ({first})", "choose an estimator that skl2onnx converts"
        ) from error
    # The converter lists its operator sets as a Python set happens to: another order in another process.
    opsets = sorted(converted.opset_import, key=lambda one: one.domain)
    del converted.opset_import[:]
    converted.opset_import.extend(opsets)
    return converted.SerializeToString(deterministic=True)


def golden_requests(predictions: pd.DataFrame, model: Model) -> dict[str, Any]:
    """Held-out rows spread over the range of predictions, as a request with the recorded answers."""
    ordered = predictions.sort_values(PREDICTION, ignore_index=True)
    count = min(model.evaluation.golden_rows, len(ordered))
    picked = ordered.iloc[[round(i * (len(ordered) - 1) / max(count - 1, 1)) for i in range(count)]]
    return {
        "request": {"dataframe_records": records(picked, model.training)},
        "predictions": picked[PREDICTION].tolist(),
    }


def records(rows: pd.DataFrame, settings: Training) -> list[dict[str, Any]]:
    """Feature rows as JSON objects; a missing value is null."""
    features = training.feature_frame(rows, settings)
    return [{c: _plain(v) for c, v in row.items()} for row in features.to_dict("records")]


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value or None
    return None if math.isnan(value) else float(value)
