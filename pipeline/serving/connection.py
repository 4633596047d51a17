"""uvicorn's connection with two things more: a deadline for headers, so that a thousand who say nothing cost nothing, and
an answer in one write, where ASGI takes two."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

HEADERS_S = 10.0
# Where a request's scope holds the cycle that `answer` takes.
CYCLE = "perennial.cycle"
Headers = list[tuple[bytes, bytes]]


def answer(cycle: RequestResponseCycle | None, status: int, headers: Headers, body: bytes) -> bool:
    """Writes a whole answer at once. False when that cannot be done: then ASGI's `send` is the way.

    `headers` are ours and hold no line break; content-length is among them.
    """
    if cycle is None or cycle.response_started or cycle.disconnected or cycle.flow.write_paused:
        return False
    lines = [STATUS_LINE[status]]
    for name, value in (*cycle.default_headers, *headers):
        lines += (name, b": ", value, b"\r\n")
    if not cycle.keep_alive:
        lines.append(b"connection: close\r\n")
    lines += (b"\r\n", body)
    cycle.response_started = cycle.response_complete = True
    cycle.transport.write(b"".join(lines))
    cycle.message_event.set()
    if not cycle.keep_alive:
        cycle.transport.close()
    cycle.on_response()
    return True


class Connection(HttpToolsProtocol):
    """Closes itself when it has begun, or was opened for, a request whose headers do not end within HEADERS_S."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._deadline: asyncio.TimerHandle | None = self.loop.call_later(HEADERS_S, self._too_late)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._begun = True

    def on_headers_complete(self) -> None:
        self._begun = False
        self._forget_deadline()
        super().on_headers_complete()
        self.scope[CYCLE] = self.cycle  # type: ignore[literal-required]

    def data_received(self, data: bytes) -> None:
        self._begun = False
        super().data_received(data)
        if self._begun and self._deadline is None:
            # Headers came in part: the rest has its time.
            self._deadline = self.loop.call_later(HEADERS_S, self._too_late)

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_deadline()
        super().connection_lost(exc)

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_late(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self.transport.close()
