"""Asks many addresses at once, each with a time-out of its own: one dead model delays no other.

Plain HTTP/1.1 on asyncio's streams, because 200 models take 20 requests a second, for ever: a client library costs five times as much.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

# More at once would need more open files than a process may have.
AT_ONCE = 400
LARGEST = 4 * 2**20


@dataclass(frozen=True)
class Asked:
    """An answer: its status, headers in lower case, and body. Code 0: nobody answered; `away` when nobody even listened."""

    code: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    away: bool = False


async def ask_all(urls: Mapping[str, str], timeout_s: float) -> dict[str, Asked]:
    """The answers of the addresses `urls`, by their names there."""
    turn = asyncio.Semaphore(AT_ONCE)

    async def one(url: str) -> Asked:
        async with turn:
            return await ask(url, timeout_s)

    answers = await asyncio.gather(*map(one, urls.values()))
    return dict(zip(urls, answers, strict=True))


async def ask(url: str, timeout_s: float) -> Asked:
    """GET of the address. Raises nothing: what is no answer has code 0."""
    try:
        async with asyncio.timeout(timeout_s):
            return await _get(url)
    except ConnectionRefusedError:
        return Asked(away=True)
    except (OSError, TimeoutError, ValueError, EOFError, asyncio.LimitOverrunError):
        return Asked()


async def _get(url: str) -> Asked:
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    reader, writer = await asyncio.open_connection(
        parts.hostname, parts.port or (443 if secure else 80), ssl=secure or None
    )
    try:
        path = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
        head = f"GET {path} HTTP/1.1\r\nhost: {parts.netloc}\r\nconnection: close\r\naccept: */*\r\nuser-agent: perennial\r\n\r\n"
        writer.write(head.encode("ascii"))
        status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await _body(reader, headers)
        return Asked(int(status.split(" ")[1]), headers, body)
    finally:
        writer.close()


async def _body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    if headers.get("transfer-encoding") == "chunked":
        parts = []
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            parts.append(await reader.readexactly(min(size, LARGEST)))
            await reader.readexactly(2)
        return b"".join(parts)
    if "content-length" in headers:
        return await reader.readexactly(min(int(headers["content-length"]), LARGEST))
    return await reader.read(LARGEST)
