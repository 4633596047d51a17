"""Canary, linear and shadow on real slots behind a real Traefik, judged on real traffic; and the ways back."""

from __future__ import annotations

import logging
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import httpx
import pytest
import yaml

from harness.load import steady_load
from harness.project import BODY, bodies
from pipeline.errors import RolloutError
from pipeline.ledger.rollout_events import RolloutStarted, RouteMoved, SlotEnded, StepBaked
from pipeline.ledger.timeline import live_at
from pipeline.rollout import recovery
from pipeline.rollout.routing import route_file
from pipeline.rollout.routing.route import Route
from pipeline.runs.settle import settle
from tests.support.endpoint import FLIPPED, one_engine

FAST = {"bake_s": 0.5, "hold_s": 150, "canary_percent": 50, "linear_percent": 40, "limits__error_rate": 0.05}
# One in a hundred slower than the limit takes 800 requests to rule out, all other figures take 200: it is on where the test says so.
FAST |= {"drain_s": 1, "limits__alpha": 0.2, "limits__p99_ms": None}
# A busy machine is no regression.
TIMED = {"limits__p99_ms": 2000}


def on_each_engine(names, **values):
    """One case for each engine. A share or a verdict that is wrong is wrong on both, and evidence that cannot be read on one is missing
    in each of its cases."""
    names = ("endpoint", *([names] if isinstance(names, str) else names))
    cases = [(engine, *([value] if isinstance(value, str) else value)) for engine, value in values.items()]
    return pytest.mark.parametrize(names, cases, indirect=["endpoint"])


@pytest.fixture(autouse=True)
def _fast(endpoint):
    endpoint.set(**FAST)
    endpoint.deploy("1", "all-at-once")


def kinds(endpoint, *kinds):
    return [e.kind for e in endpoint.context.ledger.events(model="churn") if e.kind in kinds]


@on_each_engine("strategy", docker="canary", process="linear")
def test_an_equal_version_gets_its_shares_and_then_all(endpoint, strategy):
    """An equal candidate goes through the shares of its strategy and becomes champion, without a failed request."""
    if strategy == "canary":
        endpoint.set(**TIMED)
    with steady_load(endpoint.address, bodies(), pace=200) as tally:
        result = endpoint.deploy("2", strategy)
    assert (tally.failed, tally.failures) == (0, [])
    assert (result.version, result.strategy, result.previous) == ("2", strategy, "1")
    moved = [e.body["percent"] for e in endpoint.context.ledger.events(RouteMoved) if e.body["to"] == "2"]
    assert moved == ([50, 100] if strategy == "canary" else [40, 80, 100])
    proven = endpoint.context.ledger.events(StepBaked)
    assert [e.body["percent"] for e in proven] == moved[:-1]
    assert all(look["verdict"] == "promote" and look["of"] >= 100 for e in proven for look in e.body["looks"])
    assert endpoint.live() == ("2", "green")
    assert endpoint.context.registry.champion("churn") == "2"
    assert endpoint.slots() == [("blue", "1"), ("green", "2")]


@one_engine
def test_a_version_that_answers_otherwise_is_aborted_and_the_champion_keeps_all(endpoint):
    """A candidate with opposite predictions is aborted in its canary, and the champion keeps all traffic."""
    with steady_load(endpoint.address, bodies(), pace=200) as tally:
        with pytest.raises(RolloutError, match=r"version 4 of churn at 50 %: .*changed sides: over the limit"):
            endpoint.deploy(FLIPPED, "canary")
        during = tally.versions[FLIPPED]
        time.sleep(1)
    assert (tally.failed, tally.failures) == (0, [])
    assert 0 < during < tally.sent / 2
    assert endpoint.live() == ("1", "blue")
    assert endpoint.slots() == [("blue", "1")]
    assert endpoint.context.registry.champion("churn") == "1"
    assert live_at(endpoint.context.ledger, "churn").version == "1"


@one_engine
def test_what_is_personal_is_not_compared_and_holds_up_no_canary(endpoint):
    """Personal columns switch off the comparison of predictions, the verdict says so, and other figures are judged."""
    endpoint.set(serving__personal={"plan": "hash", "calls": "drop"}, **TIMED)
    with steady_load(endpoint.address, bodies(), pace=200) as tally:
        endpoint.deploy("2", "canary")
    assert (tally.failed, tally.failures) == (0, [])
    (proven,) = endpoint.context.ledger.events(StepBaked)
    assert proven.body["reason"].endswith("calls, plan is personal and not in the log as it was asked")
    assert [look["figure"] for look in proven.body["looks"]] == ["error_rate", "refusal_rate", "p99_ms"]


