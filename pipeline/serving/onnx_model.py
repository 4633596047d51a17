"""An ONNX model. Its inputs are one matrix of numbers and one of texts; in older packages, one input for each column."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort

from pipeline.serving.errors import PackageRefused
from pipeline.serving.schema import Reader

NUMBERS, TEXTS = "numbers", "texts"
ort.disable_telemetry_events()


class OnnxModel:
    """A Predictor on onnxruntime, in one thread."""

    platform = "onnxruntime_onnx"

    def __init__(self, model: bytes, reader: Reader, output: str) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            # The errors of onnxruntime have no base class of their own.
            raise PackageRefused(f"package: model.onnx cannot be loaded ({error})") from error
        self._output = [self._session.get_outputs()[-1].name]
        self._one_probability, self._several = output == "probability", output == "probabilities"
        self._inputs = [node.name for node in self._session.get_inputs()]
        matrices = [name for name, columns in ((NUMBERS, reader.numbers), (TEXTS, reader.texts)) if columns]
        # 0 for matrices, else the number of single columns.
        self._columns = 0 if self._inputs == matrices else len(reader.fields)
        if self._columns and len(self._inputs) != self._columns:
            raise PackageRefused(
                f"package: model.onnx has {len(self._inputs)} inputs, the manifest {self._columns} features"
            )

    def __call__(self, numbers: np.ndarray, texts: np.ndarray) -> np.ndarray:
        if self._columns:
            # By order, not by name: ONNX renames columns that are no identifiers ("Floor Area").
            columns = [block[:, [i]] for block in (numbers, texts) for i in range(block.shape[1])]
            feed = dict(zip(self._inputs, columns, strict=True))
        else:
            feed = {name: numbers if name == NUMBERS else texts for name in self._inputs}
        answer = self._session.run(self._output, feed)[0]
        if self._several:
            return np.ascontiguousarray(answer, "float64")
        # A copy is in one piece, as the answer's encoder wants it: a column of a float64 answer would be a view.
        return answer[:, 1].astype("float64") if self._one_probability else answer.astype("float64").reshape(-1)
