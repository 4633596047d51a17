"""The forms in which people ask: MLflow's four, and the Open Inference Protocol v2 with its binary tensors.

Each form is read into rows of the model's signature, and answered in its own way. BadRequest says what does not fit.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np
import orjson

from pipeline.serving.errors import BadRequest, Refused
from pipeline.serving.signature import Rows, Signature

Headers = list[tuple[bytes, bytes]]
BINARY_LENGTH = b"inference-header-content-length"
# The protocol's names of types, as numpy reads their bytes.
TENSORS = {
    "FP16": "<f2", "FP32": "<f4", "FP64": "<f8", "INT8": "<i1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8",
    "UINT8": "<u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8",
}  # fmt: skip
WANTED = "wants dataframe_records, dataframe_split, instances or inputs"


@dataclass(slots=True)
class Asked:
    """A request that was read, and how its answer is written: (predictions of shape (rows,)) -> (body, more headers)."""

    rows: Rows
    write: Callable[[np.ndarray], tuple[bytes, Headers]]


def invocations(body: bytes, signature: Signature, max_rows: int) -> Asked:
    """MLflow's scoring protocol."""
    told = _json(body)
    if type(told) is not dict:
        raise BadRequest(WANTED)
    if told.get("params"):
        raise BadRequest("params: the model takes none")
    given = [name for name in told if name != "params"]
    if len(given) != 1 or given[0] not in MLFLOW:
        raise BadRequest(WANTED)
    return Asked(MLFLOW[given[0]](told[given[0]], signature, max_rows), _predictions)


def _predictions(predictions: np.ndarray) -> tuple[bytes, Headers]:
    return b'{"predictions":%b}' % orjson.dumps(predictions, option=orjson.OPT_SERIALIZE_NUMPY), []


def _records(told: Any, signature: Signature, max_rows: int) -> Rows:
    if type(told) is not list:
        raise BadRequest("dataframe_records wants a list with an object a row")
    _refuse_size(len(told), max_rows)
    return signature.of_records(told)


def _split(told: Any, signature: Signature, max_rows: int) -> Rows:
    if type(told) is not dict or type(told.get("columns")) is not list or type(told.get("data")) is not list:
        raise BadRequest("dataframe_split wants columns and data")
    names, rows = told["columns"], told["data"]
    if any(type(name) is not str for name in names):
        raise BadRequest("dataframe_split: the columns are not all text")
    return _table(names, rows, signature, max_rows)


def _instances(told: Any, signature: Signature, max_rows: int) -> Rows:
    """Objects, or plain lists in the order of the signature."""
    if type(told) is not list:
        raise BadRequest("instances wants a list with a row each")
    if told and type(told[0]) is list:
        return _table([*signature.numbers, *signature.texts], told, signature, max_rows)
    return _records(told, signature, max_rows)


def _inputs(told: Any, signature: Signature, max_rows: int) -> Rows:
    """A list of values a column; or, as `instances`, a list of rows."""
    if type(told) is list:
        return _instances(told, signature, max_rows)
    if type(told) is not dict:
        raise BadRequest("inputs wants an object with a list of values a column")
    columns: dict[str, Sequence[Any]] = {
        name: _flat(values) if type(values) is list else [values] for name, values in told.items()
    }
    return _columns(columns, signature, max_rows)


MLFLOW = {"dataframe_records": _records, "dataframe_split": _split, "instances": _instances, "inputs": _inputs}


def _table(names: Sequence[str], rows: Sequence[Any], signature: Signature, max_rows: int) -> Rows:
    _refuse_size(len(rows), max_rows)
    for number, row in enumerate(rows):
        if type(row) is not list or len(row) != len(names):
            raise BadRequest(f"row {number}: wants {len(names)} values")
    return signature.of_table(names, rows)


def _columns(columns: dict[str, Sequence[Any]], signature: Signature, max_rows: int) -> Rows:
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {count}" for name, count in lengths.items())
        raise BadRequest(f"the columns do not all have the same number of rows: {told}"[:300])
    _refuse_size(max(lengths.values(), default=0), max_rows)
    return signature.of_columns(columns)


def _refuse_size(rows: int, max_rows: int) -> None:
    if rows == 0:
        raise BadRequest("the request has no rows")
    if rows > max_rows:
        raise Refused(413, f"the request has {rows} rows, at most {max_rows} are answered at once")


def _flat(values: list[Any]) -> list[Any]:
    """[[1], [2]] and [1, 2] say the same of a column. One of both is refused later, as no number or text."""
    if not values or type(values[0]) is not list:
        return values
    return [v[0] if type(v) is list and len(v) == 1 else v for v in values]


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        return _json_with_nan(body, error)


def _json_with_nan(body: bytes, error: orjson.JSONDecodeError) -> Any:
    """MLflow's own client writes NaN for a missing number, which JSON does not know."""
    if b"NaN" in body:
        try:
            told = json.loads(body, parse_constant={"NaN": None}.__getitem__)
            # Half characters and numbers beyond 64 bits are refused here as they are without a NaN.
            orjson.dumps(told)
            return told
        except (ValueError, TypeError, KeyError, RecursionError) as second:
            raise BadRequest(f"the body is not JSON ({error})") from second
    raise BadRequest(f"the body is not JSON ({error})") from None


