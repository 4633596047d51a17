"""The JSON of events' bodies, read fast: a ledger of years has hundreds of thousands."""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

# orjson makes a float of a whole number that needs more than 64 bits.
LONG_NUMBER = re.compile(r"[:,\[]\s*-?[0-9]{19}")
# The expression reads a character at a time, longer than orjson reads them all: few texts have so many digits in a row.
AS_ZERO, LONG = bytes.maketrans(b"123456789", b"0" * 9), b"0" * 19


def read_json(text: str) -> Any:
    """As `json.loads` reads it, which also takes what orjson refuses: NaN, half a surrogate pair, a whole number of any size. Raises
    ValueError or TypeError for what is no JSON."""
    # As str's own: bytes, which a database may have in place of a text, are a TypeError.
    if LONG in str.encode(text, "utf-8", "surrogatepass").translate(AS_ZERO) and LONG_NUMBER.search(text):
        return json.loads(text)
    try:
        return orjson.loads(text)
    except ValueError:
        return json.loads(text)
