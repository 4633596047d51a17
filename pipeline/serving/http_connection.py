"""uvicorn's connection with three things more: a deadline for headers, so that a thousand who say nothing cost nothing; an
answer in one write, where ASGI takes two; and a short way for a prediction whose request has come whole, as most do: no task,
no cycle, no events. A short request is answered by the end of the same turn of the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

HEADERS_S = 10.0
# Where a request's scope holds the cycle that `answer` takes.
CYCLE = "perennial.cycle"
Headers = list[tuple[bytes, bytes]]
# Writes an answer: its status, its header lines, each with its end, and its body.
Reply = Callable[[int, bytes, bytes], None]


class ShortWay(Protocol):
    """What an application has that takes requests the short way."""

    # The targets that are asked so, by POST.
    short: frozenset[bytes]

    def at_once(self, url: bytes, headers: Headers, body: bytes, reply: Reply) -> bool:
        """Takes a whole request, and calls `reply` before the loop's next turn; or returns False: the long way, then."""


def answer(cycle: RequestResponseCycle | None, status: int, lines: bytes, body: bytes) -> bool:
    """Writes a whole answer at once. False when that cannot be done: then ASGI's `send` is the way."""
    if cycle is None or cycle.response_started or cycle.disconnected or cycle.flow.write_paused:
        return False
    cycle.response_started = cycle.response_complete = True
    cycle.transport.write(_whole(status, cycle.default_headers, lines, cycle.keep_alive, body))
    cycle.message_event.set()
    if not cycle.keep_alive:
        cycle.transport.close()
    cycle.on_response()
    return True


def as_lines(headers: Headers) -> bytes:
    """Headers as they go over the wire; they are ours and hold no line break."""
    return b"".join([b"%b: %b\r\n" % header for header in headers])


def _whole(status: int, default: Headers, lines: bytes, keep_alive: bool, body: bytes) -> bytes:
    end = b"\r\n" if keep_alive else b"connection: close\r\n\r\n"
    return b"".join((STATUS_LINE[status], as_lines(default), lines, end, body))


class Connection(HttpToolsProtocol):
    """Closes itself when it has begun, or was opened for, a request whose headers do not end within HEADERS_S."""

    app: ShortWay  # type: ignore[assignment]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._deadline: asyncio.TimerHandle | None = self.loop.call_later(HEADERS_S, self._too_late)
        # The body of a request that may go the short way, as far as it has come.
        self._pieces: list[bytes] | None = None
        self._unanswered = 0
        self._ending = False

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._begun = True

    def on_headers_complete(self) -> None:
        self._begun = False
        self._forget_deadline()
        if self._may_be_short():
            self._pieces = []
        else:
            self._the_long_way()

    def on_body(self, body: bytes) -> None:
        if self._pieces is None:
            super().on_body(body)
        else:
            self._pieces.append(body)

    def on_message_complete(self) -> None:
        if self._pieces is None:
            super().on_message_complete()
            return
        body, self._pieces = b"".join(self._pieces), None
        keep_alive = self.parser.should_keep_alive()

        def reply(status: int, lines: bytes, body: bytes) -> None:
            self._unanswered -= 1
            # A next request, behind this one, has its task already: it, not this one, is the last at an end.
            stay = keep_alive and (self._long_under_way or not self._ending)
            self.transport.write(_whole(status, self.server_state.default_headers, lines, stay, body))
            if not stay:
                self.transport.close()
            if not self._long_under_way:
                self.on_response_complete()

        self._unanswered += 1
        if not self.app.at_once(self.url, self.headers, body, reply):
            self._unanswered -= 1
            self._the_long_way()
            super().on_body(body)
            super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        self._begun = False
        super().data_received(data)
        if self._begun and self._deadline is None:
            # Headers came in part: the rest has its time.
            self._deadline = self.loop.call_later(HEADERS_S, self._too_late)
        if self._pieces is not None:
            # More is to come: whoever waits for it takes a task.
            pieces, self._pieces = self._pieces, None
            if not self.transport.is_closing():
                self._the_long_way()
                for piece in pieces:
                    super().on_body(piece)

    def shutdown(self) -> None:
        self._ending = True
        if self._long_under_way or not self._unanswered:
            super().shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_deadline()
        super().connection_lost(exc)

    def _may_be_short(self) -> bool:
        """Whether nothing stands in the way but that the body must come."""
        return (
            self.url in self.app.short
            and self.parser.get_method() == b"POST"
            and self.parser.get_http_version() == "1.1"
            and not self.parser.should_upgrade()
            and not self.expect_100_continue
            and not self.flow.write_paused
            # One that waits has its answer before a task for the next one can start.
            and not self._unanswered
            and not self._long_under_way
        )

    @property
    def _long_under_way(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _the_long_way(self) -> None:
        super().on_headers_complete()
        self.scope[CYCLE] = self.cycle  # type: ignore[literal-required]

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_late(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self.transport.close()
