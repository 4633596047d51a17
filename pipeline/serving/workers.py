"""A slot's worker processes: one for each core it was given, each with its own model, all on one listening socket.

The parent has checked the package, forks the workers and serves nothing itself. It restarts a worker that ends by itself, and
counts the requests that such a worker cut off.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable

from pipeline.serving.metrics import Metrics

# The parent waits so long before it restarts a worker that ended sooner than this after its start.
RESTART_DELAY_S = 1.0

logger = logging.getLogger(__name__)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket that several processes can share."""
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((host, port))
    listening.listen(2048)
    listening.set_inheritable(True)
    return listening


def run(processes: int, metrics: Metrics, work: Callable[[int], None]) -> None:
    """Runs `work(process)` in that many processes until a signal ends them; a single one is this process."""
    if processes == 1:
        work(0)
    else:
        _Parent(processes, metrics, work).run()


class _Parent:
    def __init__(self, processes: int, metrics: Metrics, work: Callable[[int], None]) -> None:
        self._metrics, self._work = metrics, work
        # pid -> (number of the worker, when it started).
        self._running: dict[int, tuple[int, float]] = {}
        self._ending = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)
        # What the package took to load counts with the first process.
        metrics.count_processor()
        for process in range(processes):
            self._fork(process)

    def _fork(self, process: int) -> None:
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            code = 1
            try:
                self._work(process)
                code = 0
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        self._running[pid] = process, time.monotonic()

    def _end(self, number: int, _frame: object) -> None:
        self._ending = True
        for pid in self._running:
            os.kill(pid, number)

    def run(self) -> None:
        while self._running:
            try:
                pid, status = os.wait()
            except InterruptedError:
                continue
            process, started = self._running.pop(pid)
            cut_off = self._metrics.cut_off_under_way(process)
            if self._ending:
                continue
            code = os.waitstatus_to_exitcode(status)
            logger.error("process %d ended (%d), %d requests cut off; it is restarted", process, code, cut_off)
            if time.monotonic() - started < RESTART_DELAY_S:
                time.sleep(RESTART_DELAY_S)
            self._fork(process)
