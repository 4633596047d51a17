"""Checks a request's key and reads its body: size, time, compression. A body over a limit is refused before it is held."""

from __future__ import annotations

import hashlib
import hmac
import time
import zlib

from pipeline.serving.arrival import Arrival, Headers, Incoming, PartialBodies, Receive, content_coding, valid
from pipeline.serving.errors import RequestRefused
from pipeline.serving.memory import Reservation
from pipeline.serving.scan import UNSCANNED_BYTES, CsvScan, Scan
from pipeline.serving.settings import Settings

GOLDEN_HEADER = b"x-golden-key"
# When the slot got the request, to which its ages are counted where it has no event time. What a client says of it is replaced. It goes
# with the headers to the expendable process, which must read the same request.
RECEIVED = b"x-perennial-received"
# Scanning and parsing a larger body takes some milliseconds, which would delay other requests; it is done in the thread.
LARGE_BYTES = 128 * 1024


def receipt() -> bytes:
    """The value of the header RECEIVED for a request that has just come."""
    return repr(time.time()).encode()


def received_at(headers: Headers) -> float | None:
    """When the request came, in seconds since 1970."""
    return float(headers[RECEIVED]) if RECEIVED in headers else None


class Intake:
    """Checks keys and reads bodies within the limits of one slot's settings."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._keys = [bytes.fromhex(digest) for digest in settings.api_keys]
        # Without a key no digest is equal to it.
        self._golden_key = bytes.fromhex(settings.golden_key)
        self._partial = PartialBodies(settings)

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

    def incoming(self, headers: Headers, receive: Receive) -> Incoming:
        """The request's body before any of it is read."""
        return Incoming(headers, receive, self._settings, self._partial)

    async def start(self, incoming: Incoming, packed: bool, wanted: bool, reserved: Reservation) -> bytes:
        """A body up to LARGE_BYTES; of a larger one, or of one in chunks or packed, what came until it was no small one any more.

        With `wanted` up to LARGE_BYTES of these too.
        """
        most = LARGE_BYTES if wanted else UNSCANNED_BYTES
        known = not packed and incoming.length is not None and incoming.length <= LARGE_BYTES
        pieces: list[bytes] = []
        while incoming.more and (known or incoming.received <= most):
            piece = await incoming.piece()
            # Twice when there are several: the pieces, and the whole that is made of them.
            reserved.take(len(piece) if not incoming.more and not pieces else 2 * len(piece))
            pieces.append(piece)
        return b"".join(pieces)

    def decompressed_small(self, body: bytes, encoding: bytes) -> bytes | None:
        """The body when it is plain, or unpacks to no more than UNSCANNED_BYTES; None when it is larger."""
        bits = content_coding(encoding)
        if bits == 0 or len(body) > UNSCANNED_BYTES:
            return body if len(body) <= UNSCANNED_BYTES else None
        decompressor = zlib.decompressobj(bits)
        with valid(encoding):
            plain = decompressor.decompress(body, UNSCANNED_BYTES + 1)
        if len(plain) > min(UNSCANNED_BYTES, self._settings.max_body_bytes) or not decompressor.eof:
            return None
        return None if decompressor.unused_data else plain

    def arrival(self, encoding: bytes, scan: Scan | CsvScan, reserved: Reservation) -> Arrival:
        """What takes a large body piece by piece."""
        return Arrival(scan, encoding, self._settings, reserved)


def _bearer(authorization: bytes) -> bytes:
    """The key in an authorization header. The scheme's name has no case (RFC 7235)."""
    scheme, _, key = authorization.partition(b" ")
    return key.strip() if scheme.lower() == b"bearer" else authorization
