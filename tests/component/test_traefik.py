"""A real Traefik reads the route file as it was written."""

from __future__ import annotations

import gzip
import json
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from harness.ledgers import ledger_of
from harness.project import BODY, ROOT, change_params
from harness.router import router
from harness.slot_server import server
from pipeline.context import Context
from pipeline.deployer.api import LocalTraffic
from pipeline.rollout import probe
from pipeline.rollout.routing import foreign_files, route_file
from pipeline.rollout.routing.route import Route, RoutedSlot
from pipeline.settings.environment import Environment
from tests.support.fake_slot import FakeSlot, answering, listening

# A body that stalls is given up after this time. When nobody looks at the setting it takes the default, 30 s.
REQUEST_S, ANSWERED_S = 1.5, 20


def test_traefik_takes_every_text_for_text(project, monkeypatch):
    """Traefik answers with each stamp unchanged, also where YAML could read it as a number or a boolean."""
    model = "1e5"
    with router(project, project / "home") as at, answering() as slot:
        for stamp in ("088777615330", "123456e78901", "000000000000", "0x1234567890", "1_000", "1:30", "yes", "~"):
            monkeypatch.setattr(route_file.uuid, "uuid4", lambda stamp=stamp: SimpleNamespace(hex=stamp))
            written = route_file.write(project / "home", Route(model, slot))
            assert written == route_file.read(project / "home", model)
            assert probe.wait_for_stamp(f"{at.router}/{model}", stamp, 60), stamp


def test_a_request_that_met_a_dying_slot_is_sent_again(project):
    """Each answer that Traefik itself gives for a slot that dies is tried again, with the same body."""
    with router(project, project / "home") as at, answering((500, 502, 503, 504)) as slot:
        stamp = route_file.write(project / "home", Route("churn", slot)).stamp
        assert probe.wait_for_stamp(f"{at.router}/churn", stamp, 60)
        answer = httpx.post(f"{at.router}/churn/invocations", content=b"rows")
        assert (answer.status_code, answer.content) == (200, b"rows")


def test_what_the_router_answers_by_itself_is_counted_for_its_model(project):
    """429 over the rate limit, 502 for a slot that is gone, and 500: once each, by the router that the rules look for."""
    gone = RoutedSlot("blue", "1", "http://127.0.0.1:9")
    with router(project, project / "home") as at, answering() as slot, answering((500,) * 9) as failing:
        followed = Route("followed", slot, candidate=failing, percent=50, follow="x-customer")
        for route in (followed, Route("gone", gone), Route("limited", slot, rate_limit=2)):
            stamp = route_file.write(project / "home", route).stamp
        assert probe.wait_for_stamp(f"{at.router}/limited", stamp, 60)

        def sent_to(model, headers):
            answer = httpx.post(f"{at.router}/{model}/invocations", content=b"", headers=headers)
            return model, str(answer.status_code)

        # At once: one after the other they may be as slow as the limit on a busy machine.
        with ThreadPoolExecutor(10) as clients:
            sent = list(clients.map(sent_to, ["limited"] * 10, [{}] * 10))
        sent += [sent_to("gone", {}) for _ in range(2)]
        sent += [sent_to("followed", {"x-customer": str(customer)}) for customer in range(6)]
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


@pytest.mark.parametrize("follow", ["", "x-customer"])
def test_a_request_that_may_have_killed_a_slot_is_sent_once(project, follow):
    """A packed or a large body that a slot broke off at goes to no other slot, and the client gets a 502; a small one goes on."""
    with router(project, project / "home") as at, listening(dies=True) as first, listening() as second:
        slots = [
            RoutedSlot(slot, version, f"http://127.0.0.1:{listener.server_port}")
            for slot, version, listener in (("blue", "1", first), ("green", "2", second))
        ]
        route = Route("churn", slots[0], candidate=slots[1], percent=50, follow=follow) if follow else None
        stamp = route_file.write(project / "home", route or Route("churn", slots[0], slots[1])).stamp
        assert probe.wait_for_stamp(f"{at.router}/churn", stamp, 60)
        packed = gzip.compress(BODY)
        for sent, headers in (
            (packed, {"content-encoding": "gzip"}),
            (iter([packed]), {"content-encoding": "gzip"}),
            (b"x" * 200_000, {}),
            (iter([b"x" * 100_000] * 2), {}),
        ):
            before = first.received + second.received
            answer = httpx.post(f"{at.router}/churn/invocations", content=sent, headers=headers)
            assert first.received + second.received == before + 1
            assert answer.status_code == 200 or answer.json()["error"]
            assert first.received or answer.status_code == 200
        before = first.received
        answers = [httpx.post(f"{at.router}/churn/invocations", content=b"rows") for _ in range(4)]
        assert first.received > before
        if follow:
            assert {answer.status_code for answer in answers} == {200}


@pytest.fixture(scope="module")
def slot_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("slot")


