"""The settings of a slot. They come as JSON in one environment variable and hold API keys only as digests."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

VARIABLE = "PERENNIAL_SERVING"


@dataclass(frozen=True)
class Settings:
    """Limits, keys and columns of one slot.

    `api_keys` are SHA-256 digests in hexadecimal; without any, every client may ask. `personal` names the columns that the
    prediction log gets as pseudonyms (by `log_key`, in hexadecimal) or not at all. With a `public_key` (Ed25519, in
    hexadecimal) the package's manifest must carry that key's `signature`.
    """

    max_body_bytes: int = 16 * 2**20
    max_rows: int = 10_000
    request_s: float = 30.0
    processes: int = 1
    batching: Literal["auto", "on", "off"] = "auto"
    api_keys: tuple[str, ...] = ()
    personal: Mapping[str, Literal["hash", "drop"]] = field(default_factory=dict)
    log_key: str = ""
    public_key: str = ""
    signature: str = ""

    @classmethod
    def from_environment(cls) -> Settings:
        """The settings in $PERENNIAL_SERVING; the defaults when it is not set."""
        values: dict[str, Any] = json.loads(os.environ.get(VARIABLE, "{}"))
        return cls(**{**values, "api_keys": tuple(values.get("api_keys", ()))})

    def as_json(self) -> str:
        """The value of $PERENNIAL_SERVING that `from_environment` reads back."""
        return json.dumps({name: _plain(value) for name, value in vars(self).items()})


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else list(value) if isinstance(value, tuple) else value