def infer(body: bytes, signature: Signature, max_rows: int, json_length: bytes | None, who: tuple[str, str]) -> Asked:
    """The Open Inference Protocol v2, with Triton's extension for binary tensors; `who` is (model, version)."""
    if json_length is None:
        told, binary = _json(body), memoryview(b"")
    else:
        if not json_length.isdigit() or int(json_length) > len(body):
            raise BadRequest("inference-header-content-length is not the length of the JSON before the tensors")
        told, binary = _json(body[: int(json_length)]), memoryview(body)[int(json_length) :]
    if type(told) is not dict or type(told.get("inputs")) is not list:
        raise BadRequest("wants inputs, one a column")
    columns: dict[str, Sequence[Any]] = {}
    for given in told["inputs"]:
        if type(given) is not dict or type(given.get("name")) is not str:
            raise BadRequest("each input wants a name")
        name = given["name"]
        if name in columns:
            raise BadRequest(f"input {name} is there twice")
        columns[name], binary = _tensor(name, given, binary)
    if binary:
        raise BadRequest(f"{len(binary)} bytes follow the last tensor")
    asked = _columns(columns, signature, max_rows)
    answer = _Answer(who, told.get("id"), _wants_binary(told))
    return Asked(asked, answer.write)


def _tensor(name: str, given: dict[str, Any], binary: memoryview) -> tuple[Sequence[Any], memoryview]:
    """(the values, the bytes of the tensors that follow)."""
    parameters = given.get("parameters")
    size = parameters.get("binary_data_size") if type(parameters) is dict else None
    if size is None:
        if type(given.get("data")) is not list:
            raise BadRequest(f"input {name} wants data")
        return _shaped(name, given, _flat(given["data"])), binary
    if type(size) is not int or not 0 <= size <= len(binary):
        raise BadRequest(f"input {name}: binary_data_size is not the size of what follows")
    mine, rest = binary[:size], binary[size:]
    kind = given.get("datatype")
    if kind == "BYTES":
        return _shaped(name, given, _strings(name, mine)), rest
    if kind not in TENSORS:
        raise BadRequest(f"input {name}: datatype {str(kind)[:20]} is not known, use FP32, FP64, INT64 or BYTES")
    dtype = np.dtype(TENSORS[kind])
    if size % dtype.itemsize:
        raise BadRequest(f"input {name}: {size} bytes are no whole number of {kind}")
    values = [None if v != v else v for v in np.frombuffer(mine, dtype).tolist()]
    return _shaped(name, given, values), rest


def _shaped(name: str, given: dict[str, Any], values: list[Any]) -> list[Any]:
    """The values, when the shape says as many, one a row."""
    shape = given.get("shape")
    if type(shape) is not list or not 1 <= len(shape) <= 2 or any(type(s) is not int for s in shape):
        raise BadRequest(f"input {name} wants a shape, [rows] or [rows, 1]")
    if shape[0] != len(values) or shape[1:] not in ([], [1]):
        raise BadRequest(f"input {name}: shape {str(shape)[:40]} does not fit {len(values)} values, one a row")
    return values


def _strings(name: str, tensor: memoryview) -> list[str]:
    """Strings as the protocol packs them: four bytes of length, little-endian, then the text."""
    values, at = [], 0
    try:
        while at < len(tensor):
            (length,) = struct.unpack_from("<I", tensor, at)
            at += 4 + length
            if at > len(tensor):
                raise BadRequest(f"input {name}: a string ends after its tensor")
            values.append(str(tensor[at - length : at], "utf-8"))
    except (struct.error, UnicodeDecodeError):
        raise BadRequest(f"input {name}: value {len(values)} is no valid text") from None
    return values


def _wants_binary(told: dict[str, Any]) -> bool:
    outputs = told.get("outputs")
    for asked in (*(outputs if type(outputs) is list else []), told):
        parameters = asked.get("parameters") if type(asked) is dict else None
        if type(parameters) is dict and any(parameters.get(k) for k in ("binary_data", "binary_data_output")):
            return True
    return False


@dataclass(slots=True)
class _Answer:
    who: tuple[str, str]
    asked_id: Any
    binary: bool

    def write(self, predictions: np.ndarray) -> tuple[bytes, Headers]:
        output: dict[str, Any] = {"name": "prediction", "datatype": "FP64", "shape": [len(predictions)]}
        told: dict[str, Any] = {"model_name": self.who[0], "model_version": self.who[1]}
        if type(self.asked_id) is str:
            told["id"] = self.asked_id
        if not self.binary:
            output["data"] = predictions
            return orjson.dumps(told | {"outputs": [output]}, option=orjson.OPT_SERIALIZE_NUMPY), []
        output["parameters"] = {"binary_data_size": predictions.nbytes}
        head = orjson.dumps(told | {"outputs": [output]})
        length = (BINARY_LENGTH, str(len(head)).encode())
        return head + predictions.astype("<f8").tobytes(), [length, (b"content-type", b"application/octet-stream")]


def metadata(signature: Signature, who: tuple[str, str], platform: str) -> dict[str, Any]:
    """What the protocol tells of a model."""
    kinds = {**dict.fromkeys(signature.numbers, "FP32"), **dict(zip(signature.texts, repeat("BYTES"), strict=False))}
    return {
        "name": who[0],
        "versions": [who[1]],
        "platform": platform,
        "inputs": [{"name": n, "datatype": k, "shape": [-1, 1]} for n, k in kinds.items()],
        "outputs": [{"name": "prediction", "datatype": "FP64", "shape": [-1]}],
    }
