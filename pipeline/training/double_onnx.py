"""Operators of ONNX for inputs of float64, where skl2onnx would fall to float32 or name an operator that onnxruntime lacks.

Linear models need a median that is filled in by plain operators: ONNX's Imputer takes float32 only. Trees keep their splits and
leaves as tensors of float64, which ONNX has since version 3 of its operators for trees. Those give float32: a regression's
baseline is added behind them, in float64, so that predictions that lie close together far from 0 stay apart.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

TREES = ("TreeEnsembleClassifier", "TreeEnsembleRegressor")
# Attributes of TREES that may be tensors, and then float64.
VALUES = ("nodes_values", "class_weights", "target_weights", "base_values")
ML_DOMAIN, ML_VERSION = "ai.onnx.ml", 3


def converters() -> tuple[dict[type, Callable[..., None]], dict[type, Callable[..., None]]]:
    """(what converts an estimator's class, what calculates the shape of its output), for skl2onnx."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.feature_extraction.text import TfidfTransformer
    from sklearn.impute import SimpleImputer

    conversions = {
        TfidfTransformer: _tf_idf,
        SimpleImputer: _median,
        HistGradientBoostingClassifier: _trees_with("convert_sklearn_random_forest_classifier"),
        HistGradientBoostingRegressor: _trees_with("convert_sklearn_random_forest_regressor_converter"),
    }
    return conversions, {SimpleImputer: _median_shape, TfidfTransformer: _same_shape}


def _median(scope: Any, operator: Any, container: Any) -> None:
    """Missing values become the column's median."""
    from onnx import TensorProto
    from skl2onnx.operator_converters.common import concatenate_variables

    many = len(operator.inputs) > 1
    given = concatenate_variables(scope, operator.inputs, container) if many else operator.inputs[0].full_name
    medians = operator.raw_operator.statistics_
    median, gone = scope.get_unique_variable_name("median"), scope.get_unique_variable_name("missing")
    container.add_initializer(median, TensorProto.DOUBLE, [1, len(medians)], medians.tolist())
    container.add_node("IsNaN", [given], [gone], op_version=13, name=scope.get_unique_operator_name("IsNaN"))
    filled = [operator.outputs[0].full_name]
    container.add_node(
        "Where", [gone, median, given], filled, op_version=9, name=scope.get_unique_operator_name("Where")
    )


def _median_shape(operator: Any) -> None:
    from skl2onnx.common.data_types import DoubleTensorType

    operator.outputs[0].type = DoubleTensorType(
        [operator.inputs[0].type.shape[0], len(operator.raw_operator.statistics_)]
    )


def _tf_idf(scope: Any, operator: Any, container: Any) -> None:
    """Counts times their weights, each row to the length 1. skl2onnx divides a row without words by its length, 0."""
    from onnx import TensorProto

    weights, smallest, weighed, length, divisor = map(
        scope.get_unique_variable_name, ("weights", "smallest", "weighed", "length", "divisor")
    )
    idf = operator.raw_operator.idf_
    container.add_initializer(weights, TensorProto.DOUBLE, [len(idf)], idf.tolist())
    container.add_initializer(smallest, TensorProto.DOUBLE, [1], [float(np.finfo("float64").tiny)])

    def add(kind: str, given: list[str], made: str, version: int, **attributes: Any) -> None:
        name = scope.get_unique_operator_name(kind)
        container.add_node(kind, given, [made], op_version=version, name=name, **attributes)

    add("Mul", [operator.inputs[0].full_name, weights], weighed, 7)
    add("ReduceL2", [weighed], length, 13, axes=[1], keepdims=1)
    add("Max", [length, smallest], divisor, 12)
    add("Div", [weighed, divisor], operator.outputs[0].full_name, 7)


def _same_shape(operator: Any) -> None:
    operator.outputs[0].type = operator.inputs[0].type


def _trees_with(converter: str) -> Callable[..., None]:
    """skl2onnx's converter of that name, whose trees are written in float64."""

    def convert(scope: Any, operator: Any, container: Any) -> None:
        from skl2onnx.operator_converters import random_forest

        getattr(random_forest, converter)(scope, operator, DoubleTrees(scope, container), op_version=ML_VERSION)

    return convert


class DoubleTrees:
    """A container of skl2onnx that writes the nodes of trees in float64, and any other as it comes."""

    def __init__(self, scope: Any, container: Any) -> None:
        self._scope, self._container = scope, container

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def add_node(self, op_type: str, inputs: Any, outputs: Any, **attributes: Any) -> None:
        if op_type not in TREES:
            self._container.add_node(op_type, inputs, outputs, **attributes)
            return
        from onnx import TensorProto, numpy_helper

        base = attributes.pop("base_values", None) if op_type == "TreeEnsembleRegressor" else None
        values = {name: np.asarray(attributes.pop(name), "float64").ravel() for name in VALUES if name in attributes}
        attributes |= {f"{name}_as_tensor": numpy_helper.from_array(array) for name, array in values.items()}
        outputs = [outputs] if isinstance(outputs, str) else list(outputs)
        *others, answer = outputs
        single, double = (self._scope.get_unique_variable_name(name) for name in ("single", "double"))
        self._container.add_node(op_type, inputs, [*others, single], **attributes)
        cast = answer if base is None else double
        name = self._scope.get_unique_operator_name
        self._container.add_node("Cast", [single], [cast], op_version=13, name=name("Cast"), to=TensorProto.DOUBLE)
        if base is not None:
            baseline = self._scope.get_unique_variable_name("baseline")
            self._container.add_initializer(
                baseline, TensorProto.DOUBLE, [1, len(np.ravel(base))], np.ravel(base).tolist()
            )
            self._container.add_node("Add", [double, baseline], [answer], op_version=14, name=name("Add"))
