"""Takes a request in: who asks, how much, how long, how packed. What is over a limit is refused before it is held."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

from pipeline.serving.errors import BadRequest, Refused
from pipeline.serving.settings import Settings

Headers = dict[bytes, bytes]
Receive = Callable[[], Awaitable[Any]]
# All bodies together that are still coming in: many large ones at once may not fill the memory.
HELD_BODIES = 4


class Gone(Exception):
    """The client went away before it had asked."""


class Intake:
    """Reads bodies within the limits of one slot's settings."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._keys = [bytes.fromhex(digest) for digest in settings.api_keys]
        self._held = 0

    def refuse_stranger(self, headers: Headers) -> None:
        """Raises Refused (401) without one of the keys, when there are any."""
        if not self._keys:
            return
        given = headers.get(b"x-api-key") or headers.get(b"authorization", b"").removeprefix(b"Bearer ")
        digest = hashlib.sha256(given).digest()
        # Each is compared in full, so that the time tells nothing.
        if not sum([hmac.compare_digest(digest, key) for key in self._keys]):
            raise Refused(401, "wants a valid key in x-api-key, or in authorization: Bearer")

    async def body(self, headers: Headers, receive: Receive) -> bytes:
        """The request's body, unpacked. Raises Refused, or Gone."""
        length = headers.get(b"content-length")
        if length is not None and int(length) > self._settings.max_body_bytes:
            raise self._too_large()
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        body = message["body"] if not message.get("more_body") else await self._rest(message["body"], receive)
        packed = headers.get(b"content-encoding")
        return body if packed is None else self._unpacked(body, packed)

    async def _rest(self, first: bytes, receive: Receive) -> bytes:
        body = bytearray(first)
        self._hold(len(body))
        try:
            async with asyncio.timeout(self._settings.request_s):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Gone
                    body += message["body"]
                    self._hold(len(message["body"]))
                    more = message.get("more_body", False)
                    if len(body) > self._settings.max_body_bytes:
                        raise self._too_large()
        except TimeoutError:
            raise Refused(408, f"the body did not come within {self._settings.request_s:g} s") from None
        finally:
            self._held -= len(body)
        return bytes(body)

    def _hold(self, more: int) -> None:
        self._held += more
        if self._held > HELD_BODIES * self._settings.max_body_bytes:
            raise Refused(429, "too many large requests are coming in, try again")

    def _too_large(self) -> Refused:
        return Refused(413, f"the body is larger than {self._settings.max_body_bytes / 2**20:g} MiB")

    def _unpacked(self, body: bytes, packed: bytes) -> bytes:
        bits = {b"gzip": 31, b"deflate": 15, b"identity": 0}.get(packed.strip().lower())
        if bits is None:
            raise Refused(415, f"content-encoding {packed[:20].decode('latin-1')}: use gzip or deflate")
        if bits == 0:
            return body
        unpacking = zlib.decompressobj(bits)
        try:
            # One byte more than is allowed tells a bomb without unpacking it.
            unpacked = unpacking.decompress(body, self._settings.max_body_bytes + 1)
        except zlib.error as error:
            raise BadRequest(f"the body is no whole {packed.decode('latin-1')} ({error})") from None
        if len(unpacked) > self._settings.max_body_bytes:
            raise self._too_large()
        if not unpacking.eof:
            raise BadRequest(f"the body is no whole {packed.decode('latin-1')} (it ends early)")
        return unpacked
