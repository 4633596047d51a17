"""Checks through a router: what they count, what is no check, and that one dead model delays no other."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from pipeline.policy.service_levels import Counted
from pipeline.reliability import checking
from pipeline.reliability.checking import Checker
from pipeline.reliability.counts import Cell, Counts, file_of
from pipeline.rollout.routing import route_file
from pipeline.rollout.routing.route import Route, RoutedSlot
from pipeline.serving.metrics import Metrics

NOW = 1_800_000_000


@pytest.fixture
def place(tmp_path):
    """A router and all slots in one server: `codes` by model (None hangs), `metrics` by slot, and a home with routes."""
    made = SimpleNamespace(home=tmp_path, codes={}, metrics={}, hang=threading.Event(), version="1")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            first, last = self.path.split("/")[1], self.path.rsplit("/", 1)[1]
            code, body = made.codes.get(first, 200), b""
            if last == "metrics":
                code, body = (200, made.metrics[first].page()[0]) if first in made.metrics else (503, b"")
            if code is None:
                made.hang.wait(30)
                return
            self.send_response(code)
            self.send_header("x-model-version", made.version)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    class Server(ThreadingHTTPServer):
        # As many as a router lets wait.
        request_queue_size, daemon_threads = 1024, True

    server = Server(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def route(model, slot="blue", version="1", **more):
        live = RoutedSlot(slot, version, f"{made.url}/{model}-{slot}")
        route_file.write(tmp_path, Route(model, live, **more))

    made.route = route
    made.checker = lambda url=made.url: Checker(tmp_path, url)
    yield made
    made.hang.set()
    server.shutdown()
    server.server_close()


def test_each_check_is_up_down_or_none_at_all(place):
    """200 is up, a 5xx is down, a 429 says nothing, and a router that is gone is down, except while services start."""
    for code in (200, 502, 429):
        place.codes[f"m{code}"] = code
        place.route(f"m{code}")
    place.checker().check(NOW)
    away = place.checker("http://127.0.0.1:1")
    for later in (-60, 10):
        away.check(NOW + later)
    counted = {model: Counts(place.home).span(model, NOW, NOW + 60).counted for model in ("m200", "m502", "m429")}
    assert counted == {
        "m200": Counted(checks=2, up=1, away=1),
        "m502": Counted(checks=2, up=0, away=1),
        "m429": Counted(checks=1, up=0, away=1),
    }


def test_a_model_that_hangs_delays_no_other(place, monkeypatch):
    """Two hundred checks of which half never answer end with the time-out of one, and the others are up."""
    monkeypatch.setattr(checking, "TIMEOUT_S", 5.0)
    for n in range(100):
        place.codes[f"dead{n}"] = None
        place.route(f"dead{n}")
        place.route(f"well{n}")
    began = time.monotonic()
    place.checker().check(NOW)
    assert time.monotonic() - began < 100 * 5.0
    counts = Counts(place.home)
    seen = [counts.span(f"{kind}{n}", NOW, NOW + 60).counted for n in range(100) for kind in ("dead", "well")]
    assert seen == [Counted(checks=1), Counted(checks=1, up=1)] * 100


def test_what_slots_counted_is_of_their_version_once_and_over_restarts(place):
    """What slots answered while somebody checks is counted once, also over a restart; what was before the first check is not."""
    slot = place.metrics["churn-blue"] = Metrics({"model": "churn"})
    slot.count_response(200, 0.02)
    place.route("churn")
    place.checker().check(NOW)
    slot.count_response(500, 0.02)
    first = place.checker()
    first.check(NOW + 10)
    first.check(NOW + 20)
    assert Counts(place.home).span("churn", NOW, NOW + 60).counted == Counted(3, 3, 0, 1, 1, {0.02: 1})
    candidate = RoutedSlot("green", "2", f"{place.url}/churn-green")
    place.metrics["churn-green"] = shadow = Metrics({"model": "churn"})
    place.route("churn", candidate=candidate, percent=50, mirror=True)
    shadow.count_response(200, 9.0)
    first.check(NOW + 30)
    place.route("churn", candidate=candidate, percent=50)
    shadow.count_response(200, 0.05)
    first.check(NOW + 40)
    assert Counts(place.home).span("churn", NOW, NOW + 60, "2").counted == Counted(requests=1, latencies={0.05: 1})


def test_what_slots_counted_before_the_first_check_is_left_out_of_many_models_too(place, monkeypatch):
    """With more models than one round asks, the counts from before the first round are none of them."""
    monkeypatch.setattr(checking, "SLOTS_OF", 1)
    for n in range(3):
        slot = place.metrics[f"m{n}-blue"] = Metrics({"model": f"m{n}"})
        slot.count_response(200, 0.02)
        place.route(f"m{n}")
    checker = place.checker()
    for step in range(3):
        checker.check(NOW + step)
    for slot in place.metrics.values():
        slot.count_response(200, 0.02)
    for step in range(3):
        checker.check(NOW + 10 + step)
    assert [Counts(place.home).span(f"m{n}", NOW, NOW + 60).counted.requests for n in range(3)] == [1, 1, 1]


def test_a_file_that_cannot_be_written_loses_no_check(place):
    """While slo.db cannot be written the rounds are kept, and written when it can be."""
    place.route("churn")
    checker = place.checker()
    file_of(place.home).mkdir()
    with pytest.raises(checking.DataError, match="cannot be used"):
        checker.check(NOW)
    file_of(place.home).rmdir()
    checker.check(NOW + 10)
    assert Counts(place.home).cells(NOW - 60) == {Cell("churn", "1", NOW): Counted(checks=2, up=2)}
