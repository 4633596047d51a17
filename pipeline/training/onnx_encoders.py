"""ONNX for encoders of categories where skl2onnx has no exact form: TargetEncoder, for each kind of target.

A table from text to number for each column, and for each class of a multi-class target. The numbers are float32, as `encodings.made_exact`
has them, so that an input of float64 changes nothing.
"""

from __future__ import annotations

from typing import Any

from pipeline.errors import StageError
from pipeline.training import encodings


def refuse_native(fitted: Any) -> None:
    """Raises StageError for splits by sets of categories: skl2onnx converts them to other splits, and says nothing."""
    if native := [column for column, name in encodings.used(fitted).items() if name == "native"]:
        raise StageError(
            "package",
            f"column {native[0]} has native splits by categories, which ONNX has not",
            "choose another training.encoding, or set training.runtime: skops",
        )


def converters() -> tuple[dict[type, Any], dict[type, Any]]:
    """(what converts an encoder's class, what calculates the shape of its output), for skl2onnx."""
    from sklearn.preprocessing import TargetEncoder

    return {TargetEncoder: _means}, {TargetEncoder: _means_shape}


def _means(scope: Any, operator: Any, container: Any) -> None:
    """A column of texts at a time becomes the numbers of its categories."""
    from onnx import TensorProto
    from skl2onnx.common.data_types import DoubleTensorType
    from skl2onnx.operator_converters.common import concatenate_variables

    encoder, name = operator.raw_operator, scope.get_unique_variable_name
    given = operator.inputs[0].full_name
    if len(operator.inputs) > 1:
        given = concatenate_variables(scope, operator.inputs, container)
    classes = len(encoder.encodings_) // len(encoder.categories_)
    unknown = encoder.target_mean_ if classes > 1 else [float(encoder.target_mean_)]
    parts = []
    for place, categories in enumerate(encoder.categories_):
        index, column = name("place"), name("column")
        container.add_initializer(index, TensorProto.INT64, [1], [place])
        container.add_node(
            "Gather", [given, index], [column], op_version=13, axis=1, name=scope.get_unique_operator_name("Gather")
        )
        for each in range(classes):
            parts.append(name("means"))
            container.add_node(
                "LabelEncoder",
                [column],
                [parts[-1]],
                op_domain="ai.onnx.ml",
                op_version=2,
                name=scope.get_unique_operator_name("LabelEncoder"),
                keys_strings=[str(category).encode() for category in categories],
                values_floats=[float(mean) for mean in encoder.encodings_[place * classes + each]],
                default_float=float(unknown[each]),
            )
    double = isinstance(operator.outputs[0].type, DoubleTensorType)
    joined = name("joined") if double else operator.outputs[0].full_name
    container.add_node("Concat", parts, [joined], op_version=13, axis=1, name=scope.get_unique_operator_name("Concat"))
    if double:
        outputs = [operator.outputs[0].full_name]
        container.add_node(
            "Cast", [joined], outputs, op_version=13, to=TensorProto.DOUBLE, name=scope.get_unique_operator_name("Cast")
        )


def _means_shape(operator: Any) -> None:
    from skl2onnx.common.data_types import FloatTensorType

    operator.outputs[0].type = FloatTensorType(
        [operator.inputs[0].type.shape[0], len(operator.raw_operator.encodings_)]
    )
