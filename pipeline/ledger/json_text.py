"""The JSON of events' bodies, read fast: a ledger of years has hundreds of thousands."""

from __future__ import annotations

import json
from typing import Any

import orjson


def read_json(text: str | bytes) -> Any:
    """As `json.loads` reads it, which also takes what orjson refuses: NaN, half a surrogate pair, a whole number of any size. Raises
    ValueError or TypeError for what is no JSON."""
    try:
        return orjson.loads(text)
    except ValueError:
        return json.loads(text)
