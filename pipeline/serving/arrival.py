"""One request's body as it arrives. A large one is unpacked and scanned piece by piece, and the first piece over a limit ends it.

What is refused so is not read to its end: the rest of 15 MB costs more than all that a slot does with its first 128 KB.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pipeline.serving.errors import BadRequest, RequestRefused
from pipeline.serving.memory import Reservation
from pipeline.serving.scan import PIECE_BYTES, CsvScan, Scan
from pipeline.serving.settings import Settings

Headers = dict[bytes, bytes]
Receive = Callable[[], Awaitable[Any]]
# The bodies that arrive in pieces may together be so many times the limit of one, or they would fill the memory.
MAX_PARTIAL_BODIES = 4
# So much of a refused body is read all the same, because many clients read no answer before they have sent everything.
REST_BYTES = 2**20
GZIP_BITS = 31
# A gzip body may have several members. Each costs some microseconds, whatever is in it.
MAX_MEMBERS = 16


class ClientDisconnected(Exception):
    """The client closed the connection before its request was complete."""


class PartialBodies:
    """The bytes of all bodies that are still incomplete."""

    def __init__(self, settings: Settings) -> None:
        self._most, self._bytes = MAX_PARTIAL_BODIES * settings.max_body_bytes, 0

    def add(self, count: int) -> None:
        """Counts `count` bytes more, or less when it is negative. Raises RequestRefused (429)."""
        if count > 0 and self._bytes + count > self._most:
            raise RequestRefused(429, "too many large requests are arriving; try again later")
        self._bytes += count


class Incoming:
    """A body on its way in. `more` says whether pieces are still to come, `length` what the client says of it; None for chunks."""

    def __init__(self, headers: Headers, receive: Receive, settings: Settings, partial: PartialBodies) -> None:
        # An HTTP parser takes any number of leading zeros, and int() no more than 4,300 digits.
        digits = headers.get(b"content-length", b"").lstrip(b"0")
        self.length = int(digits or b"0") if b"content-length" in headers else None
        self.more, self.received = True, 0
        self._receive, self._settings, self._partial = receive, settings, partial
        # How long the client may still keep us waiting.
        self._left_s = settings.request_s
        self._counted = 0

    async def piece(self) -> bytes:
        """The next piece. Raises RequestRefused for a body that is too large or too late, or ClientDisconnected."""
        if self.length is not None and self.length > self._settings.max_body_bytes:
            raise too_large(self._settings)
        try:
            piece = await self._next()
        except TimeoutError:
            raise RequestRefused(408, f"the body did not arrive within {self._settings.request_s:g} s") from None
        if self.received > self._settings.max_body_bytes:
            raise too_large(self._settings)
        if self.more:
            self._partial.add(len(piece))
            self._counted += len(piece)
        else:
            self.close()
        return piece

    async def read_rest(self) -> bool:
        """Reads what is left of a body that was refused. False when that is much, or does not come: the connection must end."""
        try:
            while self.more and self.length is not None and self.length - self.received <= REST_BYTES:
                await self._next()
        except TimeoutError:
            return False
        return not self.more

    def close(self) -> None:
        """Counts the body no longer among the incomplete ones."""
        self._partial.add(-self._counted)
        self._counted = 0

    async def _next(self) -> bytes:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        async with asyncio.timeout(self._left_s):
            message = await self._receive()
        self._left_s -= loop.time() - begun
        if message["type"] == "http.disconnect":
            raise ClientDisconnected
        piece: bytes = message["body"]
        self.more = message.get("more_body", False)
        self.received += len(piece)
        return piece


class Arrival:
    """A large body: each piece is unpacked, scanned and kept."""

    def __init__(self, scan: Scan | CsvScan, encoding: bytes, settings: Settings, reserved: Reservation) -> None:
        self._scan, self._settings, self._reserved = scan, settings, reserved
        bits = content_coding(encoding)
        self._unpacking = Unpacking(bits, encoding) if bits else None
        # What came since the last block; the blocks.
        self._started = b""
        self._blocks: list[bytes] = []
        self._size = 0

    def feed(self, piece: bytes) -> None:
        """Takes the next piece as it was sent. Raises RequestRefused as soon as the body is over a limit."""
        for plain in [piece] if self._unpacking is None else self._unpacking.feed(piece):
            self._size += len(plain)
            if self._size > self._settings.max_body_bytes:
                raise too_large(self._settings)
            # Always in blocks of the same size: of two limits that a body breaks, the pieces it came in do not select the one it gets.
            self._started += plain
            ends = range(PIECE_BYTES, len(self._started) + 1, PIECE_BYTES)
            for end in ends:
                self._take(self._started[end - PIECE_BYTES : end])
            self._started = self._started[len(ends) * PIECE_BYTES :]

    def whole(self) -> bytes:
        """The body, unpacked. Raises RequestRefused when its last block is over a limit, or a packed one has no end."""
        self._take(self._started)
        if self._unpacking is not None:
            self._unpacking.finish()
        return b"".join(self._blocks)

    def _take(self, block: bytes) -> None:
        # Twice: the blocks, and the whole body that is made of them.
        self._reserved.take(2 * len(block))
        self._scan.feed(block)
        self._reserved.refuse_impossible(self._scan.parse_bytes())
        self._blocks.append(block)


class Unpacking:
    """Unpacks one gzip member or several, or one deflate stream, as its bytes come."""

    def __init__(self, bits: int, encoding: bytes) -> None:
        self._bits, self._encoding = bits, encoding
        self._member, self._members = zlib.decompressobj(bits), 1

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What the next bytes unpack to, in pieces of at most PIECE_BYTES. Raises BadRequest."""
        while data:
            with valid(self._encoding):
                if self._member.eof:
                    self._begin_member(len(data))
                piece = self._member.decompress(data, PIECE_BYTES)
            if piece:
                yield piece
            data = self._member.unused_data if self._member.eof else self._member.unconsumed_tail

    def finish(self) -> None:
        """Raises BadRequest when more bytes were needed."""
        with valid(self._encoding):
            if not self._member.eof:
                raise EOFError("it ends early")

    def _begin_member(self, left: int) -> None:
        if self._bits != GZIP_BITS or self._members == MAX_MEMBERS:
            raise EOFError(f"{left} bytes follow its end")
        self._member, self._members = zlib.decompressobj(self._bits), self._members + 1


def too_large(settings: Settings) -> RequestRefused:
    """The refusal of a body that is larger than the settings allow."""
    return RequestRefused(413, f"the body is larger than {settings.max_body_bytes / 2**20:g} MiB")


def content_coding(encoding: bytes) -> int:
    """zlib's number for a content-encoding; 0 for none. Raises RequestRefused (415) for one that is not supported."""
    bits = {b"gzip": GZIP_BITS, b"deflate": 15, b"identity": 0, b"": 0}.get(encoding.strip().lower())
    if bits is None:
        name = encoding[:20].decode("latin-1")
        raise RequestRefused(415, f"content-encoding must be one of gzip, deflate; got {name}")
    return bits


@contextmanager
def valid(encoding: bytes) -> Iterator[None]:
    """Raises BadRequest for what zlib cannot unpack."""
    try:
        yield
    except (zlib.error, EOFError) as error:
        raise BadRequest(f"the body is not valid {encoding[:20].decode('latin-1')} ({error})") from None
