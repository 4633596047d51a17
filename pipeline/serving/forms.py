"""The forms of request: MLflow's four and CSV, and the Open Inference Protocol v2 with its binary tensors.

Each form is parsed into rows of the model's columns, and has its own form of answer. BadRequest names what does not fit.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from pipeline.serving import class_answers, csv_form, explanation_answers, tensors
from pipeline.serving.errors import BadRequest, RequestRefused
from pipeline.serving.explain import Explanations
from pipeline.serving.identity import Identity
from pipeline.serving.scan import MAX_TEXT_BYTES, PIECE_BYTES, too_long, too_many_rows
from pipeline.serving.schema import Reader, Rows

Headers = list[tuple[bytes, bytes]]
OUTPUT = "prediction"
# Some programs on Windows write it before a text; json.loads and pandas skip it.
BOM = b"\xef\xbb\xbf"
BINARY_LENGTH = b"inference-header-content-length"
# The v2 protocol's datatypes as numpy's.
TENSORS = {
    "FP16": "<f2", "FP32": "<f4", "FP64": "<f8", "INT8": "<i1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8",
    "UINT8": "<u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "BOOL": "<u1",
}  # fmt: skip
EXPECTED = "the body must be an object with one of dataframe_records, dataframe_split, instances, inputs"

Encode = Callable[[np.ndarray], tuple[bytes, Headers]]
EncodeExplained = Callable[[np.ndarray, Explanations], tuple[bytes, Headers]]


@dataclass(slots=True)
class ParsedRequest:
    """A request's rows, and what encodes its answer: predictions -> (body, headers of its own).

    `encode_explained` encodes them with explanations; None where the request asks for none.
    """

    rows: Rows
    encode: Encode
    encode_explained: EncodeExplained | None = None


def invocations(
    body: bytes,
    reader: Reader,
    max_rows: int,
    content_type: bytes = b"",
    encode: Encode | None = None,
    received: float | None = None,
) -> ParsedRequest:
    """MLflow's scoring protocol. The model has no params but `explain`; other ones change nothing, as with MLflow's own server. `received` as
    for `Reader`."""
    encode = encode or _mlflow_answer
    if is_csv(content_type):
        return ParsedRequest(_csv(body, content_type, reader, max_rows, received), encode)
    request = _json(body.removeprefix(BOM))
    if type(request) is not dict:
        raise BadRequest(EXPECTED)
    names = [name for name in request if name not in explanation_answers.BESIDE]
    if len(names) != 1 or names[0] not in MLFLOW:
        raise BadRequest(EXPECTED)
    asked = len(request) > 1 and explanation_answers.asked(request)
    explained = explanation_answers.encoder(encode) if asked else None
    return ParsedRequest(MLFLOW[names[0]](request[names[0]], reader, max_rows, received), encode, explained)


def is_csv(content_type: bytes) -> bool:
    """Whether a body of this content type is CSV; any other is JSON."""
    return content_type.partition(b";")[0].strip().lower() == b"text/csv"


def _mlflow_answer(predictions: np.ndarray) -> tuple[bytes, Headers]:
    return b'{"predictions":%b}' % orjson.dumps(predictions, option=orjson.OPT_SERIALIZE_NUMPY), []


def _csv(body: bytes, content_type: bytes, reader: Reader, max_rows: int, received: float | None) -> Rows:
    charset = re.search(rb"charset *= *\"?([^\s;\"]+)", content_type.lower())
    if charset is not None and charset[1] not in (b"utf-8", b"utf8"):
        raise RequestRefused(415, f"charset must be utf-8; got {charset[1][:20].decode('latin-1')}")
    # Decoded as it is read: not all of 16 MB in one step, and no line after the last that counts.
    lines = io.TextIOWrapper(io.BytesIO(body), "utf-8-sig", newline="")
    try:
        columns = csv_form.columns(lines, reader.plain_numbers, len(reader.fields), reader.columns, max_rows)
    except UnicodeDecodeError as error:
        raise BadRequest(f"the body is not UTF-8 ({error.reason} at byte {_first_fault(body)})") from None
    return _columns(columns, reader, max_rows, received)


def _first_fault(body: bytes) -> int:
    """Where a body that is not UTF-8 is wrong; its decoder, which gets a piece at a time, counts from the piece's start."""
    try:
        body.decode()
    except UnicodeDecodeError as error:
        return error.start
    return len(body)


def _records(records: Any, reader: Reader, max_rows: int, received: float | None) -> Rows:
    if type(records) is not list:
        raise BadRequest("dataframe_records must be a list with an object for each row")
    _refuse_size(len(records), max_rows)
    return reader.of_records(records, received)