@pytest.fixture
def routed(project, churn_package, slot_folder):
    """The port of a router before a real slot; a request must arrive within REQUEST_S."""
    change_params(project, "models.churn.rollout.serving.request_s", REQUEST_S)
    with router(project, project / "home") as at, server(churn_package, slot_folder) as started:
        stamp = route_file.write(project / "home", Route("churn", RoutedSlot("blue", "3", started.url))).stamp
        assert probe.wait_for_stamp(f"{at.router}/churn", stamp, 60)
        yield int(at.router.rpartition(":")[2])


def sent(port, start, *, half_close):
    """(status, headers, body) of the answer to a request of which only `start` is sent; None when the connection is closed."""
    with socket.create_connection(("127.0.0.1", port), timeout=ANSWERED_S) as connection:
        connection.sendall(b"POST /churn/invocations HTTP/1.1\r\nhost: x\r\n" + start)
        if half_close:
            connection.shutdown(socket.SHUT_WR)
        file = connection.makefile("rb")
        if not (line := file.readline()):
            return None
        headers = dict(line.decode().strip().lower().split(": ", 1) for line in iter(file.readline, b"\r\n"))
        return int(line.split()[1]), headers, file.read(int(headers["content-length"]))


PARTS = {
    "no byte": b"content-length: 100\r\n\r\n",
    "some bytes": b"content-length: 100\r\n\r\n{",
    "a chunk": b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(BODY), BODY),
    "the start of a large body": b"content-length: 1000000\r\n\r\n{",
    "much of a large body": b"content-length: 1000000\r\n\r\n{%b" % (b" " * 300_000),
    "packed": b"content-encoding: gzip\r\ncontent-length: 100\r\n\r\n" + gzip.compress(BODY)[:20],
}


def test_a_body_that_is_not_whole_is_refused(routed):
    """Cut by a half-close it is a 400, and stalled a 408 when its time is over: in JSON, and never a 200."""
    for part, start in PARTS.items():
        for half_close, code in ((True, 400), (False, 408)):
            begun = time.monotonic()
            status, headers, body = sent(routed, start, half_close=half_close)
            assert (status, headers["content-type"]) == (code, "application/json"), (part, status, body)
            assert json.loads(body)["error"]
            assert half_close or time.monotonic() - begun > 1, part
    status, _, body = sent(routed, b"transfer-encoding: chunked\r\n\r\nzz\r\nabc", half_close=False)
    assert (status, bool(json.loads(body)["error"])) == (400, True)


def frame(kind, flags, stream, content):
    """A frame of HTTP/2."""
    return len(content).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + content


def field(name, value):
    """A header of HTTP/2, with nothing packed."""
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


def test_a_body_that_stalls_in_http_2_is_refused_in_time(routed):
    """A client that begins in HTTP/2 gets the 408 too, when the time is over."""
    path, host = field(b":path", b"/churn/invocations"), field(b":authority", b"x")
    head = field(b":method", b"POST") + field(b":scheme", b"http") + path + host
    with socket.create_connection(("127.0.0.1", routed), timeout=ANSWERED_S) as connection:
        begun = time.monotonic()
        start = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"")
        connection.sendall(start + frame(1, 4, 1, head) + frame(0, 0, 1, b"{"))
        came = b""
        # The packed headers may hold any byte, a brace too: only the sentence itself ends the wait.
        while b'{"error":"the body did not arrive in time' not in came:
            part = connection.recv(4096)
            assert part, came
            came += part
    assert time.monotonic() - begun > 1


def test_a_request_for_another_protocol_is_answered_through_the_router(routed):
    """The router does not pass the wish on."""
    for protocol in (b"websocket", b"h2c"):
        head = b"connection: Upgrade\r\nupgrade: %b\r\ncontent-length: %d\r\n\r\n" % (protocol, len(BODY))
        status, _, body = sent(routed, head + BODY, half_close=False)
        assert status == 200, body
        assert json.loads(body)["predictions"]


def test_the_routers_own_errors_are_json(project):
    """502 of a slot that breaks off, 429 of the rate limit and 503 of slots that are all down."""
    with router(project, project / "home") as at, listening(dies=True) as dying, listening() as alive:
        dead = RoutedSlot("blue", "1", f"http://127.0.0.1:{dying.server_port}")
        route_file.write(project / "home", Route("churn", dead))
        slot = RoutedSlot("blue", "1", f"http://127.0.0.1:{alive.server_port}")
        stamp = route_file.write(project / "home", Route("other", slot, rate_limit=1)).stamp
        assert probe.wait_for_stamp(f"{at.router}/other", stamp, 60)
        answers = [httpx.post(f"{at.router}/churn/invocations", content=b"x" * 200_000)]
        # At once: one after the other they may be as slow as the limit on a busy machine.
        with ThreadPoolExecutor(10) as clients:
            ask = partial(httpx.post, content=b"x")
            limited = list(clients.map(ask, [f"{at.router}/other/invocations"] * 10))
        answers += [answer for answer in limited if answer.status_code != 200]
    assert {answer.status_code for answer in answers} == {502, 429}
    for answer in answers:
        assert answer.headers["content-type"] == "application/json"
        assert answer.json()["error"]


