"""uvicorn's HTTP connection with four additions.

A deadline for headers: a thousand idle connections cost nothing. One write for each response, where ASGI takes two. And a direct
path for a prediction whose request arrives whole, as nearly all do: it needs no task, no ASGI cycle and no events, and is
answered within the same turn of the event loop. Every other request takes the ASGI path. A request that asks for another protocol is
answered in this one.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Callable
from typing import Protocol

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

HEADERS_TIMEOUT_S = 10.0
# The key of a request's scope under which `write_response` finds its cycle.
CYCLE = "perennial.cycle"
# The key under which it says when the request arrived.
ARRIVED = "perennial.arrived"
# tcpi_last_data_recv of Linux's struct tcp_info: the milliseconds since the connection last received data.
TCP_INFO = getattr(socket, "TCP_INFO", None)
LAST_RECEIVED = struct.Struct("52xI")
# A client that is still sending gets so long to read its last response, and may send so much meanwhile.
LAST_RESPONSE_S, DROPPED_BYTES = 1.0, 16 * 2**20
Headers = list[tuple[bytes, bytes]]
# Writes a response: the status, the header lines, each with its line end, and the body.
Respond = Callable[[int, bytes, bytes], None]


class DirectApp(Protocol):
    """An ASGI application that also answers whole requests directly."""

    # The URLs whose POST requests may take the direct path.
    direct_urls: frozenset[bytes]

    def handle_direct(
        self, url: bytes, headers: Headers, body: bytes, respond: Respond, arrived: float | None = None
    ) -> bool:
        """Answers a whole request by calling `respond` before the loop's next turn. False: it must take the ASGI path.

        `arrived` is when its first bytes came, in seconds of time.perf_counter.
        """


def write_response(
    cycle: RequestResponseCycle | None, status: int, lines: bytes, body: bytes, last: bool = False
) -> bool:
    """Writes a whole response at once. False when that is impossible: then send it through ASGI.

    With `last` the rest of the request is not read, and the connection ends.
    """
    if cycle is None or cycle.response_started or cycle.disconnected or cycle.flow.write_paused:
        return False
    cycle.response_started = cycle.response_complete = True
    cycle.transport.write(_response(status, cycle.default_headers, lines, cycle.keep_alive and not last, body))
    cycle.message_event.set()
    connection = cycle.transport.get_protocol()
    if last and isinstance(connection, Connection):
        connection.end_after_client()
    elif last or not cycle.keep_alive:
        cycle.transport.close()
    cycle.on_response()
    return True


def arrival(transport: asyncio.Transport) -> float:
    """When the data that was just read arrived, in seconds of time.perf_counter.

    While the event loop was busy the data waited in the kernel, which knows for how long. Where it does not say, it is now.
    """
    now = time.perf_counter()
    connection = transport.get_extra_info("socket")
    if TCP_INFO is None or connection is None:
        return now
    try:
        (waited_ms,) = LAST_RECEIVED.unpack(connection.getsockopt(socket.IPPROTO_TCP, TCP_INFO, LAST_RECEIVED.size))
    except (OSError, struct.error):
        return now
    return now - waited_ms / 1000


def header_lines(headers: Headers) -> bytes:
    """Headers as they go over the wire. All of them are the server's own and hold no line break."""
    return b"".join([b"%b: %b\r\n" % header for header in headers])


def _response(status: int, default: Headers, lines: bytes, keep_alive: bool, body: bytes) -> bytes:
    end = b"\r\n" if keep_alive else b"connection: close\r\n\r\n"
    return b"".join((STATUS_LINE[status], header_lines(default), lines, end, body))


