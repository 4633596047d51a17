"""The inverse link of boosted trees for counts and amounts (loss poisson or gamma): skl2onnx leaves it out, and gives logarithms."""

from __future__ import annotations

from typing import Any

LOSSES = ("poisson", "gamma")


def with_inverse_link(converted: Any, estimator: Any) -> Any:
    """The ONNX model of a fitted `estimator`, with the exponential of its answer where the loss has a logarithm as its link."""
    from onnx import helper
    from sklearn.ensemble import HistGradientBoostingRegressor

    if not (isinstance(estimator, HistGradientBoostingRegressor) and estimator.loss in LOSSES):
        return converted
    graph = converted.graph
    answer = graph.output[-1].name
    for node in graph.node:
        node.output[:] = ["logarithm" if name == answer else name for name in node.output]
    graph.node.append(helper.make_node("Exp", ["logarithm"], [answer], name="inverse_link"))
    return converted
