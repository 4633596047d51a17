"""The newest look at a step that goes on, in a file beside the routes: the ledger has a step's figures only once it has ended.

Whoever carries the rollout out writes it, at most once a second; a page reads it. It decides nothing.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.policy.canary import Judgement
from pipeline.settings.models import MODEL_NAME

EVERY_S = 1.0

log = logging.getLogger(__name__)


def look_file(home: Path, model: str) -> Path:
    """Where it lies; there is none before a rollout's first look."""
    return home / "rollout-looks" / f"{model}.json"


def read(home: Path, model: str) -> dict[str, Any] | None:
    """`rollout`, the number of the rollout's first event, `version`, `percent`, `at` (UTC, ISO 8601), `verdict`, `reason` and `looks`
    as pipeline.policy.canary.Judgement has them; None when nobody has looked."""
    if MODEL_NAME.fullmatch(model) is None:
        return None
    try:
        found = json.loads(look_file(home, model).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


@dataclass
class Noting:
    """Writes the looks at one step. A disk without room ends no rollout: the page then shows an older look, with its time."""

    home: Path
    model: str
    rollout: int
    version: str
    percent: int
    _next: float = field(default=0.0, init=False)

    def note(self, judged: Judgement) -> None:
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + EVERY_S
        about = {"rollout": self.rollout, "version": self.version, "percent": self.percent}
        look = {**about, "at": datetime.now(UTC).isoformat(timespec="milliseconds"), **judged.as_dict()}
        path = look_file(self.home, self.model)
        aside = path.with_suffix(".part")
        try:
            path.parent.mkdir(exist_ok=True)
            aside.write_text(json.dumps(look), encoding="utf-8")
            aside.replace(path)
        except OSError as error:
            log.warning("the newest look at %s is not written down for the page (%s)", self.model, error)
