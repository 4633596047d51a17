"""The JSON of events' bodies, read fast: a ledger of years has hundreds of thousands."""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

# orjson makes a float of a whole number that needs more than 64 bits.
LONG_NUMBER = re.compile(r"[:,\[]\s*-?[0-9]{19}")


def read_json(text: str) -> Any:
    """As `json.loads` reads it, which also takes what orjson refuses: NaN, half a surrogate pair, a whole number of any size. Raises
    ValueError or TypeError for what is no JSON."""
    if LONG_NUMBER.search(text):
        return json.loads(text)
    try:
        return orjson.loads(text)
    except ValueError:
        return json.loads(text)