class Connection(HttpToolsProtocol):
    """Closes itself when the headers of a request do not end within HEADERS_TIMEOUT_S of their start, or of the connection's."""

    app: DirectApp  # type: ignore[assignment]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._deadline: asyncio.TimerHandle | None = self.loop.call_later(HEADERS_TIMEOUT_S, self._close_late)
        # The body, as far as it has arrived, of a request that may take the direct path.
        self._pieces: list[bytes] | None = None
        # Direct requests that wait for their response.
        self._unanswered = 0
        self._ending = False
        # How many bytes may still come and be dropped once the last response is written; None before that.
        self._dropped: int | None = None

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._begun = True
        self._arrived = arrival(self.transport)

    def on_headers_complete(self) -> None:
        self._begun = False
        self._cancel_deadline()
        if self.parser.should_upgrade():
            # The parser stops here; `_without_upgrade` goes on.
            return
        if self._direct_possible():
            self._pieces = []
        else:
            self._start_asgi()

    def on_body(self, body: bytes) -> None:
        if self._pieces is None:
            super().on_body(body)
        else:
            self._pieces.append(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        if self._pieces is None:
            super().on_message_complete()
            return
        body, self._pieces = b"".join(self._pieces), None
        keep_alive = self.parser.should_keep_alive()

        def respond(status: int, lines: bytes, body: bytes) -> None:
            self._unanswered -= 1
            # When the server ends, the last request closes the connection: this one, unless ASGI has the next one already.
            stay = keep_alive and (self._asgi_under_way or not self._ending)
            self.transport.write(_response(status, self.server_state.default_headers, lines, stay, body))
            if not stay:
                self.transport.close()
            if not self._asgi_under_way:
                self.on_response_complete()

        self._unanswered += 1
        if not self.app.handle_direct(self.url, self.headers, body, respond, self._arrived):
            self._unanswered -= 1
            self._start_asgi()
            super().on_body(body)
            super().on_message_complete()

    def end_after_client(self) -> None:
        """Ends the connection once the client, which is still sending, has had time to read its response.

        A connection that is closed while bytes arrive is reset, and a client that meets that while it sends never reads the response:
        Traefik made a 502 of every third refusal.
        """
        self._dropped = DROPPED_BYTES
        self.transport.write_eof()
        self.loop.call_later(LAST_RESPONSE_S, self.transport.close)

    def data_received(self, data: bytes) -> None:
        if self._dropped is not None:
            self._dropped -= len(data)
            if self._dropped < 0:
                self.transport.close()
            return
        self._begun = False
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._without_upgrade(data[upgrade.args[0] :])
            return
        except httptools.HttpParserError:
            self.send_400_response("the request is not valid HTTP")
        if self._begun and self._deadline is None:
            # The headers arrived in part.
            self._deadline = self.loop.call_later(HEADERS_TIMEOUT_S, self._close_late)
        if self._pieces is not None:
            # The rest of the body is still to come; an ASGI task waits for it.
            pieces, self._pieces = self._pieces, None
            if not self.transport.is_closing():
                self._start_asgi()
                for piece in pieces:
                    super().on_body(piece)

    def send_400_response(self, msg: str) -> None:
        body = b'{"error":"%b"}' % msg.encode()
        lines = b"content-type: application/json\r\ncontent-length: %d\r\n" % len(body)
        self.transport.write(_response(400, self.server_state.default_headers, lines, False, body))
        self.transport.close()

    def _without_upgrade(self, rest: bytes) -> None:
        """Reads the request and `rest`, its body, as if it had asked for no other protocol, as HTTP lets a server do.

        Java's client asks for HTTP/2 so with each POST. Without this the body would stay unread.
        """
        if self.parser.get_method() == b"CONNECT":
            self.send_400_response("CONNECT is not supported")
            return
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        for name, value in self.headers:
            if name == b"connection":
                value = b",".join(token for token in value.split(b",") if token.strip().lower() != b"upgrade")
            if name != b"upgrade":
                lines.append(b"%b: %b" % (name, value))
        self.parser = httptools.HttpRequestParser(self)
        self.data_received(b"\r\n".join(lines) + b"\r\n\r\n" + rest)

    def shutdown(self) -> None:
        self._ending = True
        if self._asgi_under_way or not self._unanswered:
            super().shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_deadline()
        super().connection_lost(exc)

    def _direct_possible(self) -> bool:
        """Whether the request takes the direct path, provided that its body arrives in time."""
        return (
            self.url in self.app.direct_urls
            and self.parser.get_method() == b"POST"
            and self.parser.get_http_version() == "1.1"
            and not self.expect_100_continue
            and not self.flow.write_paused
            # Responses must leave in the order of their requests. A waiting direct request is answered before the ASGI task of
            # the next one can start.
            and not self._unanswered
            and not self._asgi_under_way
        )

    @property
    def _asgi_under_way(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _start_asgi(self) -> None:
        super().on_headers_complete()
        self.scope[CYCLE] = self.cycle  # type: ignore[literal-required]
        self.scope[ARRIVED] = self._arrived  # type: ignore[literal-required]

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _close_late(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self.transport.close()