def test_what_belongs_to_no_model_is_an_error_in_json(project):
    """An unknown model, the root, a name that only begins as a model's does: 404, also while no model is live."""
    with router(project, project / "home") as at, answering() as slot:
        until = time.monotonic() + 60
        while "error" not in httpx.get(at.router).text:
            assert time.monotonic() < until
        stamp = route_file.write(project / "home", Route("churn", slot)).stamp
        assert probe.wait_for_stamp(f"{at.router}/churn", stamp, 60)
        for path in (
            "/",
            "/nobody/invocations",
            "/churnx/invocations",
            "/v2/models/churn/infer",
            "/%2e%2e/x",
        ):
            for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
                answer = httpx.request(method, f"{at.router}{path}", content=b"x" * 300_000)
                assert answer.status_code == 404, (method, path)
                assert answer.headers["content-type"] == "application/json"
                assert "/MODEL/invocations" in answer.json()["error"]
            assert httpx.head(f"{at.router}{path}").status_code == 404
        assert httpx.post(f"{at.router}/churn/invocations", content=b"rows").status_code == 200
        page = httpx.get(f"{at.router_api}/metrics").text
    # Counted for no model, not even one of its own.
    assert set(re.findall(r'router="(.+?)"', page)) == {"churn@file"}


def test_a_foreign_broken_file_stops_no_route_and_no_restart(project):
    """With a file in routes/ that does not parse, another model's route still moves, and after a restart of the router all answer."""
    home = project / "home"
    with router(project, home) as at, answering() as slot:
        followed = {}

        def move(model):
            foreign_files.set_aside(home)
            followed[model] = route_file.write(home, Route(model, slot)).stamp
            assert probe.wait_for_stamp(f"{at.router}/{model}", followed[model], 60), model

        move("churn")
        move("fraud")
        broken = route_file.routes_folder(home) / "notes.yaml"
        broken.write_text("a: [\n")
        # What the file provider makes of it: no route moves any more.
        stuck = route_file.write(home, Route("churn", slot)).stamp
        assert not probe.wait_for_stamp(f"{at.router}/churn", stuck, 1)
        move("churn")
        route_file.route_file(home, "fraud").write_text("http: [\n")
        move("churn")
        assert probe.wait_for_stamp(f"{at.router}/fraud", followed["fraud"], 60)
        broken.write_text("a: [\n")
        at.process.terminate()
        at.process.wait(60)
        at.start()
        assert probe.through_router(f"{at.router}/churn")[0] == 404
        assert "notes.yaml" in " ".join(foreign_files.Watch(home).look())
        for model, stamp in followed.items():
            assert probe.wait_for_stamp(f"{at.router}/{model}", stamp, 60), model


def test_status_asks_through_the_router(project, monkeypatch):
    """A slot that answers counts only when the router sends requests to it, by the route file as it is now."""
    home = project / "home"
    monkeypatch.setattr(FakeSlot, "version", "1")

    def why_not(**more):
        variables = {"PERENNIAL_HOME": str(home), "PERENNIAL_ROUTER_URL": at.router, **more}
        context = Context(Environment.read(variables), ledger)
        (status,) = LocalTraffic(context).status("churn")
        assert status.live.answers == (status.live.why_not is None)
        advice.append(status.live.what_helps)
        return status.live.why_not

    advice: list[str | None] = []
    with router(project, home) as at, answering() as slot:
        ledger = ledger_of(home)
        stamp = route_file.write(home, Route("churn", slot)).stamp
        assert probe.wait_for_stamp(f"{at.router}/churn", stamp, 60)
        assert why_not() is None
        (route_file.routes_folder(home) / "notes.yaml").write_text("a: [\n")
        time.sleep(0.5)
        route_file.write(home, Route("churn", slot))
        assert why_not() == "the router does not follow the route file"
        at.process.terminate()
        at.process.wait(60)
        at.start()
        assert why_not() == "the router says 404"
        foreign_files.set_aside(home)
        stamp = route_file.write(home, Route("churn", slot)).stamp
        assert probe.wait_for_stamp(f"{at.router}/churn", stamp, 60)
        assert why_not() is None
        monkeypatch.setattr(FakeSlot, "version", "9")
        assert why_not() == "version 9 answers in its place"
        assert set(advice) == {None, "reconcile"}
    # No reconcile starts a router.
    assert why_not() == why_not(PERENNIAL_MODE="server") == "the router does not answer"
    assert advice[-2:] == ["make up", "docker compose up -d"]
