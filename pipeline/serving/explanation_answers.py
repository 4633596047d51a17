"""How a request asks for explanations, and how its answer has them: in MLflow's protocol and in v2."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from pipeline.serving.errors import BadRequest
from pipeline.serving.explain import Explanations
from pipeline.serving.schema.spelling import shown

ASKED = "explain"
# What may stand beside the rows in MLflow's protocol.
BESIDE = ("params", ASKED)
Encoded = tuple[bytes, list[tuple[bytes, bytes]]]
BASE, EFFECTS, CLASS = "explanation_base", "explanations", "explanation_class"


def asked(request: Mapping[str, Any]) -> bool:
    """Whether a request of MLflow's protocol has `explain: true`, beside its rows or among its params. Raises BadRequest."""
    params = request.get("params")
    return _true(request.get(ASKED)) or (type(params) is dict and _true(params.get(ASKED)))


def _true(value: Any) -> bool:
    if value is not None and type(value) is not bool:
        raise BadRequest(f"{ASKED} must be true or false; got {shown(value)}")
    return bool(value)


def encoder(encode: Callable[[np.ndarray], Encoded]) -> Callable[[np.ndarray, Explanations], Encoded]:
    """What `encode` gives for predictions in MLflow's protocol, with the key `explanations`: an object for each row."""

    def explained(predictions: np.ndarray, explanations: Explanations) -> Encoded:
        answer, headers = encode(predictions)
        return b'%b,"explanations":%b}' % (answer[:-1], orjson.dumps(rows(explanations))), headers

    return explained


def rows(explanations: Explanations) -> list[dict[str, Any]]:
    """For each row its class, where there are classes, its base, and its effects by column, the largest first."""
    told = []
    for i, (base, effects) in enumerate(zip(explanations.base.tolist(), explanations.effects.tolist(), strict=True)):
        by_column = dict(zip(explanations.columns, effects, strict=True))
        ordered = dict(sorted(by_column.items(), key=lambda effect: -abs(effect[1])))
        of_class = {"class": explanations.classes[i]} if explanations.classes else {}
        told.append({**of_class, "base": base, "effects": ordered})
    return told


def of_predictions(request: dict[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    """A v2 request that explains, without the explanations among its `outputs`: its answer has them all, whichever it names."""
    named, own = request.get("outputs"), (EFFECTS, BASE, *([CLASS] if classes else ()))
    if type(named) is not list:
        return request
    return request | {"outputs": [part for part in named if type(part) is not dict or part.get("name") not in own]}


def v2_outputs(explanations: Explanations) -> list[dict[str, Any]]:
    """The outputs of the v2 protocol: effects with their columns, a JSON list, as a parameter; bases; and classes, where there are any."""
    columns = orjson.dumps(list(explanations.columns)).decode()
    outputs: list[dict[str, Any]] = [
        {
            "name": EFFECTS,
            "datatype": "FP64",
            "shape": [*explanations.effects.shape],
            "parameters": {"columns": columns},
            "data": explanations.effects.reshape(-1).tolist(),
        },
        {"name": BASE, "datatype": "FP64", "shape": [len(explanations.base)], "data": explanations.base.tolist()},
    ]
    if explanations.classes:
        classes = list(explanations.classes)
        outputs.append({"name": CLASS, "datatype": "BYTES", "shape": [len(classes)], "data": classes})
    return outputs
