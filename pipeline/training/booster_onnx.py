"""XGBoost and LightGBM in ONNX: onnxmltools' converters, taught to skl2onnx."""

from __future__ import annotations

import sys
from typing import Any

from pipeline.training.double_onnx import TREES, DoubleTrees

# By domain. Trees of a later version have attributes that these converters do not write.
OPSETS = {"": 18, "ai.onnx.ml": 3}


def register_converters() -> None:
    """Makes skl2onnx know the boosters that this process has imported."""
    from skl2onnx import update_registered_converter
    from skl2onnx.common.shape_calculator import (
        calculate_linear_classifier_output_shapes,
        calculate_linear_regressor_output_shapes,
    )

    for library, prefix in (("xgboost", "XGB"), ("lightgbm", "LGBM")):
        if library not in sys.modules:
            continue
        convert, classes = _converter(library), sys.modules[library]
        update_registered_converter(
            getattr(classes, f"{prefix}Classifier"),
            f"Perennial{prefix}Classifier",
            calculate_linear_classifier_output_shapes,
            convert,
            options={"zipmap": [True, False, "columns"], "nocl": [True, False], "raw_scores": [True, False]},
        )
        update_registered_converter(
            getattr(classes, f"{prefix}Regressor"),
            f"Perennial{prefix}Regressor",
            calculate_linear_regressor_output_shapes,
            convert,
        )


def _converter(library: str) -> Any:
    """The library's converter, with raw scores in place of probabilities where that is asked, and in float64 where the input is."""
    if library == "xgboost":
        from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost as converter
    else:
        from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm as converter

    def convert(scope: Any, operator: Any, container: Any) -> None:
        from skl2onnx.common.data_types import DoubleTensorType

        if isinstance(operator.inputs[0].type, DoubleTensorType):
            container = DoubleTrees(scope, container)
        of = operator.raw_operator
        if hasattr(of, "classes_") and container.get_options(of, {"raw_scores": False}).get("raw_scores"):
            container = _RawScores(container)
        converter(scope, operator, container)

    return convert


class _RawScores:
    """A container whose trees give the sums of their leaves."""

    def __init__(self, container: Any) -> None:
        self._container = container

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def add_node(self, op_type: str, inputs: Any, outputs: Any, **attributes: Any) -> None:
        if op_type in TREES:
            attributes["post_transform"] = "NONE"
        self._container.add_node(op_type, inputs, outputs, **attributes)