@one_engine
def test_pages_and_cut_bodies_are_no_evidence_of_a_canary(endpoint):
    """A canary that sees only pages, refused methods and bodies that clients cut off has seen no request."""
    endpoint.set(hold_s=4, serving__personal={"plan": "hash", "calls": "drop"})
    ended = threading.Event()

    def ask_for_pages():
        host, port = urlsplit(endpoint.at.router).hostname, urlsplit(endpoint.at.router).port
        while not ended.is_set():
            for method, path in (("GET", "ping"), ("GET", "docs"), ("POST", "ping"), ("POST", "nothing")):
                httpx.request(method, f"{endpoint.address}/{path}")
            with suppress(OSError), socket.create_connection((host, port)) as cut:
                cut.sendall(
                    b"POST /churn/invocations HTTP/1.1\r\nhost: x\r\ncontent-length: 600000\r\n\r\n" + b" " * 200000
                )
            # Some hundreds in all, of which a hundred would do.
            time.sleep(0.05)

    with ThreadPoolExecutor() as pool:
        asking = [pool.submit(ask_for_pages) for _ in range(2)]
        try:
            with pytest.raises(RolloutError, match="goes back to the champion: 0 requests, at least 100 required"):
                endpoint.deploy("2", "canary")
        finally:
            ended.set()
        [asked.result(60) for asked in asking]
    assert endpoint.live()[0] == "1"


@one_engine
def test_too_few_requests_hold_until_the_deadline_and_go_back(endpoint):
    """A canary with too few requests holds until hold_s and rolls back."""
    endpoint.set(hold_s=3)
    with pytest.raises(RolloutError, match=r"held for \d+ s and goes back to the champion: \d+ requests, at least 100"):
        endpoint.deploy("2", "canary")
    assert endpoint.live() == ("1", "blue")
    assert kinds(endpoint, "rollout_holding", "rollout_failed") == ["rollout_holding", "rollout_failed"]


@one_engine
def test_without_the_routers_metrics_it_holds(endpoint, monkeypatch):
    """A canary without the router's metrics holds until hold_s and rolls back."""
    endpoint.set(hold_s=3, **TIMED)
    monkeypatch.setenv("PERENNIAL_ROUTER_API_URL", "http://127.0.0.1:9")
    with (
        steady_load(endpoint.address, bodies(), pace=50) as tally,
        pytest.raises(RolloutError, match="goes back to the champion: the router's metrics are missing"),
    ):
        endpoint.deploy("2", "canary")
    assert (tally.failed, tally.failures) == (0, [])
    assert endpoint.live() == ("1", "blue")


@on_each_engine(("version", "verdict"), docker=("2", "promote"), process=(FLIPPED, "abort"))
def test_a_shadow_answers_nobody_is_compared_and_promotes_nothing(endpoint, version, verdict):
    """A shadow gets copies of requests, gets a verdict, answers no user and is not promoted."""
    endpoint.set(**TIMED)
    with steady_load(endpoint.address, bodies(), pace=200) as tally:
        result = endpoint.deploy(version, "shadow")
    assert (result.verdict, result.champion) == (verdict, "1")
    assert (tally.failed, set(tally.versions)) == (0, {"1"})
    looks = {look["figure"]: look for look in result.looks}
    assert looks["churn"]["of"] > 0
    assert looks["error_rate"]["of"] > 0
    assert endpoint.slots() == [("blue", "1")]
    assert endpoint.context.registry.champion("churn") == "1"
    assert not list((endpoint.home / "predictions" / "churn").glob(f"*-v{version}-*"))
    with pytest.raises(RolloutError, match="has no predecessor to go back to"):
        endpoint.rollback()


@one_engine
def test_a_cold_predecessor_is_started_proven_and_live_again(endpoint, caplog):
    """A rollback to a predecessor whose slot has ended starts and checks it first, without a failed request."""
    caplog.set_level(logging.INFO, "pipeline")
    endpoint.set(keep_hours=0)
    endpoint.deploy("2")
    settle(endpoint.context, "any run", "churn")
    assert "blue: ended version 1, kept for 0 h" in caplog.text
    assert endpoint.slots() == [("green", "2")]
    assert route_file.read(endpoint.home, "churn").previous is None
    with steady_load(endpoint.address, BODY, pace=100) as tally:
        result = endpoint.rollback()
    assert (result.version, result.warm, result.slot) == ("1", False, "blue")
    assert (tally.failed, tally.failures) == (0, [])
    assert endpoint.live() == ("1", "blue")


