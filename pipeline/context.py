"""Where a step works: the environment, the settings, the ledger, and what a step is given to work with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.ledger.store import Ledger
from pipeline.settings import models
from pipeline.settings.environment import Environment

if TYPE_CHECKING:
    from pipeline.registry.versions import Registry
    from pipeline.rollout.context import RolloutContext


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Context:
    """The environment and the ledger; settings and registry are read when they are first asked for."""

    environment: Environment
    ledger: Ledger
    clock: Callable[[], datetime] = utc_now

    @classmethod
    def here(cls) -> Context:
        """The context of this process: of the project that it is run in, or that $PERENNIAL_PROJECT names."""
        environment = Environment.read()
        return cls(environment, Ledger(environment.ledger_url))

    @property
    def project(self) -> Path:
        return self.environment.project

    @property
    def home(self) -> Path:
        return self.environment.home

    @property
    def server_mode(self) -> bool:
        """Whether a run's steps may land on workers that share no disk."""
        return self.environment.server_mode

    @cached_property
    def params(self) -> models.Params:
        """The settings; to look back, none are needed."""
        return models.load(self.project)

    @cached_property
    def registry(self) -> Registry:
        from pipeline.registry.versions import Registry

        return Registry.of(self.environment)

    def rollout(self, run: str) -> RolloutContext:
        """What a rollout of `run` works with. Raises SettingsError."""
        from pipeline.rollout.context import RolloutContext

        limits = {name: model.rollout.serving.rate_limit for name, model in self.params.models.items()}
        return RolloutContext.of(self.environment, self.ledger, run, limits)
