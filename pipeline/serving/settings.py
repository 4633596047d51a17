"""What a slot is told beside its package. It comes as JSON in one variable of its environment, and holds no secret in clear."""

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

    `api_keys` are SHA-256 digests in hexadecimal; none means that everybody may ask. `personal` says which columns the
    prediction log gets hashed (with `log_key`, in hexadecimal) or not at all. With a `public_key` the package's
    manifest must carry `signature` by it.
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
        """What $PERENNIAL_SERVING says; the defaults without it."""
        told: dict[str, Any] = json.loads(os.environ.get(VARIABLE, "{}"))
        return cls(**{**told, "api_keys": tuple(told.get("api_keys", ()))})

    def as_json(self) -> str:
        """What `from_environment` reads."""
        return json.dumps({name: _plain(value) for name, value in vars(self).items()})


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else list(value) if isinstance(value, tuple) else value
