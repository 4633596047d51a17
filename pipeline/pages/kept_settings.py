"""The settings of the last page, while their files are the same bytes: to check 200 blocks takes longer than all else of a page."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from pipeline.context import Context
from pipeline.settings.models import Params

# dvc.yaml names the stages, by which blocks are checked.
FILES = ("params.yaml", "dvc.yaml")

_kept: dict[Path, tuple[str, Params]] = {}


def with_kept_settings(context: Context) -> Context:
    """The context with the settings that an earlier page has read and checked, where they are the same."""
    digest = _digest(context.project)
    before, params = _kept.get(context.project, ("", None))
    if params is None or before != digest:
        params = context.params
        # What was written meanwhile may have been read, and the files may come back as they were.
        if _digest(context.project) == digest:
            _kept[context.project] = (digest, params)
    own = replace(context)
    # Where cached_property looks before it reads them.
    own.__dict__["params"] = params
    return own


def _digest(project: Path) -> str:
    digest = hashlib.sha256()
    for name in FILES:
        path = project / name
        digest.update(hashlib.sha256(path.read_bytes() if path.is_file() else b"").digest())
    return digest.hexdigest()
