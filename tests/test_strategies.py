"""Canary, linear and shadow on real slots behind a real Traefik, judged on real traffic; and the ways back."""

from __future__ import annotations

import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta

import httpx
import pytest
import yaml

from pipeline.deployer import status
from pipeline.errors import RolloutError
from pipeline.ledger.rollout_events import RolloutStarted, RouteMoved, SlotEnded, StepBaked
from pipeline.ledger.timeline import live_at
from pipeline.pages.overview import overview_page
from pipeline.rollout import recovery
from pipeline.rollout.routing import route_file
from pipeline.rollout.routing.route import Route
from pipeline.runs import steps
from tests.support import browser
from tests.support.load import steady_load
from tests.support.rollouts import BODY, FLIPPED, GOOD, bodies, one_engine

pytestmark = pytest.mark.slow
FAST = {"bake_s": 0.5, "hold_s": 150, "canary_percent": 50, "linear_percent": 40, "limits__error_rate": 0.05}
# One in a hundred slower than the limit takes some 900 requests to rule out; a busy machine is no regression.
FAST |= {"drain_s": 1, "limits__alpha": 0.2, "limits__p99_ms": 2000}


@pytest.fixture(autouse=True)
def _fast(site):
    site.set(**FAST)
    site.deploy("1", "all-at-once")


def kinds(site, *wanted):
    return [e.kind for e in site.context.ledger.events(model="churn") if e.kind in wanted]


@pytest.mark.parametrize("strategy", ["canary", "linear"])
def test_an_equal_version_gets_its_shares_and_then_all(site, strategy):
    with steady_load(site.address, bodies(), pace=400) as tally:
        told = site.deploy("2", strategy)
    assert (tally.failed, tally.failures) == (0, [])
    assert (told.version, told.strategy, told.previous) == ("2", strategy, "1")
    moved = [e.body["percent"] for e in site.context.ledger.events(RouteMoved) if e.body["to"] == "2"]
    assert moved == ([50, 100] if strategy == "canary" else [40, 80, 100])
    proven = site.context.ledger.events(StepBaked)
    assert [e.body["percent"] for e in proven] == moved[:-1]
    assert all(look["verdict"] == "promote" and look["of"] >= 100 for e in proven for look in e.body["looks"])
    assert site.live() == ("2", "green")
    assert site.context.registry.champion("churn") == "2"
    assert site.slots() == [("blue", "1"), ("green", "2")]


def test_a_version_that_answers_otherwise_is_aborted_and_the_champion_keeps_all(site):
    """Its golden answers are right, it is healthy and fast, and it says the opposite."""
    with steady_load(site.address, bodies(), pace=400) as tally:
        with pytest.raises(RolloutError, match=r"version 4 of churn at 50 %: .*changed sides: over the limit"):
            site.deploy(FLIPPED, "canary")
        during = tally.versions[FLIPPED]
        time.sleep(1)
    assert (tally.failed, tally.failures) == (0, [])
    assert 0 < during < tally.sent / 2
    assert site.live() == ("1", "blue")
    assert site.slots() == [("blue", "1")]
    assert site.context.registry.champion("churn") == "1"
    assert live_at(site.context.ledger, "churn")["version"] == "1"


@one_engine
def test_what_is_personal_is_not_compared_and_holds_up_no_canary(site):
    """Errors and latency are judged as ever, and the verdict says what was not looked at."""
    site.set(serving__personal={"plan": "hash", "calls": "drop"})
    with steady_load(site.address, bodies(), pace=400) as tally:
        site.deploy("2", "canary")
    assert (tally.failed, tally.failures) == (0, [])
    (proven,) = site.context.ledger.events(StepBaked)
    assert proven.body["reason"].endswith("calls, plan is personal and not in the log as it was asked")
    assert [look["figure"] for look in proven.body["looks"]] == ["error_rate", "refusal_rate", "p99_ms"]


@one_engine
def test_too_few_requests_hold_until_the_deadline_and_go_back(site):
    site.set(hold_s=3)
    with pytest.raises(RolloutError, match=r"held for \d+ s and goes back to the champion: \d+ requests, at least 100"):
        site.deploy("2", "canary")
    assert site.live() == ("1", "blue")
    assert kinds(site, "rollout_holding", "rollout_failed") == ["rollout_holding", "rollout_failed"]


@one_engine
def test_without_the_routers_metrics_it_holds(site, monkeypatch):
    site.set(hold_s=3)
    monkeypatch.setenv("PERENNIAL_ROUTER_API_URL", "http://127.0.0.1:9")
    with (
        steady_load(site.address, bodies()) as tally,
        pytest.raises(RolloutError, match="goes back to the champion: the router's metrics are missing"),
    ):
        site.deploy("2", "canary")
    assert (tally.failed, tally.failures) == (0, [])
    assert site.live() == ("1", "blue")


