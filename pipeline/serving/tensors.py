"""What the v2 protocol says of a tensor, checked: its datatype, its content type, and which of its values fit both.

A conversion that loses nothing is allowed: a number column takes any datatype of numbers, and BOOL as 0 and 1; a time and a free
text take BYTES, an event time with an epoch FP64 and whole numbers too; a key takes BYTES or whole numbers; a category takes all, by its
schema. Numbers become what the schema says, as in each form of request and in training. A null is a missing value in each datatype,
because JSON has no NaN.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from pipeline.serving.errors import BadRequest
from pipeline.serving.schema import Reader
from pipeline.serving.schema.spelling import shown

WHOLE = {name: np.iinfo(name.lower()) for name in (f"{u}INT{b}" for u in ("", "U") for b in (8, 16, 32, 64))}
LARGEST = {"FP16": float(np.finfo("float16").max), "FP32": float(np.finfo("float32").max), "FP64": float("inf")}
DATATYPES = (*LARGEST, *WHOLE, "BOOL", "BYTES")
# What MLServer's clients may say of a tensor. They change nothing here, but for base64.
CONTENT_TYPES = ("base64", "np", "str")
# The same of a whole request: named columns are a data frame already.
REQUEST_CONTENT_TYPES = ("np", "pd")
# The types of most values of a datatype, and their bounds, where there are any.
NONE = type(None)
USUAL: dict[str, tuple[frozenset[type], Any, Any]] = {
    **{name: (frozenset({float, int}), -most, most) for name, most in LARGEST.items()},
    **{name: (frozenset({int}), int(bounds.min), int(bounds.max)) for name, bounds in WHOLE.items()},
    "FP64": (frozenset({float, int}), None, None),
    "BOOL": (frozenset({bool}), None, None),
    "BYTES": (frozenset({str}), None, None),
}
NO_NUMBER = (bool, str, list, dict)


def column(name: str, tensor: dict[str, Any], values: Sequence[Any], reader: Reader) -> Sequence[Any]:
    """The values of an input as its column takes them. Raises BadRequest when they do not fit its datatype or the column."""
    datatype = tensor.get("datatype")
    if type(datatype) is not str or datatype not in DATATYPES:
        raise BadRequest(f"input {name}: datatype must be one of {', '.join(DATATYPES)}; got {shown(datatype)}")
    # All for a column that the model does not have, which is refused by its name.
    accepted = _accepted_by_column(reader).get(name, DATATYPES)
    if datatype not in accepted:
        raise BadRequest(f"input {name}: datatype must be one of {', '.join(accepted)} for this column; got {datatype}")
    if not _all_fit(datatype, values):
        fits, rule = _rule(datatype)
        for number, value in enumerate(values):
            if value is not None and not fits(value):
                raise BadRequest(f"input {name}: value {number} must be {rule} for {datatype}; got {shown(value)}")
    if datatype == "BOOL":
        # A plain number takes 1 and 0 in every version.
        as_its_kind = int if name in reader.plain_numbers else bool
        return [None if value is None else as_its_kind(value) for value in values]
    if datatype in ("FP16", "FP32") and (name not in reader.plain_numbers or name in reader.doubles):
        # In its own precision: as a category, or for a column of float64, the FP32 0.1 is 0.1, and no double near it.
        single = np.dtype(datatype.replace("FP", "float")).type
        return [None if value is None else single(value) for value in values]
    return _decoded(name, datatype, content_type(tensor, f"input {name}", CONTENT_TYPES), values)


def parameters(part: dict[str, Any], subject: str) -> dict[str, Any]:
    """The parameters of a request, an input or an output. Raises BadRequest when they are no object."""
    given = part.get("parameters")
    if given is None:
        return {}
    if type(given) is not dict:
        raise BadRequest(f"{subject}: parameters must be an object")
    for name in given:
        # Ignored, they would answer with other data than was asked for.
        if name == "classification" or name.startswith("shared_memory"):
            raise BadRequest(f"{subject}: parameter {name[:40]} is not supported; send and get the data in the request")
    return given


def content_type(part: dict[str, Any], subject: str, known: Sequence[str]) -> str | None:
    """Its content_type. Raises BadRequest for one that is not known: ignored, the data would mean something else."""
    value = parameters(part, subject).get("content_type")
    if value is not None and value not in known:
        raise BadRequest(f"{subject}: content_type must be one of {', '.join(known)}; got {shown(value)}")
    return value


def flag(part: dict[str, Any], subject: str, name: str) -> bool | None:
    """A parameter that is true or false; None when it is not given. Raises BadRequest."""
    value = parameters(part, subject).get(name)
    if value is not None and type(value) is not bool:
        raise BadRequest(f"{subject}: {name} must be true or false; got {shown(value)}")
    return value


def wanted(request: dict[str, Any], outputs: Sequence[str]) -> dict[str, bool]:
    """The outputs to answer with, and whether each is to be binary: an output's own parameter goes before the request's.

    Raises BadRequest for an output that the model does not have.
    """
    asked = request.get("outputs")
    if asked is not None and type(asked) is not list:
        raise BadRequest("outputs must be a list with an object for each output")
    binary = flag(request, "the request", "binary_data_output") or False
    answered: dict[str, bool] = {}
    for part in asked or ():
        if type(part) is not dict or type(part.get("name")) is not str:
            raise BadRequest("each output must be an object with a name")
        name = part["name"]
        if name not in outputs:
            raise BadRequest(f"output {name[:40]} does not exist; the model has {', '.join(outputs)}")
        if name in answered:
            raise BadRequest(f"output {name} is given twice")
        content_type(part, f"output {name}", ("np",))
        own = flag(part, f"output {name}", "binary_data")
        answered[name] = binary if own is None else own
    return answered or dict.fromkeys(outputs, binary)


@lru_cache(maxsize=8)
def _accepted_by_column(reader: Reader) -> dict[str, Sequence[str]]:
    """The datatypes that each column of a model takes."""
    names = [*reader.names, *(name for name in (reader.event_time, reader.key) if name)]
    return {name: _accepted(name, reader) for name in names}


def _accepted(name: str, reader: Reader) -> Sequence[str]:
    if name in reader.plain_numbers:
        return (*LARGEST, *WHOLE, "BOOL")
    if name == reader.event_time:
        return ("BYTES", "FP64", *WHOLE) if reader.schema.epoch else ("BYTES",)
    if name == reader.key:
        return ("BYTES", *WHOLE)
    if name in reader.texts:
        return ("BYTES",) if reader.schema.strict else DATATYPES
    # A time as a number would need an epoch.
    return ("BYTES",) if name in reader.names and reader.schema[name].kind in ("datetime", "text") else DATATYPES


def _all_fit(datatype: str, values: Sequence[Any]) -> bool:
    """Whether all values are of Python's usual type for the datatype, and within its bounds; each rarer one `_rule` judges."""
    types = set(map(type, values)) - {NONE}
    usual, low, high = USUAL[datatype]
    if not types <= usual:
        return False
    if high is None or not types:
        return True
    present = [value for value in values if value is not None]
    return bool(low <= min(present) and max(present) <= high)


