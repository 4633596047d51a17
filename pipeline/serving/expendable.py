"""Answers requests that a dying slot broke off in a process that serves nobody else: one of them may have been the cause.

Before the server starts its threads it forks a *nursery*, which has the loaded model and serves nothing. When the router sends such a
request, the nursery forks the process that answers it; both share the model's memory. That process gets one request at a time, and ends
when none came for some seconds. A request that ends it is refused for good, and the next one gets a new process. The kernel takes
it before any other when memory is short.

The process says what the predictions are, or why there are none. Then the slot answers and logs the request as any other, because by
now it is known to do no harm.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import logging
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import orjson

from pipeline.serving.errors import EndedItsProcess, RequestRefused

# The router sets it on a request that was written to a slot which gave no answer.
SENT_AGAIN = b"x-perennial-sent-again"
IDLE_S = 10.0
# What the slot sends: how long the headers and the body are. What comes back: a status, and how long the predictions or the reason are.
REQUEST, ANSWER = struct.Struct("!II"), struct.Struct("!HI")
PR_SET_PDEATHSIG = 1

logger = logging.getLogger(__name__)
Headers = dict[bytes, bytes]
# Gives the predictions, float64 (rows,), for a path, headers and a body. Raises RequestRefused.
Answer = Callable[[str, Headers, bytes], np.ndarray]


class Expendable:
    """The slot's side. `limit_s` is how long one request may take; `on_crash()` is called for one that ended its process."""

    def __init__(self, nursery: socket.socket, limit_s: float, on_crash: Callable[[], None]) -> None:
        self._nursery, self._limit_s, self._on_crash = nursery, limit_s, on_crash
        self._one_at_a_time = asyncio.Lock()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._idle: asyncio.TimerHandle | None = None

    @classmethod
    def fork(
        cls, make: Callable[[], Answer], limit_s: float, on_crash: Callable[[], None], close: socket.socket
    ) -> Expendable:
        """Forks the nursery, which must be done before this process has threads. It closes `close`, the slot's listening socket."""
        ours, theirs = socket.socketpair()
        # What is there now is never garbage: to look for garbage in it would copy it.
        gc.collect()
        gc.freeze()
        slot = os.getpid()
        if os.fork() == 0:
            ours.close()
            close.close()
            _run(lambda: _nursery(theirs, make(), limit_s), slot)
        theirs.close()
        gc.unfreeze()
        return cls(ours, limit_s, on_crash)

    async def predictions(self, path: str, headers: Headers, body: bytes) -> np.ndarray:
        """Predictions, float64 (rows,), once the request has its turn. Raises RequestRefused, and EndedItsProcess for one that
        must not be sent again."""
        async with self._one_at_a_time:
            begun = time.monotonic()
            try:
                status, content = await self._exchange(path, headers, body)
            except (asyncio.IncompleteReadError, OSError):
                self._on_crash()
                late = time.monotonic() - begun > self._limit_s
                raise EndedItsProcess(
                    f"the request took longer than {self._limit_s:g} s"
                    if late
                    else "the request ended the process that answered it"
                ) from None
        if status != 200:
            raise RequestRefused(status, content.decode())
        return np.frombuffer(content, "float64")

    async def _exchange(self, path: str, headers: Headers, body: bytes) -> tuple[int, bytes]:
        """(status, the predictions' bytes or the reason why there are none). Raises IncompleteReadError or OSError when the process
        has ended."""
        if self._idle is not None:
            self._idle.cancel()
        reader, writer = self._streams = self._streams or await self._start()
        complete = False
        try:
            head = orjson.dumps([path, *(part.decode("latin-1") for pair in headers.items() for part in pair)])
            writer.writelines([REQUEST.pack(len(head), len(body)), head, body])
            await writer.drain()
            status, length = ANSWER.unpack(await reader.readexactly(ANSWER.size))
            content = await reader.readexactly(length)
            complete = True
        finally:
            # An answer that nobody waited for must not become the next request's.
            if not complete:
                self._end()
        self._idle = asyncio.get_running_loop().call_later(IDLE_S, self._end)
        return status, content

    async def _start(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                socket.send_fds(self._nursery, [b"."], [theirs.fileno()])
        except OSError:
            ours.close()
            # Not final: another slot may have its nursery.
            raise RequestRefused(
                503, "the slot cannot answer what is sent again, because its nursery was killed"
            ) from None
        return await asyncio.open_unix_connection(sock=ours)

    def _end(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
        self._streams = None


def _nursery(slot: socket.socket, answer: Answer, limit_s: float) -> None:
    """Forks a process for each connection that the slot sends; the next one once that has ended."""
    nursery = os.getpid()
    while connections := socket.recv_fds(slot, 1, 1)[1]:
        with socket.socket(fileno=connections[0]) as connection:
            pid = os.fork()
            if pid == 0:
                slot.close()
                _run(lambda: _serve(connection, answer, limit_s), nursery)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code:
            logger.error("a request that a slot broke off at was sent again and ended its process (%d)", code)


def _serve(connection: socket.socket, answer: Answer, limit_s: float) -> None:
    """Answers requests until the slot closes the connection. The kernel ends the process when one takes longer than `limit_s`."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    requests = connection.makefile("rb")
    while head := requests.read(REQUEST.size):
        head_bytes, body_bytes = REQUEST.unpack(head)
        path, *parts = orjson.loads(requests.read(head_bytes))
        encoded = [part.encode("latin-1") for part in parts]
        headers = dict(zip(encoded[::2], encoded[1::2], strict=True))
        body = requests.read(body_bytes)
        signal.setitimer(signal.ITIMER_REAL, limit_s)
        try:
            status, content = 200, answer(path, headers, body).astype("float64").tobytes()
        except RequestRefused as refusal:
            status, content = refusal.status, str(refusal).encode()
        signal.setitimer(signal.ITIMER_REAL, 0)
        connection.sendall(ANSWER.pack(status, len(content)) + content)


def _run(work: Callable[[], None], parent: int) -> None:
    """Does the work of a process that was just forked, and ends it; it ends with its parent, whatever that dies of."""
    code = 1
    try:
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        # Ctrl-C goes to all processes, and the slot has requests to finish.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        if os.getppid() == parent:
            work()
        code = 0
    except Exception:
        logger.exception("the process for requests that are sent again failed")
    finally:
        sys.stderr.flush()
        os._exit(code)