def _split(frame: Any, reader: Reader, max_rows: int, received: float | None) -> Rows:
    if type(frame) is not dict or type(frame.get("columns")) is not list or type(frame.get("data")) is not list:
        raise BadRequest("dataframe_split must be an object with the lists columns and data")
    names, rows = frame["columns"], frame["data"]
    if any(type(name) is not str for name in names):
        raise BadRequest("dataframe_split: the names in columns must all be text")
    return _table(names, rows, reader, max_rows, received)


def _instances(rows: Any, reader: Reader, max_rows: int, received: float | None) -> Rows:
    """Objects, or plain lists in the order of the columns; or a list of values for each column, as `inputs`."""
    if type(rows) is dict:
        return _inputs(rows, reader, max_rows, received)
    if type(rows) is not list:
        raise BadRequest("instances must be a list of rows")
    if rows and type(rows[0]) is list:
        return _table(reader.names, rows, reader, max_rows, received)
    return _records(rows, reader, max_rows, received)


def _inputs(inputs: Any, reader: Reader, max_rows: int, received: float | None) -> Rows:
    """A list of values for each column; or a list of rows, as `instances`."""
    if type(inputs) is list:
        return _instances(inputs, reader, max_rows, received)
    if type(inputs) is not dict:
        raise BadRequest("inputs must be an object with a list of values for each column")
    columns: dict[str, Sequence[Any]] = {
        name: _flat(values) if type(values) is list else [values] for name, values in inputs.items()
    }
    return _columns(columns, reader, max_rows, received)


MLFLOW = {"dataframe_records": _records, "dataframe_split": _split, "instances": _instances, "inputs": _inputs}


def _table(names: Sequence[str], rows: Sequence[Any], reader: Reader, max_rows: int, received: float | None) -> Rows:
    _refuse_size(len(rows), max_rows)
    for number, row in enumerate(rows):
        if type(row) is not list or len(row) != len(names):
            raise BadRequest(f"row {number}: must be a list of {len(names)} values")
    return reader.of_table(names, rows, received)


def _columns(columns: Mapping[str, Sequence[Any]], reader: Reader, max_rows: int, received: float | None) -> Rows:
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{name} {count}" for name, count in lengths.items())
        raise BadRequest(f"the columns must all have the same number of rows; got {counts}"[:300])
    _refuse_size(max(lengths.values(), default=0), max_rows)
    return reader.of_columns(columns, received)


def _refuse_size(rows: int, max_rows: int) -> None:
    if rows == 0:
        raise BadRequest("the request has no rows")
    if rows > max_rows:
        raise too_many_rows(rows, max_rows)


def _flat(values: list[Any]) -> list[Any]:
    """[[1], [2]] and [1, 2] are the same column. A mixture is refused later, because a list is no number or text."""
    if not values or type(values[0]) is not list:
        return values
    return [v[0] if type(v) is list and len(v) == 1 else v for v in values]


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        return _json_with_nan(body, error)


def _json_with_nan(body: bytes, error: orjson.JSONDecodeError) -> Any:
    """MLflow's own client writes NaN for a missing number, which is not JSON."""
    if b"NaN" in body and b"\0" not in body:
        try:
            return orjson.loads(_null_for_nan(body))
        except orjson.JSONDecodeError as second:
            raise BadRequest(f"the body is not JSON ({error})") from second
    raise BadRequest(f"the body is not JSON ({error})") from None


def _null_for_nan(body: bytes) -> bytes:
    """The body with null for each NaN that is not part of a text. In pieces, each up to a quote: a step of a large body would hold up
    all other requests, and a body of nothing but quotes would fill the memory."""
    if escaped := b"\\" in body:
        # What stands in no JSON, for a backslash and a quote within a text.
        body = body.replace(b"\\\\", b"\0\1").replace(b'\\"', b"\0\2")
    pieces: list[bytes] = []
    start = inside = 0
    while start < len(body):
        end = body.find(b'"', start + PIECE_BYTES)
        parts = body[start : end if end >= 0 else len(body)].split(b'"')
        parts[inside::2] = [part.replace(b"NaN", b"null") for part in parts[inside::2]]
        inside = (inside + len(parts) - 1) % 2
        pieces.append(b'"'.join(parts))
        start = end if end >= 0 else len(body)
    plain = b"".join(pieces)
    return plain.replace(b"\0\1", b"\\\\").replace(b"\0\2", b'\\"') if escaped else plain


