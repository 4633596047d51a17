"""Answers as a slot does, by the slot's own code: its forms of request, its reading of cells, its refusals. One thread a connection.

It has no prediction log, no API keys and no limits of a rate. On SIGTERM it accepts no connection any more, answers what
comes on those that it has, and ends when they are closed.
"""

from __future__ import annotations

import json
import signal
import socket
import sys
import threading
import time
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
    """`open` connections; none is accepted once it drains."""

    daemon_threads = True

    def __init__(self, edge: Edge, descriptor: int) -> None:
        super().__init__(("", 0), Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = socket.socket(fileno=descriptor)
        self.edge, self.draining, self.open = edge, False, 0
        self.lock = threading.Lock()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self.lock:
            self.open += 1
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        with self.lock:
            self.open -= 1

    def drain(self) -> None:
        self.draining = True
        self.shutdown()
        until = time.monotonic() + IDLE_S
        while self.open and time.monotonic() < until:
            time.sleep(0.02)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = IDLE_S
    # Head and body in one packet.
    wbufsize = -1
    disable_nagle_algorithm = True
    server: Server

    def do_GET(self) -> None:
        edge = self.server.edge
        ready = self.path in ("/v2/health/ready", "/v2/health/live", "/ping", "/health")
        known = {"model": edge.identity.model, "version": edge.identity.version, "columns": edge.runtime.features}
        if self.path in ("/", "/version") or ready:
            self._send(200, json.dumps({} if ready else known).encode(), [])
        else:
            self._send(404, json.dumps({"error": f"there is no {self.path}"}).encode(), [])

    def do_POST(self) -> None:
        length = self.headers.get("content-length", "")
        most = self.server.edge.exported["max_body_mb"] * 1e6
        body = None
        if not length.isdigit():
            refused = RequestRefused(411, "content-length is missing; send the body in one piece")
        elif int(length) > most:
            refused = RequestRefused(413, f"the body has more than {most / 1e6:g} MB; split the request")
        elif self.headers.get("content-encoding", "identity") != "identity":
            refused = RequestRefused(415, "content-encoding must be identity: the edge unpacks nothing")
        else:
            body = self.rfile.read(int(length))
        if body is None:
            # What is left of the body is no request.
            self.close_connection = True
            self._send(refused.status, json.dumps({"error": str(refused)}).encode(), [])
            return
        headers = {name.lower().encode(): value.encode() for name, value in self.headers.items()}
        try:
            answer, own = self.server.edge.answer(self.path, headers, body)
            self._send(200, answer, own)
        except RequestRefused as error:
            self._send(error.status, json.dumps({"error": str(error)}, ensure_ascii=False).encode(), [])

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
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing: a line a request says little and fills a small disk."""


def main() -> None:
    version, descriptor = Path(sys.argv[1]), int(sys.argv[2])
    edge = Edge(version)
    edge.prove()
    server = Server(edge, descriptor)
    # serve_forever must not wait for itself.
    drained = threading.Thread(target=server.drain)
    signal.signal(signal.SIGTERM, lambda number, frame: drained.start())
    # A person's ctrl-c goes to both; serve.py ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    print("ready", flush=True)
    server.serve_forever(poll_interval=0.05)
    drained.join()


if __name__ == "__main__":
    main()
