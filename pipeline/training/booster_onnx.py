"""XGBoost and LightGBM in ONNX: onnxmltools' converters, taught to skl2onnx.

Of a regression they write the trees only, and what follows these is ours: the converters know a few objectives, and add the baseline in
another order than the library does. XGBoost sums in float32, the baseline first: so its baseline is a tree of one leaf before the others,
and each sum rounds alike. LightGBM sums in float64: its trees are taken to a mean of 0, and what was taken is added in float64 at the
end, so that predictions that lie close together far from 0 stay apart.
"""

from __future__ import annotations

import copy
import json
import re
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from pipeline.training.double_onnx import TREES, DoubleTrees

# By domain. Trees of a later version have attributes that these converters do not write.
OPSETS = {"": 18, "ai.onnx.ml": 3}
# What follows the sum of the trees, by the objective; nothing follows those not named.
LINKS = {
    **dict.fromkeys(("count:poisson", "reg:gamma", "reg:tweedie", "poisson", "gamma", "tweedie"), "Exp"),
    **dict.fromkeys(("reg:logistic", "cross_entropy"), "Sigmoid"),
}
Convert = Callable[[Any, Any, Any], None]


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
        classes = sys.modules[library]
        update_registered_converter(
            getattr(classes, f"{prefix}Classifier"),
            f"Perennial{prefix}Classifier",
            calculate_linear_classifier_output_shapes,
            _classifier(library),
            options={"zipmap": [True, False, "columns"], "nocl": [True, False], "raw_scores": [True, False]},
        )
        update_registered_converter(
            getattr(classes, f"{prefix}Regressor"),
            f"Perennial{prefix}Regressor",
            calculate_linear_regressor_output_shapes if library == "xgboost" else _double_shape,
            _of_xgboost if library == "xgboost" else _of_lightgbm,
        )


def _converter(library: str) -> Convert:
    if library == "xgboost":
        from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost as converter
    else:
        from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm as converter
    return converter


def _double_shape(operator: Any) -> None:
    from skl2onnx.common.data_types import DoubleTensorType

    operator.outputs[0].type = DoubleTensorType([operator.inputs[0].type.shape[0], 1])


def _takes_doubles(operator: Any) -> bool:
    from skl2onnx.common.data_types import DoubleTensorType

    return isinstance(operator.inputs[0].type, DoubleTensorType)


def _classifier(library: str) -> Convert:
    """The library's converter, with raw scores in place of probabilities where that is asked, and in float64 where the input is."""
    converter = _converter(library)

    def convert(scope: Any, operator: Any, container: Any) -> None:
        of = operator.raw_operator
        raw = bool(container.get_options(of, {"raw_scores": False}).get("raw_scores"))
        if _takes_doubles(operator):
            container = DoubleTrees(scope, container)
        right = _right_for_lightgbm(of) if library == "lightgbm" else _right_for_xgboost(of)
        # The converters take a forest for one of 100 trees, and each tree for a round of its own.
        plain = {"boosting_type": "gbdt"} if library == "lightgbm" else {"n_estimators": None}
        converter(scope, _with(operator, **plain), _OwnTrees(container, raw, right))

    return convert


def _right_for_lightgbm(fitted: Any) -> Callable[[dict[str, Any]], None]:
    """What corrects the attributes of the trees: a forest answers with the mean of its trees."""
    share = 1 / fitted.booster_.current_iteration() if fitted.boosting_type == "rf" else 1

    def right(trees: dict[str, Any]) -> None:
        if share != 1:
            trees["class_weights"] = [weight * share for weight in trees["class_weights"]]

    return right


