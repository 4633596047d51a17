"""Runs a service, and starts it again when it ends by itself.

honcho ends everything when one of its processes ends. A scheduler that fails must not take the router, and live traffic
with it, away; so each service of the Procfile runs under this supervisor. A service that cannot stay up ends everything.

    python -m pipeline.services.supervisor [--in FOLDER] COMMAND [ARGUMENT …]
"""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import time

from pipeline.settings import logs

log = logging.getLogger("pipeline.services.supervisor")

PAUSE_S = 0.5
# A service that ends within EARLY_S, LIMIT times in a row, has a fault that another start does not remove.
EARLY_S, LIMIT = 10.0, 5


class Supervisor:
    """Keeps one service running until SIGTERM or SIGINT."""

    def __init__(self, command: list[str], folder: str | None = None) -> None:
        self._command, self._folder = command, folder
        self._name = " ".join(command[:2])
        self._service: subprocess.Popen | None = None
        self._stopped = False

    def run(self) -> int:
        """Returns 0 after a signal, else the exit code of a service that ended too early too often."""
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        early = 0
        while True:
            started = time.monotonic()
            code = self._run_once()
            if self._stopped:
                return 0
            early = early + 1 if time.monotonic() - started < EARLY_S else 0
            if early >= LIMIT:
                log.error("%s ended %d times in a row, last with %d", self._name, LIMIT, code)
                return code or 1
            log.warning("%s ended with %d; starting it again", self._name, code)
            time.sleep(PAUSE_S)
            if self._stopped:
                return 0

    def _run_once(self) -> int:
        """The exit code of one run of the service."""
        self._service = subprocess.Popen(self._command, cwd=self._folder)
        if self._stopped:  # the signal came while the service started
            self._service.terminate()
        return self._service.wait()

    def _stop(self, _signal: int, _frame: object) -> None:
        self._stopped = True
        if self._service is not None:
            self._service.terminate()


def main(arguments: list[str]) -> int:
    logs.configure("service")
    folder = None
    if arguments[:1] == ["--in"]:
        folder, arguments = arguments[1], arguments[2:]
    return Supervisor(arguments, folder).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
