"""Checks a request's key and reads its body: size, time, compression. A body over a limit is refused before it is held."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

from pipeline.serving.errors import BadRequest, RequestRefused
from pipeline.serving.settings import Settings

Headers = dict[bytes, bytes]
Receive = Callable[[], Awaitable[Any]]
GOLDEN_HEADER = b"x-golden-key"
# The bodies that arrive in pieces may together be so many times the limit of one, or they would fill the memory.
MAX_PARTIAL_BODIES = 4


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
        given = headers.get(b"x-api-key") or headers.get(b"authorization", b"").removeprefix(b"Bearer ")
        digest = hashlib.sha256(given).digest()
        # All keys are compared, each in full, so that the time reveals nothing.
        if not sum([hmac.compare_digest(digest, key) for key in self._keys]):
            raise RequestRefused(401, "no valid key; send one in x-api-key, or in authorization: Bearer")

    def is_golden(self, headers: Headers) -> bool:
        """Whether the request proves by the slot's own key that it is a golden one, which is no traffic."""
        given = headers.get(GOLDEN_HEADER)
        return given is not None and hmac.compare_digest(hashlib.sha256(given).digest(), self._golden_key)

    async def body(self, headers: Headers, receive: Receive) -> bytes:
        """The request's body, decompressed. Raises RequestRefused or ClientDisconnected."""
        # An HTTP parser takes any number of leading zeros, and int() no more than 4,300 digits.
        length = headers.get(b"content-length", b"").lstrip(b"0")
        if length and int(length) > self._settings.max_body_bytes:
            raise self._too_large()
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnected
        body = message["body"] if not message.get("more_body") else await self._in_pieces(message["body"], receive)
        encoding = headers.get(b"content-encoding")
        return body if encoding is None else self._decompressed(body, encoding)

    async def _in_pieces(self, first: bytes, receive: Receive) -> bytes:
        body = bytearray(first)
        self._add_partial(len(body))
        try:
            async with asyncio.timeout(self._settings.request_s):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientDisconnected
                    body += message["body"]
                    self._add_partial(len(message["body"]))
                    more = message.get("more_body", False)
                    if len(body) > self._settings.max_body_bytes:
                        raise self._too_large()
        except TimeoutError:
            raise RequestRefused(408, f"the body did not arrive within {self._settings.request_s:g} s") from None
        finally:
            self._partial_bytes -= len(body)
        return bytes(body)

    def _add_partial(self, count: int) -> None:
        self._partial_bytes += count
        if self._partial_bytes > MAX_PARTIAL_BODIES * self._settings.max_body_bytes:
            raise RequestRefused(429, "too many large requests are arriving; try again later")

    def _too_large(self) -> RequestRefused:
        return RequestRefused(413, f"the body is larger than {self._settings.max_body_bytes / 2**20:g} MiB")

    def _decompressed(self, body: bytes, encoding: bytes) -> bytes:
        name = encoding[:20].decode("latin-1")
        bits = {b"gzip": 31, b"deflate": 15, b"identity": 0}.get(encoding.strip().lower())
        if bits is None:
            raise RequestRefused(415, f"content-encoding must be one of gzip, deflate; got {name}")
        if bits == 0:
            return body
        decompressor = zlib.decompressobj(bits)
        try:
            # One byte more than the limit shows a bomb without decompressing all of it.
            plain = decompressor.decompress(body, self._settings.max_body_bytes + 1)
        except zlib.error as error:
            raise BadRequest(f"the body is not valid {name} ({error})") from None
        if len(plain) > self._settings.max_body_bytes:
            raise self._too_large()
        if not decompressor.eof:
            raise BadRequest(f"the body is not valid {name} (it ends early)")
        return plain
