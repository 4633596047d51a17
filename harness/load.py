"""Steady requests against an address while something happens to what answers it."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from demo.replay import Replay, Tally


def wait_for_answers(tally: Tally, version: str, count: int = 1, limit_s: float = 120) -> None:
    """Waits until `version` has answered so many requests of a load that goes on. Raises AssertionError."""
    until = time.monotonic() + limit_s
    while tally.versions[version] < count:
        assert time.monotonic() < until, f"version {version} answered {tally.versions[version]} of {count} requests"
        time.sleep(0.05)


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