@pytest.mark.parametrize(("version", "verdict"), [("2", "promote"), (FLIPPED, "abort")])
def test_a_shadow_answers_nobody_is_compared_and_promotes_nothing(site, version, verdict):
    with steady_load(site.address, bodies(), pace=400) as tally:
        told = site.deploy(version, "shadow")
    assert (told.verdict, told.champion) == (verdict, "1")
    assert (tally.failed, set(tally.versions)) == (0, {"1"})
    looks = {look["figure"]: look for look in told.looks}
    assert looks["churn"]["of"] > 0
    assert looks["error_rate"]["of"] > 0
    assert site.slots() == [("blue", "1")]
    assert site.context.registry.champion("churn") == "1"
    assert not list((site.home / "predictions" / "churn").glob(f"*-v{version}-*"))
    with pytest.raises(RolloutError, match="has no predecessor to go back to"):
        site.rollback()


def in_background(site, version, strategy):
    told = {}

    def run():
        try:
            told["done"] = site.deploy(version, strategy)
        except RolloutError as error:
            told["error"] = error

    thread = threading.Thread(target=run)
    thread.start()
    until = time.monotonic() + 30
    while (current := route_file.read(site.home, "churn")) is None or current.candidate is None:
        assert time.monotonic() < until, told
        time.sleep(0.05)
    return thread, told, current


def see_the_page(site, folder):
    """The overview in a browser, in the middle of a canary: who has which share, why it holds, how to call it back."""
    if gone := browser.missing():
        return print(f"browser: {gone}")
    page = folder / "page.html"
    page.write_text(overview_page(site.context))
    with browser.browser() as driver:
        driver.get(page.as_uri())
        shares = driver.find_elements("css selector", "#model-churn .shares span")
        assert [s.text for s in shares] == ["version 1: 93 %", "version 2: 7 %"]
        assert shares[0].size["width"] > shares[1].size["width"] > 0
        card = driver.find_element("id", "model-churn").text
        assert "Version 2 is at 7 % since" in card
        assert "it holds:" in card
        assert "rollback churn" in card
        assert not [line for line in driver.get_log("browser") if line["level"] == "SEVERE"]
        driver.save_screenshot(str(folder / "canary.png"))
    return None


@one_engine
def test_shares_are_exact_and_status_tells_them(site, tmp_path):
    site.set(canary_percent=7)
    thread, told, current = in_background(site, "2", "canary")
    time.sleep(1)
    with httpx.Client() as client:
        counted = Counter(
            client.post(f"{site.address}/invocations", content=BODY).headers["x-model-version"] for _ in range(1000)
        )
    # What the rollout itself asks while it watches goes to the slot, not through the router.
    assert counted == {"1": 930, "2": 70}
    (shown,) = status.models_status(site.context)
    assert [(s["version"], s["percent"]) for s in shown["shares"]] == [("1", 93), ("2", 7)]
    assert (shown["candidate"]["version"], shown["baking"], shown["undo"]) == ("2", "2", "rollback churn")
    assert "the limit is" in shown["holds"] or "at least 100 wanted" in shown["holds"]
    see_the_page(site, tmp_path)
    back = site.rollback()
    thread.join()
    assert (back["called_back"], back["version"], back["left"]) == (True, "1", "2")
    assert "was called back by hand" in str(told["error"])
    assert site.live() == ("1", "blue")
    assert current.shares == {"1": 93, "2": 7}


@one_engine
def test_one_customer_stays_on_one_side(site):
    site.set(canary_percent=30, follow="x-customer")
    thread, _, _ = in_background(site, "2", "canary")
    time.sleep(1)
    sides = {}
    with httpx.Client() as client:
        for turn in range(2):
            for number in range(1000):
                headers = {"x-customer": f"customer-{number}", "x-perennial-bucket": "0"}
                answer = client.post(f"{site.address}/invocations", content=BODY, headers=headers)
                version = answer.headers["x-model-version"]
                assert sides.setdefault(number, version) == version, turn
    # 1,000 customers drawn by a hash: 300 expected, 14.5 the standard deviation.
    assert 240 < Counter(sides.values())["2"] < 360
    site.rollback()
    thread.join()
    assert site.live() == ("1", "blue")


@one_engine
def test_one_key_stays_on_one_side_however_it_is_asked(site):
    """The key in the body, in each form; what has none, or is no JSON, is shared out and answered as ever."""
    site.set(canary_percent=30, follow="body:customer")
    thread, _, _ = in_background(site, "2", "canary")
    time.sleep(1)

    def forms(key):
        row = GOOD | {"customer": key}
        names, values = list(row), list(row.values())
        tensors = [{"name": n, "shape": [1], "datatype": "BYTES", "data": [v]} for n, v in row.items()]
        yield "/invocations", {"dataframe_records": [row, row | {"customer": "another"}]}
        yield "/invocations", {"dataframe_split": {"columns": names, "data": [values]}}
        yield "/invocations", {"instances": [row]}
        yield "/invocations", {"inputs": {name: [value] for name, value in row.items()}}
        yield "/v2/models/churn/infer", {"inputs": tensors}

    sides = {}
    with httpx.Client() as client:
        for number in range(300):
            for path, asked in forms(f"customer-{number}"):
                answer = client.post(f"{site.address}{path}", json=asked).raise_for_status()
                version = answer.headers["x-model-version"]
                assert sides.setdefault(number, version) == version, path
        without = {
            client.post(f"{site.address}/invocations", content=BODY).headers["x-model-version"] for _ in range(40)
        }
        assert client.post(f"{site.address}/invocations", content=b"no json").status_code == 400
    assert 60 < Counter(sides.values())["2"] < 120
    assert without == {"1", "2"}
    site.rollback()
    thread.join()
    assert site.live() == ("1", "blue")