def json_end(headers: Mapping[bytes, bytes]) -> int | None:
    """Where the JSON of a v2 request ends and its binary tensors begin; None when it has none, or a header that `infer` refuses."""
    return whole_number(headers.get(BINARY_LENGTH, b""))


def infer(
    body: bytes,
    reader: Reader,
    max_rows: int,
    json_length: bytes | None,
    identity: Identity,
    classes: Sequence[str] = (),
    received: float | None = None,
) -> ParsedRequest:
    """The Open Inference Protocol v2, with Triton's extension for binary tensors after `json_length` bytes of JSON. `received` as for
    `Reader`."""
    if json_length is None:
        request, binary = _json(body), memoryview(b"")
    else:
        if (end := whole_number(json_length)) is None or end > len(body):
            raise BadRequest("inference-header-content-length must be the length of the JSON before the tensors")
        request, binary = _json(body[:end]), memoryview(body)[end:]
    if type(request) is not dict or type(request.get("inputs")) is not list:
        raise BadRequest("the body must be an object with inputs, a list with an input for each column")
    if len(request["inputs"]) > reader.columns:
        raise BadRequest(f"the body has {len(request['inputs'])} inputs, and the model has {reader.columns} columns")
    columns: dict[str, Sequence[Any]] = {}
    for tensor in request["inputs"]:
        if type(tensor) is not dict or type(tensor.get("name")) is not str:
            raise BadRequest("each input must be an object with a name")
        name = tensor["name"]
        if name in columns:
            raise BadRequest(f"input {name} is given twice")
        values, binary = _tensor(name, tensor, binary, max_rows)
        columns[name] = tensors.column(name, tensor, values, reader)
    if binary:
        raise BadRequest(f"{len(binary)} bytes follow the last tensor; correct binary_data_size")
    rows = _columns(columns, reader, max_rows, received)
    tensors.content_type(request, "the request", tensors.REQUEST_CONTENT_TYPES)
    if type(request.get("id")) not in (str, type(None)):
        raise BadRequest("id must be text")
    asked = tensors.flag(request, "the request", explanation_answers.ASKED)
    named = explanation_answers.of_predictions(request, classes) if asked else request
    wanted = tensors.wanted(named, class_answers.OUTPUTS if classes else (OUTPUT,))
    answer = _V2Answer(identity, request.get("id"), wanted, classes)
    return ParsedRequest(rows, answer.encode, answer.encode_explained if asked else None)


def whole_number(header: bytes) -> int | None:
    """The value of a header that must be a whole number; None for anything else. int() takes "+1" and "1_0", and fails for 5,000
    digits."""
    return int(header) if header.isdigit() and len(header) < 20 else None


