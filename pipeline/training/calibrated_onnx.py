"""A calibrated classifier in ONNX, by plain operators.

skl2onnx takes the nearest step of an isotonic curve, where scikit-learn draws a line between two, and takes one row at a time.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def convert(scope: Any, operator: Any, container: Any) -> None:
    """Converts what `calibration.calibrated` makes: one classifier, with a calibrator for each class, or for the second of two."""
    from onnx import TensorProto
    from skl2onnx.common.data_types import DoubleTensorType

    (inner,) = operator.raw_operator.calibrated_classifiers_
    double = isinstance(operator.inputs[0].type, DoubleTensorType)
    graph = _Graph(scope, container, TensorProto.DOUBLE if double else TensorProto.FLOAT)
    scores = _scores(inner.estimator, scope, operator, container)
    classes, labels = operator.raw_operator.classes_, operator.outputs[0].full_name
    two = len(classes) == 2
    places = [1] if two else range(len(classes))
    curves = [
        _curve(graph, graph.node("Gather", [scores, graph.whole([place])], axis=1), calibrator)
        for place, calibrator in zip(places, inner.calibrators, strict=True)
    ]
    if two:
        shares = graph.node("Concat", [graph.node("Sub", [graph.number([[1.0]]), curves[0]]), curves[0]], axis=1)
    else:
        shares = _normalised(graph, graph.node("Concat", curves, axis=1), len(classes))
    likeliest = graph.node("ArgMax", [shares], axis=1, keepdims=0)
    graph.node("Gather", [graph.whole(np.asarray(classes, "int64")), likeliest], into=labels)
    graph.node("Identity", [shares], into=operator.outputs[1].full_name)


def _scores(estimator: Any, scope: Any, operator: Any, container: Any) -> str:
    """What the calibrator was fitted on: decision_function where the classifier has one, else its probabilities."""
    from skl2onnx._supported_operators import sklearn_operator_name_map
    from skl2onnx.common.data_types import Int64TensorType

    if type(estimator) not in sklearn_operator_name_map:
        raise RuntimeError(f"{type(estimator).__name__} has no converter")
    inside = scope.declare_local_operator(sklearn_operator_name_map[type(estimator)], estimator)
    if hasattr(estimator, "decision_function"):
        if not container.has_options(estimator, "raw_scores"):
            raise RuntimeError(f"the converter of {type(estimator).__name__} gives no decision_function")
        container.add_options(id(estimator), {"raw_scores": True})
        scope.add_options(id(estimator), {"raw_scores": True})
    inside.inputs = operator.inputs
    scores = scope.declare_local_variable("scores", operator.inputs[0].type.__class__())
    inside.outputs.append(scope.declare_local_variable("label", Int64TensorType()))
    inside.outputs.append(scores)
    return scores.full_name


class _Graph:
    """Adds nodes and constants under names of their own."""

    def __init__(self, scope: Any, container: Any, kind: int) -> None:
        self._scope, self._container, self._kind = scope, container, kind

    def number(self, values: Any) -> str:
        return self._constant(self._kind, np.asarray(values, "float64"))

    def whole(self, values: Any) -> str:
        from onnx import TensorProto

        return self._constant(TensorProto.INT64, np.asarray(values, "int64"))

    def node(self, kind: str, inputs: list[str], into: str = "", **attributes: Any) -> str:
        output = into or self._scope.get_unique_variable_name(kind.lower())
        name = self._scope.get_unique_operator_name(kind)
        self._container.add_node(kind, inputs, [output], op_version=13, name=name, **attributes)
        return output

    def _constant(self, kind: int, values: np.ndarray) -> str:
        name = self._scope.get_unique_variable_name("constant")
        self._container.add_initializer(name, kind, list(values.shape), values.ravel().tolist())
        return name


def _curve(graph: _Graph, scores: str, calibrator: Any) -> str:
    """The calibrator's answer, (rows, 1), for scores of that shape."""
    if hasattr(calibrator, "a_"):
        # 1 / (1 + exp(a * score + b))
        line = graph.node("Mul", [scores, graph.number([[-calibrator.a_]])])
        return graph.node("Sigmoid", [graph.node("Add", [line, graph.number([[-calibrator.b_]])])])
    at, answers = np.asarray(calibrator.X_thresholds_), np.asarray(calibrator.y_thresholds_)
    if len(at) == 1:
        at, answers = np.repeat(at, 2) + [0, 1], np.repeat(answers, 2)
    # A rise for each stretch between two steps, as far as the score has come into it.
    into = graph.node("Sub", [scores, graph.number(at[None, :-1])])
    into = graph.node("Max", [into, graph.number([[0.0]])])
    into = graph.node("Min", [into, graph.number(np.diff(at)[None, :])])
    slopes = (np.diff(answers) / np.diff(at))[:, None]
    return graph.node("Add", [graph.node("MatMul", [into, graph.number(slopes)]), graph.number([[answers[0]]])])


def _normalised(graph: _Graph, shares: str, classes: int) -> str:
    """Shares that sum to 1; the same for each class where all are 0, as scikit-learn has it."""
    total = graph.node("ReduceSum", [shares, graph.whole([1])], keepdims=1)
    none = graph.node("Equal", [total, graph.number([[0.0]])])
    even = graph.number(np.full((1, classes), 1 / classes))
    divided = graph.node("Div", [shares, graph.node("Where", [none, graph.number([[1.0]]), total])])
    return graph.node("Where", [none, even, divided])
