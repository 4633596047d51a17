"""A scikit-learn pipeline from a skops file, for models that ONNX cannot hold. Only trusted types are built."""

from __future__ import annotations

import warnings
from itertools import chain
from typing import Any

import numpy as np

from pipeline.serving.errors import PackageRefused
from pipeline.serving.schema import Reader
from pipeline.serving.schema.texts import names_before
from pipeline.serving.trusted import TRUSTED_TYPES


class SkopsModel:
    """A Predictor on scikit-learn."""

    platform = "sklearn_skops"

    def __init__(self, model: bytes, reader: Reader, output: str) -> None:
        import skops.io
        from skops.io.exceptions import UntrustedTypesFoundException

        try:
            fitted = skops.io.loads(model, trusted=TRUSTED_TYPES)
        except (UntrustedTypesFoundException, TypeError, ValueError, KeyError) as error:
            raise PackageRefused(f"package: model.skops cannot be loaded ({error})") from error
        self._columns, self._estimator = fitted[0].transformers_, fitted[-1]
        before = (names_before(c.name, c.groups) if c.kind == "text" else c.matrix for c in reader.fields)
        self._numbers = {name: i for i, name in enumerate(chain(*before))}
        self._numbers |= {name: i for i, name in enumerate(reader.numbers)}
        self._texts = {name: i for i, name in enumerate(reader.texts)}
        self._output = output

    def __call__(self, numbers: np.ndarray, texts: np.ndarray) -> np.ndarray:
        """Transforms block by block, because scikit-learn finds columns by name only in a pandas frame."""
        with warnings.catch_warnings():
            # The model was fitted with column names and gets none here; the blocks keep the order.
            warnings.simplefilter("ignore", UserWarning)
            blocks = [self._block(step, columns, numbers, texts) for _, step, columns in self._columns]
            rows = np.hstack([block for block in blocks if block is not None])
            if self._output != "number":
                probabilities = np.ascontiguousarray(self._estimator.predict_proba(rows), "float64")
                return probabilities if self._output == "probabilities" else probabilities[:, 1].copy()
            return np.asarray(self._estimator.predict(rows), "float64").reshape(-1)

    def _block(self, step: Any, columns: Any, numbers: np.ndarray, texts: np.ndarray) -> np.ndarray | None:
        if step == "drop" or not len(columns):
            return None
        if columns[0] in self._numbers:
            block = numbers[:, [self._numbers[name] for name in columns]]
        else:
            block = texts[:, [self._texts[name] for name in columns]]
        return block if step == "passthrough" else step.transform(block)