def test_a_cold_predecessor_is_started_proven_and_live_again(site, capsys):
    site.set(keep_hours=0)
    site.deploy("2")
    steps.settle(steps.Context.here(), "any run", "churn")
    assert "blue: ended version 1, kept for 0 h" in capsys.readouterr().out
    assert site.slots() == [("green", "2")]
    assert route_file.read(site.home, "churn").previous is None
    with steady_load(site.address, BODY) as tally:
        told = site.rollback()
    assert (told.version, told.warm, told.slot) == ("1", False, "blue")
    assert (tally.failed, tally.failures) == (0, [])
    assert site.live() == ("1", "blue")


@one_engine
@pytest.mark.parametrize("harm", ["changed", "removed", "garbled"])
def test_a_route_of_another_hand_is_written_again_from_the_ledger(site, harm):
    path = route_file.route_file(site.home, "churn")
    if harm == "removed":
        path.unlink()
    elif harm == "garbled":
        path.write_text("http: [")
    else:
        first, rest = path.read_text().split("\n", 1)
        changed = rest.replace('"weight": 100', '"weight": 7')
        assert changed != rest
        path.write_text(first + "\n" + changed)
    done = site.reconcile()
    assert any("written again for version 1, as the ledger says" in line for line in done)
    assert site.live() == ("1", "blue")
    assert site.reconcile() == []


@pytest.mark.parametrize("site", ["docker"], indirect=True)
def test_old_images_go_and_those_of_champion_and_predecessor_stay(site):
    import docker

    for version in ("2", "3"):
        site.deploy(version)
    client = docker.from_env()
    own = site.containers()[0].labels
    images = client.images.list(filters={"label": [f"perennial.image={own['perennial.home']}-churn"]})
    assert {i.labels["org.opencontainers.image.version"] for i in images} == {"2", "3"}
    assert own["org.opencontainers.image.title"] == "churn"


def test_what_a_slot_could_not_finish_is_counted(site):
    """A request that is still being sent when its slot must end is cut off after drain_s, and told."""
    import socket

    site.deploy("2")
    current = route_file.read(site.home, "churn")
    host, port = current.previous.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as slow:
        slow.sendall(b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
        time.sleep(0.3)
        site.deploy("3")
    ended = [e.body for e in site.context.ledger.events(SlotEnded, model="churn")]
    assert [(e["version"], e["cut_off"]) for e in ended] == [("1", 1)]


def test_metrics_name_model_slot_and_version(site):
    httpx.post(f"{site.address}/invocations", content=BODY)
    current = route_file.read(site.home, "churn")
    page = httpx.get(f"{current.live.address}/metrics").text
    assert 'perennial_requests_total{code="200",model="churn",slot="blue",version="1"}' in page
    router = httpx.get(f"{site.context.environment.router_addresses.api_url}/metrics").text
    assert 'service="churn.blue.v1@file"' in router


def test_a_rollout_that_was_killed_is_undone_by_the_next_command(site):
    """As a kill leaves it: the route in its canary, a candidate in its slot, no end in the ledger."""
    from pipeline.rollout import slots

    alone = site.context.rollout("killed")
    folder = site.context.registry.deployable_package("churn", "2")
    alone.record(RolloutStarted(version="2", slot="green", strategy="canary", before="1"), "churn")
    proven = slots.fill(alone, "churn", "2", "green", folder, site.settings())
    current = route_file.read(site.home, "churn")
    route_file.write(
        site.home,
        Route("churn", current.live, candidate=proven.share, percent=50),
        route_file.token_of(site.home, "churn"),
    )
    assert yaml.safe_load(route_file.route_file(site.home, "churn").read_text())
    with steady_load(site.address, BODY) as tally:
        done = site.reconcile()
    assert (tally.failed, tally.failures) == (0, [])
    assert any("version 1 has all traffic again, 2 was cut off" in line for line in done)
    assert site.slots() == [("blue", "1")]
    assert recovery.open_rollout(site.context.ledger, "churn") is None
    assert datetime.now(UTC) - datetime.fromisoformat(live_at(site.context.ledger, "churn")["since"]) < timedelta(
        hours=1
    )
