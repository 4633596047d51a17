"""Runs a service, and starts it again when it ends by itself.

The supervisor ends everything when one service ends. A scheduler that fails must not take the router, and live
traffic with it, away; so each service runs under this. One that cannot stay up at all still ends everything.

    python -m pipeline.services.supervisor COMMAND [ARGUMENT …]
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time

PAUSE_S = 0.5
# A service that ends so soon so often has something wrong that starting it again does not mend.
SOON_S, TRIES = 10.0, 5


def keep(command: list[str], folder: str | None = None) -> int:
    """Runs it in `folder` (here when None). Returns 0 when it was told to stop, else the exit code of a service that ended too soon too often."""
    stopped = False
    service: subprocess.Popen | None = None

    def stop(_signal: int, _frame: object) -> None:
        nonlocal stopped
        stopped = True
        if service is not None:
            service.terminate()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    soon = 0
    while True:
        started = time.monotonic()
        service = subprocess.Popen(command, cwd=folder)
        if stopped:
            service.terminate()
        code = service.wait()
        if stopped:
            return 0
        soon = soon + 1 if time.monotonic() - started < SOON_S else 0
        if soon >= TRIES:
            print(f"{' '.join(command[:2])} ended {TRIES} times in a row, last with {code}", flush=True)
            return code or 1
        print(f"{' '.join(command[:2])} ended with {code}; starting it again", flush=True)
        time.sleep(PAUSE_S)
        if stopped:
            return 0


if __name__ == "__main__":
    asked = sys.argv[1:]
    sys.exit(keep(asked[2:], asked[1]) if asked[:1] == ["--in"] else keep(asked))
