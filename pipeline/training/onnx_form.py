"""A fitted pipeline as ONNX: one graph, with the input matrices `numbers` and `texts`."""

from __future__ import annotations

import copy
import warnings
from typing import Any

from pipeline.errors import StageError
from pipeline.serving.schema import Schema
from pipeline.serving.schema.columns import Precision
from pipeline.settings.training import Training
from pipeline.training import booster_onnx, calibrated_onnx, double_onnx, frames, onnx_encoders, tasks
from pipeline.training.estimators import boosters
from pipeline.training.estimators.named import first_line
from pipeline.training.log_link import with_inverse_link


def innermost(estimator: Any) -> Any:
    """The estimator that a calibrated one has inside; any other as it is."""
    inside = getattr(estimator, "calibrated_classifiers_", None)
    return inside[0].estimator if inside else estimator


def onnx_bytes(estimator: Any, settings: Training, precision: Precision = "float32") -> bytes:
    """The fitted pipeline as ONNX, with the input matrices `numbers` and `texts`. Raises StageError when it cannot be converted."""
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, StringTensorType
    from sklearn.calibration import CalibratedClassifierCV

    schema, number = (
        Schema(frames.columns_of(settings)),
        FloatTensorType if precision == "float32" else DoubleTensorType,
    )
    matrices = (("numbers", number, schema.numbers), ("texts", StringTensorType, schema.texts))
    inputs = [(name, kind([None, len(columns)])) for name, kind, columns in matrices if columns]
    onnx_encoders.refuse_native(estimator)
    by_position = _columns_by_position(estimator, [*schema.numbers, *schema.texts])
    options = {id(by_position): {"zipmap": False}} if tasks.of(settings).estimator == "classifier" else None
    # scikit-learn's own advice to those who read an attribute, such as a converter.
    warnings.filterwarnings("ignore", message="Attribute `prob[AB]_` was deprecated", category=FutureWarning)
    conversions, shapes = onnx_encoders.converters()
    if precision == "float64":
        doubles, double_shapes = double_onnx.converters()
        conversions, shapes = conversions | doubles, shapes | double_shapes
    if isinstance(estimator[-1], CalibratedClassifierCV) and len(estimator[-1].calibrated_classifiers_) == 1:
        conversions = {**conversions, CalibratedClassifierCV: calibrated_onnx.convert}
    own = {"custom_conversion_functions": conversions, "custom_shape_calculators": shapes}
    booster_onnx.register_converters()
    versions = booster_onnx.OPSETS if boosters.is_booster(innermost(estimator[-1])) else None
    try:
        converted = convert_sklearn(by_position, "pipeline", inputs, options=options, target_opset=versions, **own)
    except Exception as error:
        # Converters raise whatever they come upon: KeyError, AttributeError, NotImplementedError.
        first = first_line(error)
        raise StageError(
            "package",
            f"the model cannot be converted to ONNX ({first})",
            "choose an estimator that skl2onnx converts, or set training.runtime: skops",
        ) from error
    converted = with_inverse_link(converted, estimator[-1])
    # The converter lists its operator sets in the order of a Python set, which differs from process to process.
    opsets = sorted(converted.opset_import, key=lambda opset: opset.domain)
    del converted.opset_import[:]
    converted.opset_import.extend(opsets)
    return converted.SerializeToString(deterministic=True)


def _columns_by_position(estimator: Any, names: list[str]) -> Any:
    """The same pipeline with columns addressed by position: two inputs run in half the time of one input a column."""
    position = {name: i for i, name in enumerate(names)}
    addressed = copy.copy(estimator)
    columns = copy.copy(estimator[0])
    columns.transformers_ = [
        (name, step, [position[column] for column in names])
        for name, step, names in columns.transformers_
        if len(names)
    ]
    addressed.steps = [(estimator.steps[0][0], columns), *estimator.steps[1:]]
    return addressed
