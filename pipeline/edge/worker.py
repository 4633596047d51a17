"""Answers as a slot does, by the slot's own code: its forms of request, its reading of cells, its refusals. One thread a connection.

It has no prediction log, no API keys and no limits of a rate. On SIGTERM it accepts no connection any more, answers what
comes on those that it has, and ends when they are closed.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
import threading
import time
import traceback
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.serving import class_answers, contents, forms
from pipeline.serving.errors import PackageRefused, RequestRefused
from pipeline.serving.explaining import Explaining
from pipeline.serving.identity import Identity
from pipeline.serving.runtime import Runtime

# A connection on which nothing comes for so long is closed, and so is what is left of one that ends.
IDLE_S = 30.0
SLOT = "edge"
# What is no plain number of at most so many digits is no length: int() reads others, as "²" fails in it.
LENGTH = re.compile("[0-9]{1,15}")
TOLERANCE_BEFORE = 1e-4


class Edge:
    """An exported version. Raises PackageRefused."""

    def __init__(self, version: Path) -> None:
        self.exported = json.loads((version / "export.json").read_bytes())
        self.runtime = Runtime(contents.read(version / "package"), self.exported["on_breach"])
        self.identity = Identity(self.exported["model"], self.exported["version"], SLOT)
        self._explaining = Explaining(self.runtime)
        self._encode = class_answers.mlflow_encoder(self.runtime.classes) if self.runtime.classes else None

    def predict(self, records: list[dict[str, Any]]) -> Any:
        """The predictions for objects with a value for each column, as a slot gives them: numbers, or {class: probability}.

        Raises RequestRefused, as a slot does.
        """
        rows, classes = self.runtime.reader.of_records(records, time.time()), self.runtime.classes
        answers = self.runtime.predict(rows).tolist()
        return [dict(zip(classes, row, strict=True)) for row in answers] if classes else answers

    def answer(self, path: str, headers: dict[bytes, bytes], body: bytes) -> tuple[bytes, forms.Headers]:
        """(body, headers of its own) of the answer to a request. Raises RequestRefused."""
        reader, rows, now = self.runtime.reader, self.exported["max_rows"], time.time()
        model = f"/v2/models/{self.identity.model}"
        if path == "/invocations":
            request = forms.invocations(body, reader, rows, headers.get(b"content-type", b""), self._encode, now)
        elif path in (f"{model}/infer", f"{model}/versions/{self.identity.version}/infer"):
            request = forms.infer(
                body, reader, rows, headers.get(forms.BINARY_LENGTH), self.identity, self.runtime.classes, now
            )
        else:
            raise RequestRefused(404, f"there is no {path}; post to /invocations or {model}/infer")
        if request.encode_explained is None:
            return request.encode(self.runtime.predict(request.rows))
        explainer, predictions = self._explaining.allowed(request.rows), self.runtime.predict(request.rows)
        return request.encode_explained(predictions, explainer.explain(request.rows, predictions))

    def prove(self) -> None:
        """Raises PackageRefused when the golden requests are not answered as evaluation did."""
        golden = json.loads(self.runtime.golden)
        classes, answered = self.runtime.classes, self.predict(golden["request"]["dataframe_records"])
        expected, found = (
            np.array([[row[name] for name in classes] for row in rows] if classes else rows, float)
            for rows in (golden["predictions"], answered)
        )
        # As a share of the package's scale, as the proof of a slot; an older package has none.
        differences = np.abs(found - expected) / (golden.get("scale") or np.maximum(1, np.abs(expected)))
        if not (differences <= golden.get("tolerance", TOLERANCE_BEFORE)).all():
            raise PackageRefused(f"package: golden requests are answered otherwise, by up to {np.max(differences):.1e}")


class Server(ThreadingHTTPServer):
    """`open` connections; none is accepted once it drains. It drains too when the process that started it is gone, which may have
    been killed: its next one needs the port."""

    daemon_threads = True

    def __init__(self, edge: Edge, descriptor: int) -> None:
        super().__init__(("", 0), Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = socket.socket(fileno=descriptor)
        self.edge, self.draining, self.open = edge, False, 0
        self.lock, self.parent = threading.Lock(), os.getppid()
        # serve_forever must not wait for itself.
        self.drained = threading.Thread(target=self._drain)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self.lock:
            self.open += 1
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        with self.lock:
            self.open -= 1

    def service_actions(self) -> None:
        if os.getppid() != self.parent:
            self.drain()

    def drain(self) -> None:
        """Once, however often it is asked: a service manager signals this process and the one that started it, which signals it again."""
        if not self.draining:
            self.draining = True
            self.drained.start()

    def _drain(self) -> None:
        self.shutdown()
        self.socket.close()
        until = time.monotonic() + IDLE_S
        while self.open and time.monotonic() < until:
            time.sleep(0.02)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "perennial-edge", ""
    timeout = IDLE_S
    # Head and body in one packet.
    wbufsize = -1
    disable_nagle_algorithm = True
    server: Server

    def do_GET(self) -> None:
        edge, path = self.server.edge, self._path()
        runtime, identity = edge.runtime, edge.identity
        model = (f"/v2/models/{identity.model}", f"/v2/models/{identity.model}/versions/{identity.version}")
        pages: dict[str, Any] = dict.fromkeys(("/v2/health/ready", "/v2/health/live", "/ping", "/health"), {})
        known = {"model": identity.model, "version": identity.version, "columns": runtime.features}
        pages |= dict.fromkeys(("/", "/version"), known)
        pages |= dict.fromkeys((f"{each}/ready" for each in model), {"name": identity.model, "ready": True})
        pages |= dict.fromkeys(model, forms.metadata(runtime.reader, identity, runtime.platform, runtime.classes))
        if path in pages:
            self._send(200, json.dumps(pages[path]).encode(), [])
        else:
            self._refuse(404, f"there is no {path}")

    do_HEAD = do_GET

    def do_POST(self) -> None:
        if (refused := self._head_refused()) is not None:
            # What is left of the body is no request.
            self.close_connection = True
            self._refuse(refused.status, str(refused))
            return
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower().encode(): value.encode() for name, value in self.headers.items()}
        try:
            answer, own = self.server.edge.answer(self._path(), headers, body)
        except RequestRefused as error:
            self._refuse(error.status, str(error))
        except Exception:
            traceback.print_exc()
            self._refuse(500, "the model failed on this request; the runner's output says why")
        else:
            self._send(200, answer, own)

    def handle_expect_100(self) -> bool:
        """A client that asks first, as curl does above 1 MB, waits for the word to go on: it is sent at once, or the refusal is."""
        if self.command == "POST" and (refused := self._head_refused()) is not None:
            self.close_connection = True
            self._refuse(refused.status, str(refused))
            return False
        super().handle_expect_100()
        self.wfile.flush()
        return True

    def _head_refused(self) -> RequestRefused | None:
        """Why a body is not read, seen by its head alone."""
        lengths = set(self.headers.get_all("content-length", []))
        # The slot's own limit, in its own words.
        most = int(self.server.edge.exported["max_body_mb"] * 2**20)
        if "transfer-encoding" in self.headers or not lengths:
            return RequestRefused(411, "content-length is missing; send the body in one piece")
        if len(lengths) > 1 or not LENGTH.fullmatch(length := lengths.pop()):
            return RequestRefused(400, "content-length must be one number of bytes")
        if int(length) > most:
            return RequestRefused(413, f"the body is larger than {most / 2**20:g} MiB")
        if self.headers.get("content-encoding", "identity") != "identity":
            return RequestRefused(415, "content-encoding must be identity: the edge unpacks nothing")
        return None

    def _path(self) -> str:
        return self.path.partition("?")[0]

    def _refuse(self, status: int, why: str) -> None:
        self._send(status, json.dumps({"error": why}, ensure_ascii=False).encode(errors="replace"), [])

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the standard library refuses by itself, as a slot says it: in JSON."""
        self.close_connection = True
        # Where the first line could not be read it is that of HTTP/0.9, whose answers have no status.
        self.request_version = self.protocol_version
        self._refuse(code, message or self.responses[HTTPStatus(code)][0])

    def _send(self, status: int, body: bytes, headers: forms.Headers) -> None:
        self.send_response(status)
        given = {name.decode(): value.decode() for name, value in headers}
        for name, value in {"content-type": "application/json", **given, **self.server.edge.identity.headers()}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        if self.server.draining or self.close_connection:
            self.send_header("connection", "close")
            self.close_connection = True
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing: a line a request says little and fills a small disk."""


def main() -> None:
    version, descriptor = Path(sys.argv[1]), int(sys.argv[2])
    edge = Edge(version)
    edge.prove()
    server = Server(edge, descriptor)
    signal.signal(signal.SIGTERM, lambda number, frame: server.drain())
    # A person's ctrl-c goes to both; serve.py ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    print("ready", flush=True)
    server.serve_forever(poll_interval=0.05)
    server.drained.join()


if __name__ == "__main__":
    main()