def _right_for_xgboost(fitted: Any) -> Callable[[dict[str, Any]], None]:
    """The same: a round has several trees of one class, and the baseline of two classes is the logarithm of their odds."""
    together, (baseline, *others) = fitted.num_parallel_tree or 1, _baseline(fitted)

    def right(trees: dict[str, Any]) -> None:
        if trees["post_transform"] == "SOFTMAX":
            classes = len(trees["base_values"])
            trees["class_ids"] = [tree // together % classes for tree in trees["class_treeids"]]
        elif not others:
            trees["base_values"] = [float(_odds(baseline))]

    return right


def _baseline(fitted: Any) -> list[np.float32]:
    base = json.loads(json.loads(fitted.get_booster().save_config())["learner"]["learner_model_param"]["base_score"])
    return [np.float32(each) for each in (base if isinstance(base, list) else [base])]


def _odds(share: np.float32) -> np.float32:
    return -np.log(1 / share - 1)


def _with(operator: Any, **changed: Any) -> Any:
    """The operator of the same model with other attributes."""
    other = copy.copy(operator)
    other.raw_operator = copy.copy(operator.raw_operator)
    for name, value in changed.items():
        setattr(other.raw_operator, name, value)
    return other


class _OwnTrees:
    """A container whose trees are put right, and give the sums of their leaves where `raw`."""

    def __init__(self, container: Any, raw: bool, right: Callable[[dict[str, Any]], None]) -> None:
        self._container, self._raw, self._right = container, raw, right

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def add_node(self, op_type: str, inputs: Any, outputs: Any, **attributes: Any) -> None:
        if op_type in TREES:
            self._right(attributes)
            if self._raw:
                attributes["post_transform"] = "NONE"
        self._container.add_node(op_type, inputs, outputs, **attributes)


class _Read:
    """A container that keeps the attributes of the trees, and writes nothing."""

    def __init__(self, container: Any) -> None:
        self._container = container
        self.trees: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def add_node(self, op_type: str, inputs: Any, outputs: Any, **attributes: Any) -> None:
        if op_type in TREES:
            self.trees = {name: of for name, of in attributes.items() if name not in ("op_domain", "name")}

    def add_initializer(self, *_: Any) -> None:
        pass


def _of_xgboost(scope: Any, operator: Any, container: Any) -> None:
    """The baseline as the first tree, the trees, and the link; all in float32, as the library has it."""
    _converter("xgboost")(scope, operator, read := _Read(container))
    trees, fitted = read.trees, operator.raw_operator
    link = LINKS.get(json.loads(fitted.get_booster().save_config())["learner"]["objective"]["name"])
    (baseline,) = _baseline(fitted)
    if link == "Exp":
        baseline = np.log(baseline)
    elif link == "Sigmoid":
        baseline = _odds(baseline)
    trees.pop("base_values", None)
    for name in trees:
        if name.endswith("_treeids"):
            trees[name] = [tree + 1 for tree in trees[name]]
    leaf = {"nodes_modes": "LEAF", "nodes_values": 0.0, "target_weights": float(baseline)}
    trees |= {name: [leaf.get(name, 0), *of] for name, of in trees.items() if isinstance(of, list)}
    answer = operator.outputs[0].full_name
    _trees(scope, container, operator, trees, summed := scope.get_unique_variable_name("sum") if link else answer)
    if link:
        container.add_node(link, [summed], [answer], op_version=13, name=scope.get_unique_operator_name(link))


def _of_lightgbm(scope: Any, operator: Any, container: Any) -> None:
    """The trees around 0, the sum of their means in float64, and the link."""
    from lightgbm import Booster
    from onnx import TensorProto

    of = operator.raw_operator
    text, iterations = of.booster_.model_to_string(), of.booster_.current_iteration()
    objective = re.search(r"^objective=(\S+)", text, flags=re.MULTILINE)
    link = LINKS.get(objective[1]) if objective else None
    # The converter knows by name what its trees are for, and few names.
    plain = Booster(model_str=re.sub(r"^objective=.*$", "objective=regression", text, flags=re.MULTILINE))
    _converter("lightgbm")(scope, _with(operator, _Booster=plain, boosting_type="gbdt"), read := _Read(container))
    trees = read.trees
    leaves, of_trees = np.array(trees["target_weights"], "float64"), np.array(trees["target_treeids"])
    if of.boosting_type == "rf":
        leaves /= iterations
    means = np.bincount(of_trees, leaves) / np.bincount(of_trees)
    trees["target_weights"] = (leaves - means[of_trees]).tolist()
    name, variable = scope.get_unique_operator_name, scope.get_unique_variable_name
    single, double, baseline = variable("single"), variable("double"), variable("baseline")
    answer = operator.outputs[0].full_name
    summed = variable("sum") if link else answer
    doubles = _takes_doubles(operator)
    writes = DoubleTrees(scope, container) if doubles else container
    _trees(scope, writes, operator, trees, double if doubles else single)
    if not doubles:
        container.add_node("Cast", [single], [double], op_version=13, name=name("Cast"), to=TensorProto.DOUBLE)
    container.add_initializer(baseline, TensorProto.DOUBLE, [1, 1], [float(means.sum())])
    container.add_node("Add", [double, baseline], [summed], op_version=14, name=name("Add"))
    if link:
        container.add_node(link, [summed], [answer], op_version=13, name=name(link))


def _trees(scope: Any, container: Any, operator: Any, trees: dict[str, Any], output: str) -> None:
    name = scope.get_unique_operator_name("TreeEnsembleRegressor")
    inputs = operator.input_full_names
    container.add_node("TreeEnsembleRegressor", inputs, [output], op_domain="ai.onnx.ml", name=name, **trees)
