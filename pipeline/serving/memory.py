"""The memory that a process of a slot has for requests: what the slot was given, less what it takes without any.

Each request that is no small one reserves what it is going to take: its bytes as they come, and what the parser makes of them. What is
not there is refused with one line, because a slot that takes more than it was given is killed, and every request with it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.serving.errors import RequestRefused
from pipeline.serving.settings import Settings

# Left for small requests, runs of the model and the prediction log.
HEADROOM_BYTES = 64 * 2**20
# What the processes take that answer requests which are sent again, beyond what they share with this one: 15 MB, measured.
FORKED_BYTES = 16 * 2**20
# A model that fills its slot still gets requests of some ten thousand values.
LEAST_BYTES = 32 * 2**20


class Memory:
    """Counts what the requests of one process have reserved."""

    def __init__(self, limit: int) -> None:
        self.limit, self.reserved = limit, 0
        self._lock = threading.Lock()

    @classmethod
    def of(cls, settings: Settings) -> Memory:
        """This process's share of the slot's memory, of which it has taken what it needs at its start."""
        share = (settings.memory_mb * 2**20 - HEADROOM_BYTES) // settings.processes
        return cls(max(share - _resident_bytes() - FORKED_BYTES, LEAST_BYTES))

    @contextmanager
    def reservation(self) -> Iterator[Reservation]:
        """What one request has reserved; given back at the end of the block."""
        own = Reservation(self)
        try:
            yield own
        finally:
            own.give_back(own.held)

    def add(self, count: int) -> bool:
        """Reserves `count` bytes, or with a negative count gives them back. False when they are not there."""
        with self._lock:
            if count > 0 and self.reserved + count > self.limit:
                return False
            self.reserved += count
            return True


class Reservation:
    """What one request has reserved of a process's memory."""

    def __init__(self, memory: Memory) -> None:
        self._memory, self.held = memory, 0

    def take(self, count: int) -> None:
        """Reserves `count` bytes more. Raises RequestRefused: 413 when no request may take as much, else 429."""
        self.refuse_impossible(count)
        if not self._memory.add(count):
            raise RequestRefused(429, "the slot's memory is taken by other large requests; try again later")
        self.held += count

    def refuse_impossible(self, count: int) -> None:
        """Raises RequestRefused (413) when no request may take `count` bytes more than this one has."""
        if self.held + count > self._memory.limit:
            needed, limit = (n / 2**20 for n in (self.held + count, self._memory.limit))
            raise RequestRefused(
                413,
                f"the request would take {needed:.0f} MB of memory, and the slot has {limit:.0f} MB for requests; "
                "split it, or raise rollout.serving.memory_mb",
            )

    def give_back(self, count: int) -> None:
        """Gives `count` of the bytes back."""
        self._memory.add(-count)
        self.held -= count

    @contextmanager
    def during(self, count: int) -> Iterator[None]:
        """Reserves `count` bytes for the time of the block. Raises RequestRefused as `take` does."""
        self.take(count)
        try:
            yield
        finally:
            self.give_back(count)


def _resident_bytes() -> int:
    """What this process takes now; 0 where the system has no /proc."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:")), 0)
