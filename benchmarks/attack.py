"""`python -m benchmarks.attack PORT`: bad clients, until the process is ended. A process of its own does not slow the load client.

They keep a thousand connections open that send a byte a second, half of them in the headers and half in the body. They send
bodies of a gigabyte, with their length or in endless chunks, and chunks whose stated length is false.
"""

from __future__ import annotations

import asyncio
import sys

import uvloop

SLOW = 1000
GIGABYTE = 2**30
PAUSE_S = 0.5
HEAD = b"POST /invocations HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"
FALSE_CHUNKS = (b"5\r\nabc\r\n0\r\n\r\n", b"zz\r\nabc\r\n", b"-1\r\n\r\n", b"fffffffffffffffff\r\nabc")
PIECE = b"x" * 2**16


async def attack(port: int) -> None:
    trickling = [_trickle(port, in_body=bool(number % 2), wait_s=number / SLOW) for number in range(SLOW)]
    large = _again(port, HEAD + b"content-length: %d\r\n\r\n" % GIGABYTE, PIECE, GIGABYTE // len(PIECE))
    endless = _again(port, CHUNKED, b"%x\r\n%b\r\n" % (len(PIECE), PIECE), GIGABYTE // len(PIECE))
    await asyncio.gather(*trickling, large, endless, *(_again(port, CHUNKED + chunk) for chunk in FALSE_CHUNKS))


async def _trickle(port: int, in_body: bool, wait_s: float) -> None:
    """Sends a byte a second, and connects again when the server closes the connection."""
    start = HEAD + b"content-length: 1000\r\n\r\n{" if in_body else HEAD + b"x-slow: "
    await asyncio.sleep(wait_s)
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(start)
            while not writer.is_closing():
                await asyncio.sleep(1)
                writer.write(b"1")
                await writer.drain()
        except OSError:
            await asyncio.sleep(PAUSE_S)


async def _again(port: int, start: bytes, piece: bytes = b"", pieces: int = 0) -> None:
    """Sends `start` and `pieces` times `piece`, until the server refuses them, again and again."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(start)
            for _ in range(pieces):
                writer.write(piece)
                await writer.drain()
            writer.close()
        except OSError:
            pass
        await asyncio.sleep(PAUSE_S)


if __name__ == "__main__":
    uvloop.run(attack(int(sys.argv[1])))
