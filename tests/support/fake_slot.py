"""A server in place of a slot: what it answers is said beforehand, and it keeps what it was asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from pipeline.rollout.routing.route import RoutedSlot
from pipeline.rollout.routing.traefik import SENT_AGAIN


class FakeSlot(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    version = ""

    def do_GET(self):
        self.answer(503 if self.server.stays_dead and self.server.received else 200)

    def do_POST(self):
        body = (
            self.rfile.read(int(self.headers["content-length"])) if "content-length" in self.headers else self.chunks()
        )
        self.server.received += 1
        self.server.marks.append(self.headers.get(SENT_AGAIN))
        if self.server.dies:
            self.close_connection = True
            return
        self.answer(self.server.codes.pop(0) if self.server.codes else 200, body)

    def chunks(self):
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size + 2)[:size]
        self.rfile.readline()
        return body

    def answer(self, code, body=b""):
        self.send_response(code)
        for name, value in (self.server.own if code == 500 else {}).items():
            self.send_header(name, value)
        if self.version:
            self.send_header("x-model-version", self.version)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextmanager
def answering(codes: tuple[int, ...] = ()) -> Iterator[RoutedSlot]:
    """A server that answers POST with each of `codes` once, and then with 200 and the body."""
    with listening(codes) as listener:
        yield RoutedSlot("blue", "1", f"http://127.0.0.1:{listener.server_port}")


@contextmanager
def listening(codes: tuple[int, ...] = (), dies: bool = False) -> Iterator[ThreadingHTTPServer]:
    """As `answering`; counts the POST requests that it `received`, and keeps their `marks`. With `dies` it breaks each of them off. Its
    500 has the headers `own`."""
    listener = ThreadingHTTPServer(("127.0.0.1", 0), FakeSlot)
    listener.codes, listener.received, listener.dies = list(codes), 0, dies
    listener.marks, listener.own, listener.stays_dead = [], {}, False
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    try:
        yield listener
    finally:
        listener.shutdown()
        listener.server_close()