@one_engine
@pytest.mark.parametrize("harm", ["changed", "removed", "garbled"])
def test_a_route_of_another_hand_is_written_again(endpoint, harm):
    """Reconcile writes a route again as it was when another hand changed or garbled it, and from the ledger when it is gone."""
    path = route_file.route_file(endpoint.home, "churn")
    if harm == "removed":
        path.unlink()
    elif harm == "garbled":
        path.write_text("http: [")
    else:
        first, rest = path.read_text().split("\n", 1)
        changed = rest.replace('"weight": 100', '"weight": 7')
        assert changed != rest
        path.write_text(first + "\n" + changed)
    actions = endpoint.reconcile()
    as_what = "for version 1, as the ledger says" if harm == "removed" else "as it was"
    assert any(f"written again {as_what}" in line for line in actions)
    assert endpoint.live() == ("1", "blue")
    assert endpoint.reconcile() == []


@pytest.mark.parametrize("endpoint", ["docker"], indirect=True)
def test_old_images_go_and_those_of_champion_and_predecessor_stay(endpoint):
    """A rollout removes old images and keeps those of champion and predecessor."""
    import docker

    for version in ("2", "3"):
        endpoint.deploy(version)
    client = docker.from_env()
    own = endpoint.containers()[0].labels
    images = client.images.list(filters={"label": [f"perennial.image={own['perennial.home']}-churn"]})
    assert {i.labels["org.opencontainers.image.version"] for i in images} == {"2", "3"}
    assert own["org.opencontainers.image.title"] == "churn"


def test_what_a_slot_could_not_finish_is_counted(endpoint):
    """A request that is still being sent when its slot ends is cut off after drain_s and counted."""
    import socket

    endpoint.deploy("2")
    current = route_file.read(endpoint.home, "churn")
    host, port = current.previous.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as slow:
        slow.sendall(b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
        time.sleep(0.3)
        endpoint.deploy("3")
    ended = [e.body for e in endpoint.context.ledger.events(SlotEnded, model="churn")]
    assert [(e["version"], e["cut_off"]) for e in ended] == [("1", 1)]


@one_engine
def test_metrics_name_model_slot_and_version(endpoint):
    """Metrics of slot and router carry model, slot and version."""
    httpx.post(f"{endpoint.address}/invocations", content=BODY)
    current = route_file.read(endpoint.home, "churn")
    page = httpx.get(f"{current.live.address}/metrics").text
    assert 'perennial_requests_total{code="200",model="churn",slot="blue",version="1"}' in page
    router = httpx.get(f"{endpoint.context.environment.router_addresses.api_url}/metrics").text
    assert 'service="churn.blue.v1@file"' in router


@one_engine
def test_a_rollout_that_was_killed_is_undone_by_the_next_command(endpoint):
    """A canary that a kill left open is undone by reconcile, without a failed request."""
    from pipeline.rollout import slots

    killed = endpoint.context.rollout("killed")
    folder = endpoint.context.registry.deployable_package("churn", "2")
    killed.record(RolloutStarted(version="2", slot="green", strategy="canary", before="1"), "churn")
    proven = slots.fill(killed, "churn", "2", "green", folder, endpoint.settings())
    current = route_file.read(endpoint.home, "churn")
    route_file.write(
        endpoint.home,
        Route("churn", current.live, candidate=proven.routed, percent=50),
        route_file.token_of(endpoint.home, "churn"),
    )
    assert yaml.safe_load(route_file.route_file(endpoint.home, "churn").read_text())
    with steady_load(endpoint.address, BODY, pace=100) as tally:
        actions = endpoint.reconcile()
    assert (tally.failed, tally.failures) == (0, [])
    assert any("version 1 has all traffic again, 2 was cut off" in line for line in actions)
    assert endpoint.slots() == [("blue", "1")]
    assert recovery.open_rollout(endpoint.context.ledger, "churn") is None
    assert datetime.now(UTC) - datetime.fromisoformat(live_at(endpoint.context.ledger, "churn").since) < timedelta(
        hours=1
    )
