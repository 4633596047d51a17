"""Requests at a steady pace, each with a time of its own: a server that stalls is late for all that should have come meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import uvloop

ANSWER_S = 20.0


@dataclass
class Paced:
    """`seconds` from when each request should have been sent to its answer; `codes` of the answers, 0 for none."""

    seconds: list[float] = field(default_factory=list)
    codes: Counter[int] = field(default_factory=Counter)
    good_at: list[float] = field(default_factory=list)

    @property
    def sent(self) -> int:
        return self.codes.total()

    @property
    def failed(self) -> int:
        return self.sent - self.codes[200]

    @property
    def outage_s(self) -> float:
        """The longest time without a good answer."""
        return max((b - a for a, b in zip(self.good_at, self.good_at[1:], strict=False)), default=float("inf"))

    def percentile_ms(self, share: float) -> float:
        ordered = sorted(self.seconds)
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def send(port: int, requests: Sequence[bytes], rate: float, seconds: float, connections: int = 16) -> Paced:
    """Sends `requests` in a cycle, `rate` a second."""
    return uvloop.run(_send(port, requests, rate, seconds, connections))


async def _send(port: int, requests: Sequence[bytes], rate: float, seconds: float, connections: int) -> Paced:
    paced, waiting = Paced(), asyncio.Queue[tuple[float, bytes] | None]()
    workers = [asyncio.create_task(_work(port, waiting, paced)) for _ in range(connections)]
    start = time.perf_counter()
    for number in range(int(rate * seconds)):
        due = start + number / rate
        await asyncio.sleep(due - time.perf_counter())
        waiting.put_nowait((due, requests[number % len(requests)]))
    for _ in workers:
        waiting.put_nowait(None)
    await asyncio.gather(*workers)
    paced.good_at.sort()
    return paced


async def _work(port: int, waiting: asyncio.Queue[tuple[float, bytes] | None], paced: Paced) -> None:
    connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    while (taken := await waiting.get()) is not None:
        due, request = taken
        code = 0
        try:
            async with asyncio.timeout(ANSWER_S):
                connection = connection or await asyncio.open_connection("127.0.0.1", port)
                connection[1].write(request)
                code = await answer(connection[0])
        except (OSError, EOFError, ValueError, TimeoutError):
            if connection is not None:
                connection[1].close()
            connection = None
        now = time.perf_counter()
        paced.seconds.append(now - due)
        paced.codes[code] += 1
        if code == 200:
            paced.good_at.append(now)


async def answer(reader: asyncio.StreamReader) -> int:
    """Reads one whole answer, which states its length; returns its status code."""
    head = await reader.readuntil(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    await reader.readexactly(int(lengths[0].split(b":")[1]) if lengths else 0)
    return int(head.split(b" ", 2)[1])
