"""Watches the containers of one home: a death of one leaves an event. Docker itself starts it again.

On one machine the slots' keeper uses this, on a server a thread of the deployer.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from pipeline.rollout.engines.base import EngineSettings
from pipeline.rollout.engines.docker import home_id
from pipeline.rollout.engines.docker_events import ContainerDeaths
from pipeline.rollout.slot_deaths import Death, is_noted, note
from pipeline.settings.environment import Environment

# Docker's own pause before a restart grows to a minute.
IN_A_ROW_S = 80.0
# So many deaths wait for a ledger that cannot be written.
WAITING_DEATHS = 100


@dataclass
class ContainerWatch:
    """`look` returns the deaths since the last one; each says how often in a row its container died soon after its start."""

    deaths: ContainerDeaths
    _last: dict[str, tuple[float, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, environment: Environment) -> ContainerWatch:
        return cls(ContainerDeaths(home_id(EngineSettings.of(environment))))

    def look(self) -> list[Death]:
        """Raises OSError, http.client.HTTPException, ValueError or KeyError when the engine does not answer."""
        return [Death.of_container(death, self._times(death.container)) for death in self.deaths.look()]

    def _times(self, container: str) -> int:
        at, times = self._last.get(container, (0.0, 0))
        now = time.monotonic()
        times = times + 1 if times and now - at < IN_A_ROW_S else 1
        self._last[container] = now, times
        return times


@dataclass
class DeathNotes:
    """Notes the deaths of containers in the ledger; those that could not be noted wait for the next `look`."""

    environment: Environment
    watch: ContainerWatch
    _waiting: list[Death] = field(default_factory=list)

    def look(self) -> None:
        """Raises LedgerError, and what `ContainerWatch.look` raises."""
        self._waiting = [*self._waiting, *filter(is_noted, self.watch.look())][-WAITING_DEATHS:]
        if self._waiting:
            note(self.environment, self._waiting)
            self._waiting = []
