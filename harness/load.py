"""Steady requests against an address while something happens to what answers it."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from demo.replay import Replay, Tally


@contextmanager
def steady_load(address: str, body: bytes | list[bytes], pace: float = 200.0, api_key: str = "") -> Iterator[Tally]:
    """Sends `body`, or each of them in turn, over and over; the tally is complete once the block has ended."""
    replay = Replay(address, connections=4, pace=pace, api_key=api_key)
    stopped = threading.Event()

    def bodies() -> Iterator[bytes]:
        for one in itertools.cycle([body] if isinstance(body, bytes) else body):
            if stopped.is_set():
                return
            yield one

    worker = threading.Thread(target=replay.play, args=(bodies(),), daemon=True)
    worker.start()
    try:
        yield replay.tally
    finally:
        stopped.set()
        worker.join(60)
