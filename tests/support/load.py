"""Steady requests against an address while something happens to what answers it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from demo.replay import Replay, Tally


@contextmanager
def steady_load(address: str, body: bytes, pace: float = 200.0) -> Iterator[Tally]:
    """Sends `body` over and over; the tally is complete once the block has ended."""
    replay = Replay(address, connections=4, pace=pace)
    stopped = threading.Event()

    def bodies() -> Iterator[bytes]:
        while not stopped.is_set():
            yield body

    worker = threading.Thread(target=replay.play, args=(bodies(),), daemon=True)
    worker.start()
    try:
        yield replay.tally
    finally:
        stopped.set()
        worker.join(60)
