"""A step's context: the environment, the settings, the ledger and the registry."""

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
    from pipeline.settings.rollout import Rollout


def utc_now() -> datetime:
    """The time now, with the zone UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Context:
    """The environment and the ledger. Settings and registry are read at their first use.

    `asked_by` is the person who asks for what is done here; '' when nobody does.
    """

    environment: Environment
    ledger: Ledger
    clock: Callable[[], datetime] = utc_now
    asked_by: str = ""

    @classmethod
    def here(cls, asked_by: str | None = "") -> Context:
        """This process's context, for the project of the working folder or of $PERENNIAL_PROJECT."""
        environment = Environment.read()
        return cls(environment, Ledger(environment.ledger_url), asked_by=asked_by or "")

    @property
    def project(self) -> Path:
        return self.environment.project

    @property
    def home(self) -> Path:
        return self.environment.home

    @property
    def server_mode(self) -> bool:
        """Whether a run's steps may run on workers that share no disk."""
        return self.environment.server_mode

    @cached_property
    def params(self) -> models.Params:
        """The settings. Who asks for a broken part of them gets a SettingsError; all else works without that part."""
        return models.load(self.project, self.environment.params_read)

    @cached_property
    def registry(self) -> Registry:
        from pipeline.registry.versions import Registry

        return Registry.of(self.environment)

    def rollout_settings(self, name: str) -> Rollout:
        """The model's `rollout` settings. Where its block cannot be read, those that its live version went live with.

        Raises SettingsError, the block's fault, when the ledger has none either.
        """
        from pipeline.rollout.recorded import recorded_settings

        if name in self.params.models:
            return self.params.models[name].rollout
        return recorded_settings(self.ledger, name) or self.params.model(name).rollout

    def rollout(self, run: str) -> RolloutContext:
        """The context of a rollout that `run` makes."""
        from pipeline.rollout.context import RolloutContext

        return RolloutContext.of(self.environment, self.ledger, run, self.params.models, self.asked_by)
