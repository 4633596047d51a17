"""A load client that is cheaper than the server it measures: requests are prepared as bytes, connections are kept alive."""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import uvloop

LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


@dataclass
class Load:
    """The answers: `seconds` of each in order, and how many had which status code."""

    wall_s: float
    seconds: list[float] = field(default_factory=list)
    codes: Counter[int] = field(default_factory=Counter)

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.seconds) / self.wall_s

    @property
    def failed(self) -> int:
        return sum(count for code, count in self.codes.items() if code != 200)

    def percentile_ms(self, share: float) -> float:
        """The time within which `share` of the answers came, in milliseconds."""
        ordered = sorted(self.seconds)
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def request(path: str, body: bytes, headers: dict[str, str] | None = None) -> bytes:
    """One POST request as it goes over the wire."""
    more = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n{more}"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def send(port: int, requests: Sequence[bytes], count: int, connections: int = 8, warm: int = 200) -> Load:
    """Sends `requests` in a cycle, `count` in all, after `warm` that do not count; one request at a time on each connection."""
    uvloop.run(_send(port, requests, warm, connections))
    return uvloop.run(_send(port, requests, count, connections))


async def _send(port: int, requests: Sequence[bytes], count: int, connections: int) -> Load:
    loop = asyncio.get_running_loop()
    left = itertools.islice(itertools.cycle(requests), count)
    load, connected = Load(0.0), []
    start = time.perf_counter()
    for _ in range(connections):
        ended = loop.create_future()
        await loop.create_connection(lambda ended=ended: _Connection(left, load, ended), "127.0.0.1", port)
        connected.append(ended)
    await asyncio.gather(*connected)
    load.wall_s = time.perf_counter() - start
    return load


class _Connection(asyncio.Protocol):
    def __init__(self, left, load: Load, ended: asyncio.Future) -> None:
        self._left, self._load, self._ended = left, load, ended
        self._answer, self._expected_bytes = bytearray(), 0

    def connection_made(self, transport) -> None:
        self._transport = transport
        self._next()

    def connection_lost(self, error: Exception | None) -> None:
        if not self._ended.done():
            self._ended.set_exception(error or ConnectionError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if not self._expected_bytes and (end := self._answer.find(b"\r\n\r\n")) >= 0:
            length = LENGTH.search(self._answer, 0, end)
            self._expected_bytes = end + 4 + (int(length[1]) if length else 0)
        if self._expected_bytes and len(self._answer) >= self._expected_bytes:
            self._load.seconds.append(time.perf_counter() - self._sent_at)
            self._load.codes[int(self._answer[9:12])] += 1
            self._next()

    def _next(self) -> None:
        request = next(self._left, None)
        if request is None:
            self._ended.set_result(None)
            self._transport.close()
            return
        self._answer.clear()
        self._expected_bytes = 0
        self._sent_at = time.perf_counter()
        self._transport.write(request)
