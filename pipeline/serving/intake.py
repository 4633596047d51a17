"""Checks a request's key and reads its body: size, time, compression. A body over a limit is refused before it is held."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import zlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pipeline.serving.errors import BadRequest, RequestRefused
from pipeline.serving.memory import Reservation
from pipeline.serving.scan import PIECE_BYTES, UNSCANNED_BYTES, CsvScan, Scan
from pipeline.serving.settings import Settings

Headers = dict[bytes, bytes]
Receive = Callable[[], Awaitable[Any]]
GOLDEN_HEADER = b"x-golden-key"
# The bodies that arrive in pieces may together be so many times the limit of one, or they would fill the memory.
MAX_PARTIAL_BODIES = 4
GZIP_BITS = 31
# A gzip body may have several members. Each costs some microseconds, whatever is in it.
MAX_MEMBERS = 16


class ClientDisconnected(Exception):
    """The client closed the connection before its request was complete."""


class Intake:
    """Checks keys and reads bodies within the limits of one slot's settings."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._keys = [bytes.fromhex(digest) for digest in settings.api_keys]
        # Without a key no digest is equal to it.
        self._golden_key = bytes.fromhex(settings.golden_key)
        # The bytes of all bodies that are still incomplete.
        self._partial_bytes = 0

    def require_key(self, headers: Headers) -> None:
        """Raises RequestRefused (401) when the settings have keys and the request has none of them."""
        if not self._keys:
            return
        given = headers.get(b"x-api-key") or _bearer(headers.get(b"authorization", b""))
        digest = hashlib.sha256(given).digest()
        # All keys are compared, each in full, so that the time reveals nothing.
        if not sum([hmac.compare_digest(digest, key) for key in self._keys]):
            raise RequestRefused(401, "no valid key; send one in x-api-key, or in authorization: Bearer")

    def is_golden(self, headers: Headers) -> bool:
        """Whether the request proves by the slot's own key that it is a golden one, which is no traffic."""
        given = headers.get(GOLDEN_HEADER)
        return given is not None and hmac.compare_digest(hashlib.sha256(given).digest(), self._golden_key)

    async def body(self, headers: Headers, receive: Receive, reserved: Reservation) -> bytes:
        """The request's body as it was sent. Raises RequestRefused or ClientDisconnected."""
        # An HTTP parser takes any number of leading zeros, and int() no more than 4,300 digits.
        length = headers.get(b"content-length", b"").lstrip(b"0")
        if length and int(length) > self._settings.max_body_bytes:
            raise self._too_large()
        body = bytearray()
        partial = 0
        try:
            async with asyncio.timeout(self._settings.request_s):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientDisconnected
                    piece, more = message["body"], message.get("more_body", False)
                    if len(body) + len(piece) > self._settings.max_body_bytes:
                        raise self._too_large()
                    if not more and not body:
                        reserved.take(len(piece))
                        return piece
                    # Twice: the pieces, and the whole body that is made of them.
                    reserved.take(2 * len(piece))
                    body += piece
                    self._add_partial(len(piece))
                    partial += len(piece)
        except TimeoutError:
            raise RequestRefused(408, f"the body did not arrive within {self._settings.request_s:g} s") from None
        finally:
            self._partial_bytes -= partial
        return bytes(body)

    def _add_partial(self, count: int) -> None:
        if self._partial_bytes + count > MAX_PARTIAL_BODIES * self._settings.max_body_bytes:
            raise RequestRefused(429, "too many large requests are arriving; try again later")
        self._partial_bytes += count

    def _too_large(self) -> RequestRefused:
        return RequestRefused(413, f"the body is larger than {self._settings.max_body_bytes / 2**20:g} MiB")

    def decompressed_small(self, body: bytes, encoding: bytes) -> bytes | None:
        """The body when it is plain, or unpacks to no more than UNSCANNED_BYTES; None when it is larger."""
        bits = _bits(encoding)
        if bits == 0 or len(body) > UNSCANNED_BYTES:
            return body if len(body) <= UNSCANNED_BYTES else None
        decompressor = zlib.decompressobj(bits)
        with _valid(encoding):
            plain = decompressor.decompress(body, UNSCANNED_BYTES + 1)
        if len(plain) > min(UNSCANNED_BYTES, self._settings.max_body_bytes) or not decompressor.eof:
            return None
        return None if decompressor.unused_data else plain

    def checked(self, body: bytes, encoding: bytes, scan: Scan | CsvScan, reserved: Reservation) -> bytes:
        """The body, decompressed, once the scan has seen all of it. Raises RequestRefused as soon as it is over a limit."""
        bits = _bits(encoding)
        if bits == 0:
            scan.feed(body)
            return body
        pieces: list[bytes] = []
        size = 0
        with _valid(encoding):
            for piece in _decompressed(body, bits):
                size += len(piece)
                if size > self._settings.max_body_bytes:
                    raise self._too_large()
                # Twice: the pieces, and the whole body that is made of them.
                reserved.take(2 * len(piece))
                scan.feed(piece)
                pieces.append(piece)
        return b"".join(pieces)


def _bearer(authorization: bytes) -> bytes:
    """The key in an authorization header. The scheme's name has no case (RFC 7235)."""
    scheme, _, key = authorization.partition(b" ")
    return key.strip() if scheme.lower() == b"bearer" else authorization


def _bits(encoding: bytes) -> int:
    """zlib's number for a content-encoding; 0 for none. Raises RequestRefused (415) for one that is not supported."""
    bits = {b"gzip": GZIP_BITS, b"deflate": 15, b"identity": 0, b"": 0}.get(encoding.strip().lower())
    if bits is None:
        name = encoding[:20].decode("latin-1")
        raise RequestRefused(415, f"content-encoding must be one of gzip, deflate; got {name}")
    return bits


@contextmanager
def _valid(encoding: bytes) -> Iterator[None]:
    """Raises BadRequest for what zlib cannot unpack."""
    try:
        yield
    except (zlib.error, EOFError) as error:
        raise BadRequest(f"the body is not valid {encoding[:20].decode('latin-1')} ({error})") from None


def _decompressed(body: bytes, bits: int) -> Iterator[bytes]:
    """The body in pieces of at most PIECE_BYTES, from one gzip member or several."""
    start = 0
    for _ in range(MAX_MEMBERS):
        decompressor = zlib.decompressobj(bits)
        while not decompressor.eof:
            data = body[start : start + PIECE_BYTES]
            if not data:
                raise EOFError("it ends early")
            start += len(data)
            while data and not decompressor.eof:
                if piece := decompressor.decompress(data, PIECE_BYTES):
                    yield piece
                data = decompressor.unconsumed_tail
        start -= len(decompressor.unused_data)
        if start == len(body):
            return
        if bits != GZIP_BITS:
            break
    raise EOFError(f"{len(body) - start} bytes follow its end")
