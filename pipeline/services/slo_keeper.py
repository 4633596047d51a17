"""Checks each live model through the router every ten seconds, and acts when an error budget burns.

It keeps what it counted in $PERENNIAL_HOME/slo.db, and writes to the ledger when a budget begins or ends to burn. A version whose budget
burns soon after its rollout is rolled back by `perennial slo MODEL --act` in a process of its own, because a rollback needs libraries that
would make this process large. On a server a thread of the deployer does the same.

    python -m pipeline.services.slo_keeper
"""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from dataclasses import dataclass, field

from pipeline.errors import PerennialError
from pipeline.ledger.store import Ledger
from pipeline.policy.service_levels import CHECK_S
from pipeline.reliability.watching import Watcher
from pipeline.settings import logs
from pipeline.settings.environment import Environment

log = logging.getLogger("pipeline.services.slo_keeper")


@dataclass
class SloKeeper:
    """`look` is called every CHECK_S seconds, for ever."""

    environment: Environment
    _acting: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._watcher = Watcher(self.environment, Ledger(self.environment.ledger_url), self._act)

    def look(self) -> None:
        self._watcher.look()

    def _act(self, model: str) -> None:
        """Starts the rollback of the model, one at a time."""
        running = self._acting.get(model)
        if running is not None and running.poll() is None:
            return
        command = [sys.executable, "-m", "pipeline", "slo", model, "--act"]
        self._acting[model] = subprocess.Popen(command, cwd=self.environment.project, stdin=subprocess.DEVNULL)


def main() -> None:
    """Checks until the process is ended: a fault of one round, or of one model, ends nothing."""
    logs.configure("service")
    environment = Environment.read()
    keeper: SloKeeper | None = None
    while True:
        begun = time.monotonic()
        try:
            keeper = keeper or SloKeeper(environment)
            keeper.look()
        except PerennialError as error:
            log.warning("%s", error)
        except Exception:
            # Nothing that one model's state holds may end the keeper of all.
            log.exception("a round of checks failed")
        time.sleep(max(0.0, CHECK_S - (time.monotonic() - begun)))


if __name__ == "__main__":
    main()
