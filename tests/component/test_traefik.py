"""A real Traefik reads the route file as it was written."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import httpx
import yaml
from prometheus_client.parser import text_string_to_metric_families

from harness.project import ROOT
from harness.router import router
from pipeline.rollout import probe
from pipeline.rollout.routing import route_file
from pipeline.rollout.routing.route import Route, RoutedSlot


class _Slot(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(200)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.answer(self.server.codes.pop(0) if self.server.codes else 200, body)

    def answer(self, code, body=b""):
        self.send_response(code)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextmanager
def answering(codes: tuple[int, ...] = ()) -> Iterator[RoutedSlot]:
    """A server that answers POST with each of `codes` once, and then with 200 and the body."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Slot)
    server.codes = list(codes)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield RoutedSlot("blue", "1", f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()


def test_traefik_takes_every_text_for_text(project, monkeypatch):
    """Traefik answers with each stamp unchanged, also where YAML could read it as a number or a boolean."""
    model = "1e5"
    with router(project, project / "home") as at, answering() as slot:
        for stamp in ("088777615330", "123456e78901", "000000000000", "0x1234567890", "1_000", "1:30", "yes", "~"):
            monkeypatch.setattr(route_file.uuid, "uuid4", lambda stamp=stamp: SimpleNamespace(hex=stamp))
            written = route_file.write(project / "home", Route(model, slot))
            assert written == route_file.read(project / "home", model)
            assert probe.wait_for_stamp(f"{at.router}/{model}", stamp, 10), stamp


def test_a_request_that_met_a_dying_slot_is_sent_again(project):
    """Each answer that Traefik itself gives for a slot that dies is tried again, with the same body."""
    with router(project, project / "home") as at, answering((500, 502, 503, 504)) as slot:
        stamp = route_file.write(project / "home", Route("churn", slot)).stamp
        assert probe.wait_for_stamp(f"{at.router}/churn", stamp, 10)
        answer = httpx.post(f"{at.router}/churn/invocations", content=b"rows")
        assert (answer.status_code, answer.content) == (200, b"rows")


def test_what_the_router_answers_by_itself_is_counted_for_its_model(project):
    """429 over the rate limit, 502 for a slot that is gone, and 500: once each, by the router that the rules look for."""
    gone = RoutedSlot("blue", "1", "http://127.0.0.1:9")
    with router(project, project / "home") as at, answering() as slot, answering((500,) * 9) as failing:
        followed = Route("followed", slot, candidate=failing, percent=50, follow="x-customer")
        for route in (followed, Route("gone", gone), Route("limited", slot, rate_limit=2)):
            stamp = route_file.write(project / "home", route).stamp
        assert probe.wait_for_stamp(f"{at.router}/limited", stamp, 10)
        sent = [
            (model, str(httpx.post(f"{at.router}/{model}/invocations", content=b"", headers=headers).status_code))
            for model, headers in (
                *[("limited", {})] * 4,
                *[("gone", {})] * 2,
                *[("followed", {"x-customer": str(customer)}) for customer in range(6)],
            )
        ]
        page = httpx.get(f"{at.router_api}/metrics").text
    assert {("limited", "429"), ("gone", "502"), ("followed", "200"), ("followed", "500")} <= set(sent)
    rules = yaml.safe_load((ROOT / "docker" / "prometheus" / "rules.yaml").read_text())["groups"][0]["rules"]
    (expression,) = [rule["expr"] for rule in rules if rule.get("record") == "perennial:answers:rate5m"]
    (pattern,) = re.findall(r'router=~"(.+?)"', expression)
    (family,) = [f for f in text_string_to_metric_families(page) if f.name == "traefik_router_requests"]
    counted = {}
    for sample in family.samples:
        if re.fullmatch(pattern, sample.labels["router"]) and sample.labels["method"] == "POST":
            at_router = sample.labels["router"].removesuffix("@file"), sample.labels["code"]
            counted[at_router] = counted.get(at_router, 0) + sample.value
    assert counted == {answer: sent.count(answer) for answer in sent}
