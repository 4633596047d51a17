"""A real Traefik reads the route file as it was written."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

from harness.router import router
from pipeline.rollout import probe
from pipeline.rollout.routing import route_file
from pipeline.rollout.routing.route import Route, RoutedSlot


class _Ready(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


def test_traefik_takes_every_text_for_text(project, monkeypatch):
    """Traefik answers with each stamp unchanged, also where YAML could read it as a number or a boolean."""
    slot = HTTPServer(("127.0.0.1", 0), _Ready)
    threading.Thread(target=slot.serve_forever, daemon=True).start()
    model = "1e5"
    with router(project, project / "home") as at:
        for stamp in ("088777615330", "123456e78901", "000000000000", "0x1234567890", "1_000", "1:30", "yes", "~"):
            monkeypatch.setattr(route_file.uuid, "uuid4", lambda stamp=stamp: SimpleNamespace(hex=stamp))
            written = route_file.write(
                project / "home", Route(model, RoutedSlot("blue", "1", f"http://127.0.0.1:{slot.server_port}"))
            )
            assert written == route_file.read(project / "home", model)
            assert probe.wait_for_stamp(f"{at.router}/{model}", stamp, 10), stamp
    slot.shutdown()
    slot.server_close()