def _rule(datatype: str) -> tuple[Callable[[Any], bool], str]:
    """(whether a value fits the datatype, what must be so, in words)."""
    if datatype == "BYTES":
        return lambda value: type(value) is str, "text"
    if datatype == "BOOL":
        return lambda value: type(value) in (bool, int) and value in (0, 1), "true or false"
    if datatype in LARGEST:
        largest = LARGEST[datatype]
        return lambda value: type(value) not in NO_NUMBER and abs(value) <= largest, f"a number up to {largest:g}"
    bounds = WHOLE[datatype]
    low, high = int(bounds.min), int(bounds.max)
    rule = f"a whole number from {low} to {high}"
    return lambda value: type(value) not in NO_NUMBER and low <= value <= high and value % 1 == 0, rule


def _decoded(name: str, datatype: str, kind: str | None, values: Sequence[Any]) -> Sequence[Any]:
    if kind in ("base64", "str") and datatype != "BYTES":
        raise BadRequest(f"input {name}: datatype must be BYTES with content_type {kind}; got {datatype}")
    if kind != "base64":
        return values
    texts: list[str | None] = []
    for number, value in enumerate(values):
        try:
            texts.append(None if value is None else base64.b64decode(value, validate=True).decode())
        except (binascii.Error, ValueError):
            raise BadRequest(f"input {name}: value {number} is not base64 of UTF-8 text") from None
    return texts
