"""Predicts with a package. The package's contents are checked before anything is loaded; no pickle is involved.

The manifest names the runtime: `onnx`, or `skops` for models that ONNX cannot hold.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from pipeline.serving import contents
from pipeline.serving.errors import PackageRefused
from pipeline.serving.schema import Reader, Rows, Schema
from pipeline.serving.schema.blocks import number_matrix


class Predictor(Protocol):
    """A loaded model."""

    platform: str

    def __call__(self, numbers: np.ndarray, texts: np.ndarray) -> np.ndarray:
        """Predictions, float64 (rows,) or (rows, classes), for (rows, numbers) in the schema's precision and object (rows, texts)."""


class Runtime:
    """One loaded package; `reader` is the contract of its requests, `golden` the bytes of its golden request.

    Its predictions are float64 (rows,), or (rows, classes) where it has `classes`. `background` are the rows, as JSON records, that its
    explanations compare with; None where it may not explain.
    """

    def __init__(self, checked: contents.Contents, on_breach: Literal["refuse", "flag"] = "refuse") -> None:
        self.manifest = checked.manifest
        try:
            self.reader, self.task = Reader(schema_of(checked), on_breach), self.manifest["task"]
            self.classes = tuple(self.manifest.get("classes", ()))
            self._predictor = _predictor(self.manifest, checked.files, self.reader)
        except (KeyError, TypeError) as error:
            raise PackageRefused(f"package: its manifest has no {error}") from error
        self.golden = checked.files[contents.GOLDEN]
        self.background = checked.files.get(contents.BACKGROUND)

    @classmethod
    def load(cls, folder: Path, public_key: str = "", signature: str = "") -> Runtime:
        """Reads and loads a package. Raises PackageRefused when a file was changed or the signature does not fit."""
        return cls(contents.read(folder, public_key, signature))

    @property
    def platform(self) -> str:
        """The runtime's name in the v2 protocol."""
        return self._predictor.platform

    @property
    def features(self) -> list[str]:
        """The feature columns of a request: categories come last."""
        return self.reader.names

    def predict(self, rows: Rows) -> np.ndarray:
        """Predictions for a request's rows."""
        return self._predictor(rows.numbers, rows.texts)

    def predict_frame(self, frame: Any) -> np.ndarray:
        """Predictions for a pandas frame that has the features as columns, in a snapshot's neutral form, and the event time for ages."""
        return self.predict(self.rows_of_frame(frame))

    def rows_of_frame(self, frame: Any) -> Rows:
        """The rows of a pandas frame as for `predict_frame`, without keys and times."""
        reader, unknown = self.reader, [None] * len(frame)
        numbers = number_matrix(frame, reader.fields, reader.zone, reader.event_time)
        return Rows(numbers, self._words(frame), unknown, unknown)

    def predict_logged(self, frame: Any) -> np.ndarray:
        """The same for a pandas frame that has the features as the prediction log has them."""
        numbers = self.reader.held(frame[self.reader.numbers].to_numpy("float64"))
        return self._predictor(numbers, self._words(frame))

    def _words(self, frame: Any) -> np.ndarray:
        reader = self.reader
        texts = frame[reader.texts].astype(object)
        words = texts.where(texts.notna(), "").to_numpy(object, copy=True)
        # Another version's rows may spell what is the same category in another way.
        reader.spell(words)
        return words

    def batch_speedup(self) -> float:
        """How many times faster eight rows of the golden request are predicted in one run than in a run each."""
        import orjson

        rows = self.reader.of_records(orjson.loads(self.golden)["request"]["dataframe_records"][:8])
        single = Rows(rows.numbers[:1], rows.texts[:1], rows.keys[:1], rows.times[:1])
        return len(rows) * self._run_s(single) / self._run_s(rows)

    def _run_s(self, rows: Rows, runs: int = 5) -> float:
        self.predict(rows)
        start = time.perf_counter()
        for _ in range(runs):
            self.predict(rows)
        return (time.perf_counter() - start) / runs


def schema_of(checked: contents.Contents) -> Schema:
    """The schema of a package. Raises KeyError or TypeError when its manifest has none."""
    import orjson

    learnt = orjson.loads(checked.files[contents.CATEGORIES]) if contents.CATEGORIES in checked.files else None
    return Schema.of_manifest(checked.manifest, learnt)


def output_of(manifest: Mapping[str, Any]) -> str:
    """What the package's model gives for a row: a number, the probability of 1, or one of each class.

    Packages of the time before they said so are of two tasks.
    """
    return manifest.get("output") or ("probability" if manifest["task"] == "binary" else "number")


def _predictor(manifest: dict[str, Any], files: dict[str, bytes], reader: Reader) -> Predictor:
    match manifest.get("runtime", "onnx"):
        case "onnx":
            from pipeline.serving.onnx_model import OnnxModel

            return OnnxModel(files["model.onnx"], reader, output_of(manifest))
        case "skops":
            from pipeline.serving.skops_model import SkopsModel

            return SkopsModel(files["model.skops"], reader, output_of(manifest))
        case other:
            raise PackageRefused(f"package: runtime must be one of onnx, skops; got {other}")
