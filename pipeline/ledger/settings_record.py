"""A change of a model's block is written down when the block is first used: by a run, or by a deploy."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.ledger.approval_events import SettingsChanged
from pipeline.ledger.chain import canonical
from pipeline.ledger.store import Ledger
from pipeline.settings.models import Model
from pipeline.workspaces.params_author import params_author


def note(ledger: Ledger, name: str, model: Model, project: Path, run: str = "", asked_by: str = "") -> None:
    """Writes an event when the block is another than the last one that was used."""
    settings = flat(model)
    digest = hashlib.sha256(canonical(settings).encode()).hexdigest()
    last = ledger.newest(SettingsChanged, models=[name])
    if last and last[-1].event.digest == digest:
        return
    author, commit = params_author(project)
    event = SettingsChanged(
        digest=digest,
        settings=settings,
        changed=changes(last[-1].event.settings, settings) if last else {},
        code_revision=commit,
        author=author,
        asked_by=asked_by or None,
    )
    ledger.append(event, name, run)


def flat(model: Model) -> dict[str, Any]:
    """The keys of the block that are not at their defaults, dotted, each with its JSON value."""
    found: dict[str, Any] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict) and value:
            for key, inner in value.items():
                walk(f"{prefix}.{key}" if prefix else str(key), inner)
        else:
            found[prefix] = value

    walk("", model.model_dump(mode="json", exclude_defaults=True))
    return found


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, list[Any]]:
    """[before, now] of each key that differs; None for one that is at its default."""
    keys = sorted({*before, *now})
    return {key: [before.get(key), now.get(key)] for key in keys if before.get(key) != now.get(key)}
