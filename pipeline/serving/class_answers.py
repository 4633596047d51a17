"""The answers of a model of several classes: each row's probability of each class by its name, in MLflow's protocol and in v2.

MLflow's server answers so for a model that returns a data frame with a column for each class. In v2 there are two outputs: the
probabilities, whose parameter `classes` is the JSON list of the names in their order, and the name of the likeliest class.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import orjson

from pipeline.serving.identity import Identity

PROBABILITIES, CLASS = "probabilities", "class"
OUTPUTS = (PROBABILITIES, CLASS)
Encoded = tuple[bytes, list[tuple[bytes, bytes]]]


def mlflow_encoder(classes: Sequence[str]) -> Callable[[np.ndarray], Encoded]:
    """What encodes predictions (rows, classes) as MLflow's protocol has them."""
    # The names are encoded once: with hundreds of classes they are most of the answer.
    names = [orjson.dumps(name) + b":" for name in classes]

    def encode(predictions: np.ndarray) -> Encoded:
        rows = []
        for row in orjson.dumps(predictions, option=orjson.OPT_SERIALIZE_NUMPY)[2:-2].split(b"],["):
            rows.append(b"{" + b",".join(map(bytes.__add__, names, row.split(b","))) + b"}")
        return b'{"predictions":[' + b",".join(rows) + b"]}", []

    return encode


def likeliest(predictions: np.ndarray, classes: Sequence[str]) -> list[str]:
    """The name of each row's likeliest class; of equals the first."""
    return [classes[place] for place in predictions.argmax(axis=1).tolist()]


def outputs(classes: Sequence[str]) -> list[dict[str, Any]]:
    """The outputs as the v2 protocol's metadata has them."""
    return [
        {"name": PROBABILITIES, "datatype": "FP64", "shape": [-1, len(classes)], "parameters": parameters(classes)},
        {"name": CLASS, "datatype": "BYTES", "shape": [-1]},
    ]


def parameters(classes: Sequence[str]) -> dict[str, str]:
    """A parameter of the protocol is a text, a number or a truth, so that the names are a text: their JSON list."""
    return {"classes": orjson.dumps(list(classes)).decode()}


def v2_outputs(
    predictions: np.ndarray, classes: Sequence[str], wanted: dict[str, bool]
) -> tuple[list[dict[str, Any]], bytes]:
    """(the outputs in the order of `wanted`, the bytes of those that it says are binary)."""
    told, binary = [], b""
    output: dict[str, Any]
    for name, as_bytes in wanted.items():
        if name == PROBABILITIES:
            output = {"name": name, "datatype": "FP64", "shape": [*predictions.shape]}
            output["parameters"] = parameters(classes)
            data: Any = predictions.reshape(-1)
        else:
            output = {"name": name, "datatype": "BYTES", "shape": [len(predictions)]}
            data = likeliest(predictions, classes)
        if as_bytes:
            tensor = data.astype("<f8").tobytes() if name == PROBABILITIES else _strings(data)
            output["parameters"] = {**output.get("parameters", {}), "binary_data_size": len(tensor)}
            binary += tensor
        else:
            output["data"] = data
        told.append(output)
    return told, binary


def _strings(texts: Sequence[str]) -> bytes:
    encoded = [text.encode() for text in texts]
    return b"".join(struct.pack("<I", len(text)) + text for text in encoded)


def v2_answer(identity: Identity, request_id: Any, outputs: list[dict[str, Any]]) -> dict[str, Any]:
    """The body of an answer by the Open Inference Protocol; a request without an id, a text, gets none back."""
    answer: dict[str, Any] = {"model_name": identity.model, "model_version": identity.version}
    if type(request_id) is str:
        answer["id"] = request_id
    return answer | {"outputs": outputs}
