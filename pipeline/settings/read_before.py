"""params.yaml as it was read before: YAML of 200 blocks takes more than half a second, and each task of a run reads it.

The values are kept as JSON under the digest of the file and of the code that reads it. So a changed file, an older one in a run's
workspace, and another version of that code each have values of their own, and none is ever out of date. What JSON does not give back
as it was is not kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from datetime import date, datetime
from pathlib import Path
from typing import Any

import yaml

from pipeline.settings import yaml_file

# The files of the newest reads that stay: that of the project, and those of workspaces.
KEPT = 8
TIME = "$time"


def mapping(file: Path, memory: Path | None) -> dict[Any, Any]:
    """The keys and values of `file`; `memory` is the folder for what was read, None for none. Raises SettingsError."""
    kept = _kept_at(file, memory) if memory is not None else None
    if kept is None:
        return yaml_file.mapping(file)
    if (values := _recalled(kept)) is not None:
        return values
    values = yaml_file.mapping(file)
    # Between the digest and the reading somebody may have written the file.
    if kept == _kept_at(file, kept.parent):
        _keep(kept, values)
    return values


def _kept_at(file: Path, memory: Path) -> Path | None:
    """Where the values of the file are kept; None for a file that cannot be read, whose fault yaml_file tells."""
    digest = hashlib.sha256(yaml.__version__.encode())
    try:
        for part in (file, Path(yaml_file.__file__), Path(__file__)):
            digest.update(hashlib.sha256(part.read_bytes()).digest())
    except OSError:
        return None
    return memory / f"{digest.hexdigest()}.json"


def _recalled(kept: Path) -> dict[Any, Any] | None:
    """The values; None when they are not kept, or the file is damaged."""
    try:
        digest, _, text = kept.read_text(encoding="utf-8").partition("\n")
        if digest != _digest(text):
            return None
        values = json.loads(text, object_hook=_with_times)
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) else None


def _keep(kept: Path, values: dict[Any, Any]) -> None:
    aside = kept.with_name(f".{kept.name}.{os.getpid()}")
    # What cannot be kept, or on this disk, is read again the next time.
    with contextlib.suppress(OSError, ValueError, TypeError, RecursionError):
        text = json.dumps(values, default=_time)
        if json.loads(text, object_hook=_with_times) != values:
            return
        kept.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(f"{_digest(text)}\n{text}")
        aside.replace(kept)
        for old in sorted(kept.parent.glob("*.json"), key=lambda each: each.stat().st_mtime)[:-KEPT]:
            old.unlink(missing_ok=True)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _time(value: object) -> dict[str, str]:
    if isinstance(value, date):
        return {TIME: value.isoformat()}
    raise TypeError(f"{value!r} has no form in JSON")


def _with_times(values: dict[str, Any]) -> Any:
    if values.keys() != {TIME}:
        return values
    text = values[TIME]
    return datetime.fromisoformat(text) if "T" in text else date.fromisoformat(text)
