"""Recovers a rollout that was cut off, as `perennial reconcile MODEL` does, within seconds of its process's death.

It looks at the ledger once a second and starts that command in a process of its own: reconcile needs libraries that would make this
process large. On a server the deployer does the same.

    python -m pipeline.services.rollout_keeper
"""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import LedgerError
from pipeline.ledger.lease import Holder
from pipeline.ledger.store import Ledger
from pipeline.rollout.cut_off import LOOK_S, CutOff
from pipeline.rollout.routing import route_file
from pipeline.settings import logs
from pipeline.settings.environment import Environment

log = logging.getLogger("pipeline.services.rollout_keeper")

# So many models are recovered at once.
AT_ONCE = 4
# A ledger that cannot be read is asked again after so many seconds.
AWAY_S = 5.0


@dataclass
class RolloutKeeper:
    """`look` is called again and again, for ever."""

    project: Path
    home: Path
    ledger: Ledger
    _recovering: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._cut_off = CutOff(self.ledger, self._is_ours)

    def look(self) -> None:
        """Starts the recovery of each model that is cut off. Raises LedgerError."""
        for model, process in list(self._recovering.items()):
            if process.poll() is not None:
                del self._recovering[model]
                if process.returncode:
                    log.warning("%s: reconcile ended with %d; it is tried again", model, process.returncode)
        for model in self._cut_off.due():
            if model not in self._recovering and len(self._recovering) < AT_ONCE:
                log.warning("%s: its rollout was cut off, and nobody carries it on: reconcile", model)
                self._cut_off.tries(model)
                command = [sys.executable, "-m", "pipeline", "reconcile", model]
                self._recovering[model] = subprocess.Popen(command, cwd=self.project, stdin=subprocess.DEVNULL)

    def _is_ours(self, model: str, holder: Holder) -> bool:
        """Other machines that share the ledger look after their own."""
        return holder.is_local or route_file.route_file(self.home, model).is_file()


def main() -> None:
    """Looks until the process is ended; while the ledger is away it waits longer."""
    logs.configure("service")
    environment = Environment.read()
    keeper: RolloutKeeper | None = None
    while True:
        pause = LOOK_S
        try:
            keeper = keeper or RolloutKeeper(environment.project, environment.home, Ledger(environment.ledger_url))
            keeper.look()
        except LedgerError as error:
            log.warning("%s", error)
            pause = AWAY_S
        except Exception:
            # Nothing that one model's state holds may end the keeper of all.
            log.exception("a look at the rollouts failed")
        time.sleep(pause)


if __name__ == "__main__":
    main()
