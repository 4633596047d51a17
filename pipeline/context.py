"""Where a step works: the project, this machine's state, the settings and the ledger."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.ledger.store import Ledger, open_ledger
from pipeline.settings import models as params

if TYPE_CHECKING:
    from pipeline.rollout.context import RolloutContext


@dataclass(frozen=True)
class Context:
    """The project, this machine's state, the settings and the ledger."""

    project: Path
    home: Path
    ledger: Ledger

    @classmethod
    def here(cls) -> Context:
        """The context of the project this is run in (or that $PERENNIAL_PROJECT names)."""
        return cls(params.project_root(), params.home(), open_ledger(params.home()))

    @cached_property
    def params(self) -> params.Params:
        """The settings, read when they are first asked for: to look back, none are needed."""
        return params.load(self.project)

    @property
    def apart(self) -> bool:
        """Whether a run's steps may land on workers that share no disk ($PERENNIAL_WORKERS_APART)."""
        return os.environ.get("PERENNIAL_WORKERS_APART", "") == "1"

    def rollout(self, run: str) -> RolloutContext:
        from pipeline.rollout.context import RolloutContext

        limits = {name: m.rollout.serving.rate_limit for name, m in self.params.models.items()}
        return RolloutContext(self.home, self.project, self.ledger, run, rate_limits=limits)