def _tensor(name: str, tensor: dict[str, Any], binary: memoryview, max_rows: int) -> tuple[Sequence[Any], memoryview]:
    """(the values, the bytes of the tensors that follow)."""
    size = tensors.parameters(tensor, f"input {name}").get("binary_data_size")
    if size is not None and tensor.get("data") is not None:
        raise BadRequest(f"input {name}: has both data and binary_data_size; send one of them")
    if size is None:
        if type(tensor.get("data")) is not list:
            raise BadRequest(f"input {name}: must have data, a list")
        return _checked_shape(name, tensor, _flat(tensor["data"])), binary
    if type(size) is not int or not 0 <= size <= len(binary):
        raise BadRequest(f"input {name}: binary_data_size must be a number of bytes, of which {len(binary)} are left")
    own, rest = binary[:size], binary[size:]
    datatype = tensor.get("datatype")
    if datatype == "BYTES":
        return _checked_shape(name, tensor, _strings(name, own, max_rows)), rest
    if datatype not in TENSORS:
        raise BadRequest(f"input {name}: datatype must be one of {', '.join(TENSORS)}, BYTES; got {str(datatype)[:20]}")
    dtype = np.dtype(TENSORS[datatype])
    if size % dtype.itemsize:
        raise BadRequest(
            f"input {name}: binary_data_size must be a multiple of {dtype.itemsize} for {datatype}; got {size}"
        )
    if size // dtype.itemsize > max_rows:
        _refuse_size(size // dtype.itemsize, max_rows)
    values = [None if v != v else v for v in np.frombuffer(own, dtype).tolist()]
    return _checked_shape(name, tensor, values), rest


def _checked_shape(name: str, tensor: dict[str, Any], values: list[Any]) -> list[Any]:
    """The values, one for each row. Raises BadRequest when the tensor's shape is another."""
    shape, rows = tensor.get("shape"), len(values)
    # By type too: 1.0 and true are equal to 1.
    if shape in ([rows], [rows, 1]) and set(map(type, shape)) == {int}:
        return values
    if type(shape) is not list or not 1 <= len(shape) <= 2 or any(type(s) is not int for s in shape):
        raise BadRequest(f"input {name}: shape must be [rows] or [rows, 1]")
    raise BadRequest(f"input {name}: shape {str(shape)[:40]} does not fit {rows} values, one for each row")


def _strings(name: str, tensor: memoryview, max_rows: int) -> list[str]:
    """The strings of a BYTES tensor: each has four bytes of length, little-endian, then the text."""
    values: list[str] = []
    end = 0
    try:
        while end < len(tensor):
            if len(values) == max_rows:
                raise RequestRefused(
                    413, f"input {name}: has more than {max_rows} values, one for each row; split the request"
                )
            (length,) = struct.unpack_from("<I", tensor, end)
            end += 4 + length
            if length > MAX_TEXT_BYTES:
                raise too_long(f"input {name}: value {len(values)}")
            if end > len(tensor):
                raise BadRequest(f"input {name}: value {len(values)} is longer than the rest of its tensor")
            values.append(str(tensor[end - length : end], "utf-8"))
    except (struct.error, UnicodeDecodeError):
        raise BadRequest(f"input {name}: value {len(values)} is not valid UTF-8 text") from None
    return values


@dataclass(slots=True)
class _V2Answer:
    identity: Identity
    request_id: Any
    # The outputs, and whether each is binary.
    wanted: dict[str, bool]
    classes: Sequence[str] = ()

    def encode_explained(self, predictions: np.ndarray, explanations: Explanations) -> tuple[bytes, Headers]:
        return self.encode(predictions, explanation_answers.v2_outputs(explanations))

    def encode(self, predictions: np.ndarray, more: Sequence[dict[str, Any]] = ()) -> tuple[bytes, Headers]:
        """`more` are outputs that follow those of the predictions."""
        if self.classes:
            outputs, binary = class_answers.v2_outputs(predictions, self.classes, self.wanted)
            return self._whole(class_answers.v2_answer(self.identity, self.request_id, [*outputs, *more]), binary)
        output: dict[str, Any] = {"name": OUTPUT, "datatype": "FP64", "shape": [len(predictions)]}
        answer: dict[str, Any] = {"model_name": self.identity.model, "model_version": self.identity.version}
        if type(self.request_id) is str:
            answer["id"] = self.request_id
        if not self.wanted[OUTPUT]:
            output["data"] = predictions
            return orjson.dumps(answer | {"outputs": [output, *more]}, option=orjson.OPT_SERIALIZE_NUMPY), []
        output["parameters"] = {"binary_data_size": predictions.nbytes}
        return self._whole(answer | {"outputs": [output, *more]}, predictions.astype("<f8").tobytes())

    def _whole(self, answer: dict[str, Any], binary: bytes) -> tuple[bytes, Headers]:
        head = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
        if not binary:
            return head, []
        length = (BINARY_LENGTH, str(len(head)).encode())
        return head + binary, [length, (b"content-type", b"application/octet-stream")]


def configuration(reader: Reader, identity: Identity, platform: str, classes: Sequence[str] = ()) -> dict[str, Any]:
    """Triton's model configuration. Its shapes are whole, the rows included, which it calls a max_batch_size of 0."""

    def described(tensors: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [
            {
                "name": tensor["name"],
                "data_type": f"TYPE_{tensor['datatype']}".replace("BYTES", "STRING"),
                "dims": tensor["shape"],
            }
            for tensor in tensors
        ]

    model = metadata(reader, identity, platform, classes)
    return {
        "name": model["name"],
        "platform": model["platform"],
        "max_batch_size": 0,
        "input": described(model["inputs"]),
        "output": described(model["outputs"]),
    }


def metadata(reader: Reader, identity: Identity, platform: str, classes: Sequence[str] = ()) -> dict[str, Any]:
    """The v2 protocol's metadata of the model."""
    datatypes = {name: reader.schema[name].datatype for name in reader.names}
    return {
        "name": identity.model,
        "versions": [identity.version],
        "platform": platform,
        "inputs": [{"name": n, "datatype": k, "shape": [-1, 1]} for n, k in datatypes.items()],
        "outputs": class_answers.outputs(classes) if classes else [{"name": OUTPUT, "datatype": "FP64", "shape": [-1]}],
    }
