"""A mail server that keeps what it is sent, and a webhook that does; no dependency has either."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace


@contextmanager
def mail_server() -> Iterator[SimpleNamespace]:
    """Its `port`, and the `messages` that it took, as EmailMessage. SMTP (RFC 5321) as far as a client of ours speaks it."""
    kept = SimpleNamespace(port=0, messages=[])
    loop, ready = asyncio.new_event_loop(), threading.Event()

    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 here\r\n")
        while line := await reader.readline():
            verb = line.split()[0].upper() if line.strip() else b""
            if verb == b"DATA":
                writer.write(b"354 go on\r\n")
                body = await reader.readuntil(b"\r\n.\r\n")
                kept.messages.append(_message(body[:-5]))
            writer.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n")
            if verb == b"QUIT":
                break
        writer.close()

    async def serve() -> None:
        server = await asyncio.start_server(session, "127.0.0.1", 0)
        kept.port = server.sockets[0].getsockname()[1]
        ready.set()

    loop.create_task(serve())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    assert ready.wait(60)
    try:
        yield kept
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(60)


def _message(content: bytes) -> EmailMessage:
    message = message_from_bytes(content.replace(b"\r\n..", b"\r\n."), policy=policy.default)
    assert isinstance(message, EmailMessage)
    return message


@contextmanager
def webhook() -> Iterator[SimpleNamespace]:
    """Its `url`, the JSON `bodies` that it took, and its `code`, which it answers with; it keeps only what it answers with 200."""
    kept = SimpleNamespace(url="", bodies=[], code=200, refused=0)

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if kept.code == 200:
                kept.bodies.append(body)
            else:
                kept.refused += 1
            self.send_response(kept.code)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    kept.url = f"json://127.0.0.1:{server.server_port}/perennial"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield kept
    finally:
        server.shutdown()
        server.server_close()
