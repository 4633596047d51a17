"""Answers from a package: checks its digests, then runs its ONNX model.

No pickle, no scikit-learn, no pandas: numpy arrays in, numpy array out.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

MODEL, MANIFEST, GOLDEN = "model.onnx", "manifest.json", "golden.json"


class PackageRefused(Exception):
    """A package that may not be served, and why."""


class BadRequest(Exception):
    """A request that cannot be answered: names the field and the row."""


class Runtime:
    """One loaded package. `features` are the names it wants, in order."""

    def __init__(self, manifest: dict[str, Any], session: ort.InferenceSession) -> None:
        self.manifest = manifest
        self.kinds: dict[str, str] = {f["name"]: f["kind"] for f in manifest["features"]}
        self.features = list(self.kinds)
        self.task = manifest["task"]
        self._session = session
        # By order, not by name: ONNX renames what is no identifier ("Floor Area").
        self._inputs = [given.name for given in session.get_inputs()]
        if len(self._inputs) != len(self.features):
            raise PackageRefused(f"the model wants {len(self._inputs)} inputs, the manifest names {len(self.features)}")
        self._output = session.get_outputs()[-1].name

    @classmethod
    def load(cls, folder: Path, threads: int = 1) -> Runtime:
        """Reads a package. Raises PackageRefused when a file is not what its manifest says."""
        try:
            manifest = json.loads((folder / MANIFEST).read_bytes())
            contents = {name: (folder / name).read_bytes() for name in manifest["files"]}
        except (OSError, ValueError, KeyError) as error:
            raise PackageRefused(f"package {folder} cannot be read: {error}") from error
        for name, expected in manifest["files"].items():
            if hashlib.sha256(contents[name]).hexdigest() != expected:
                raise PackageRefused(f"package {folder}: {name} is not what was packaged")
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        # The very bytes that were checked, not the file again.
        return cls(manifest, ort.InferenceSession(contents[MODEL], options, providers=["CPUExecutionProvider"]))

    def predict(self, columns: dict[str, np.ndarray]) -> np.ndarray:
        """Predictions, float64 of shape (rows,), for one array of shape (rows,) a feature."""
        feed = {given: columns[name].reshape(-1, 1) for given, name in zip(self._inputs, self.features, strict=True)}
        answer = self._session.run([self._output], feed)[0]
        if self.task == "binary":
            answer = answer[:, 1]
        return np.asarray(answer, dtype="float64").reshape(-1)

    def predict_frame(self, frame: Any) -> np.ndarray:
        """The same for a pandas frame that has the features as columns."""
        columns = {}
        for name, kind in self.kinds.items():
            values = frame[name]
            if kind == "number":
                columns[name] = values.to_numpy(dtype="float32")
            else:
                columns[name] = values.astype(object).where(values.notna(), "").to_numpy(dtype=object)
        return self.predict(columns)

    def columns(self, records: list[dict[str, Any]]) -> dict[str, np.ndarray]:
        """Arrays from JSON objects, one a row. Raises BadRequest naming the field and the row."""
        return {name: self._column(name, kind, records) for name, kind in self.kinds.items()}

    def _column(self, name: str, kind: str, records: list[dict[str, Any]]) -> np.ndarray:
        values = []
        for row, record in enumerate(records):
            if name not in record:
                raise BadRequest(f"row {row}: column {name} is missing")
            values.append(_number(record[name], name, row) if kind == "number" else _string(record[name], name, row))
        return np.array(values, dtype="float32" if kind == "number" else object)


def _number(value: Any, name: str, row: int) -> float:
    if value is None:
        return float("nan")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadRequest(f"row {row}: column {name} wants a number, not {json.dumps(value)[:40]}")
    if value in (float("inf"), float("-inf")) or abs(value) > 3.4e38:
        raise BadRequest(f"row {row}: column {name} wants a finite number")
    return float(value)


def _string(value: Any, name: str, row: int) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadRequest(f"row {row}: column {name} wants text, not {json.dumps(value)[:40]}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        # JSON can spell half a character; UTF-8, and so ONNX, cannot.
        raise BadRequest(f"row {row}: column {name} is not valid text") from error
    return value
