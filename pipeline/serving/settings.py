"""The settings of a slot. They come as JSON in a file, which an environment variable names, and hold API keys only as digests."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

# Names the file. The settings themselves hold a secret, and an environment can be read in many places.
VARIABLE = "PERENNIAL_SERVING"


@dataclass(frozen=True)
class Settings:
    """Limits, keys and columns of one slot.

    `api_keys` are SHA-256 digests in hexadecimal; without any, every client may ask. `personal` names the columns that the
    prediction log gets as pseudonyms (by `log_key`, in hexadecimal) or not at all. With a `public_key` (Ed25519, in
    hexadecimal) the package's manifest must carry that key's `signature`. `golden_key` is the digest of the key that a golden
    request carries: it is drawn at each start of a slot, and only who started the slot has it.
    """

    max_body_bytes: int = 16 * 2**20
    max_rows: int = 10_000
    request_s: float = 30.0
    memory_mb: int = 512
    processes: int = 1
    batching: Literal["auto", "on", "off"] = "auto"
    on_breach: Literal["refuse", "flag"] = "refuse"
    api_keys: tuple[str, ...] = ()
    personal: Mapping[str, Literal["hash", "drop"]] = field(default_factory=dict)
    log_key: str = ""
    public_key: str = ""
    signature: str = ""
    golden_key: str = ""

    @classmethod
    def from_environment(cls) -> Settings:
        """The settings in the file that $PERENNIAL_SERVING names; the defaults when it is not set."""
        path = os.environ.get(VARIABLE)
        values: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8")) if path else {}
        return cls(**{**values, "api_keys": tuple(values.get("api_keys", ()))})

    def as_json(self) -> str:
        """The content of the file that `from_environment` reads back: an older server starts too while it has the keys that are set."""
        defaults = vars(Settings())
        return json.dumps({name: _plain(value) for name, value in vars(self).items() if value != defaults[name]})


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else list(value) if isinstance(value, tuple) else value
