"""A slot's processes: as many as it was given cores, each with its own model, all on one socket.

The parent checks the package, then forks; it serves nothing. It starts a process again that ended by itself, and at
the end tells how many requests all of them together cut off.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable

from pipeline.serving import metrics
from pipeline.serving.metrics import Metrics

# A process that ends sooner than this after its start is not started again at once.
QUICK_S = 1.0


def listen(host: str, port: int) -> socket.socket:
    """A listening socket that several processes may share."""
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((host, port))
    listening.listen(2048)
    listening.set_inheritable(True)
    return listening


def serve(processes: int, counts: Metrics, work: Callable[[int], None]) -> int:
    """Runs `work(process)` in so many processes until a signal ends them; returns the exit code."""
    if processes == 1:
        work(0)
        return 0
    return _Parent(processes, counts, work).run()


class _Parent:
    def __init__(self, processes: int, counts: Metrics, work: Callable[[int], None]) -> None:
        self._counts, self._work = counts, work
        self._running: dict[int, tuple[int, float]] = {}
        self._ending = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)
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

    def run(self) -> int:
        while self._running:
            try:
                pid, status = os.wait()
            except InterruptedError:
                continue
            process, since = self._running.pop(pid)
            lost = self._counts.forget_under_way(process)
            if self._ending:
                continue
            print(f"process {process} ended ({os.waitstatus_to_exitcode(status)}), {lost} requests cut off", flush=True)
            if time.monotonic() - since < QUICK_S:
                time.sleep(QUICK_S)
            self._fork(process)
        return 0


def farewell(counts: Metrics) -> None:
    """Prints what the engine that ends the slot reads and tells the ledger."""
    print(f"drained: {counts.total(metrics.CUT_OFF)} requests cut off", flush=True)
