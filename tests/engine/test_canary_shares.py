"""A canary's shares are exact, and each customer stays on one side."""

from __future__ import annotations

import threading
import time
from collections import Counter

import httpx
import pytest

from harness.project import BODY, GOOD
from pipeline.deployer import status
from pipeline.errors import RolloutError
from pipeline.ledger.rollout_events import RouteMoved
from pipeline.pages.overview import overview_page
from pipeline.rollout.routing import route_file, traefik
from tests.support import browser
from tests.support.endpoint import LIMIT_S, one_engine

FAST = {"bake_s": 0.5, "hold_s": 150, "canary_percent": 50, "linear_percent": 40, "limits__error_rate": 0.05}


# One in a hundred slower than the limit takes some 900 requests to rule out; a busy machine is no regression.
FAST |= {"drain_s": 1, "limits__alpha": 0.2, "limits__p99_ms": 2000}


@pytest.fixture(autouse=True)
def _fast(endpoint, monkeypatch):
    # A slot that misses a health check on a busy machine would leave its share to the other one until the next.
    monkeypatch.setitem(traefik.HEALTH, "timeout", "60s")
    endpoint.set(**FAST)
    endpoint.deploy("1", "all-at-once")


def in_background(endpoint, version, strategy):
    told = {}

    def run():
        try:
            told["done"] = endpoint.deploy(version, strategy)
        except RolloutError as error:
            told["error"] = error

    thread = threading.Thread(target=run)
    thread.start()
    until = time.monotonic() + LIMIT_S
    # Not the file but the event: it says that the router follows the file.
    while version not in [e.event.to for e in endpoint.context.ledger.events(RouteMoved, model="churn")]:
        assert time.monotonic() < until, told
        time.sleep(0.05)
    return thread, told, route_file.read(endpoint.home, "churn")


def see_the_page(endpoint, folder):
    """The overview in a browser, in the middle of a canary: who has which share, why it holds, how to call it back."""
    if gone := browser.missing():
        return print(f"browser: {gone}")
    page = folder / "page.html"
    page.write_text(overview_page(endpoint.context))
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
def test_shares_are_exact_and_in_the_status(endpoint, tmp_path):
    """A canary gets exactly its share of 1,000 requests, status and page show the shares, and a rollback calls it back."""
    endpoint.set(canary_percent=7)
    thread, told, current = in_background(endpoint, "2", "canary")
    with httpx.Client() as client:
        counted = Counter(
            client.post(f"{endpoint.address}/invocations", content=BODY).headers["x-model-version"] for _ in range(1000)
        )
    # What the rollout itself asks while it watches goes to the slot, not through the router.
    assert counted == {"1": 930, "2": 70}
    (shown,) = (status.as_dict() for status in status.models_status(endpoint.context))
    assert [(s["version"], s["percent"]) for s in shown["shares"]] == [("1", 93), ("2", 7)]
    assert (shown["candidate"]["version"], shown["baking"], shown["undo"]) == ("2", "2", "rollback churn")
    assert "the limit is" in shown["holds"] or "at least 100 required" in shown["holds"]
    see_the_page(endpoint, tmp_path)
    back = endpoint.rollback()
    thread.join()
    assert (back.called_back, back.version, back.left) == (True, "1", "2")
    assert "was called back by hand" in str(told["error"])
    assert endpoint.live() == ("1", "blue")
    assert current.shares == {"1": 93, "2": 7}


@one_engine
def test_one_customer_stays_on_one_side(endpoint):
    """Requests with the same value of the followed header go to the same version."""
    endpoint.set(canary_percent=30, follow="x-customer")
    thread, _, _ = in_background(endpoint, "2", "canary")
    sides = {}
    with httpx.Client() as client:
        # Each of them, and the first of them again.
        for turn, customers in enumerate((1000, 300)):
            for number in range(customers):
                headers = {"x-customer": f"customer-{number}", "x-perennial-bucket": "0"}
                answer = client.post(f"{endpoint.address}/invocations", content=BODY, headers=headers)
                version = answer.headers["x-model-version"]
                assert sides.setdefault(number, version) == version, turn
    # 1,000 customers drawn by a hash: 300 expected, 14.5 the standard deviation.
    assert 240 < Counter(sides.values())["2"] < 360
    endpoint.rollback()
    thread.join()
    assert endpoint.live() == ("1", "blue")


@one_engine
def test_one_key_stays_on_one_side_however_it_is_asked(endpoint):
    """Requests with the same key in the body go to the same version in every format, and those without a key are shared out."""
    endpoint.set(canary_percent=30, follow="body:customer")
    thread, _, _ = in_background(endpoint, "2", "canary")

    def forms(key):
        row = GOOD | {"customer": key}
        names, values = list(row), list(row.values())
        kinds = {name: "BYTES" if isinstance(value, str) else "FP64" for name, value in row.items()}
        tensors = [{"name": n, "shape": [1], "datatype": kinds[n], "data": [v]} for n, v in row.items()]
        yield "/invocations", {"dataframe_records": [row, row | {"customer": "another"}]}
        yield "/invocations", {"dataframe_split": {"columns": names, "data": [values]}}
        yield "/invocations", {"instances": [row]}
        yield "/invocations", {"inputs": {name: [value] for name, value in row.items()}}
        yield "/v2/models/churn/infer", {"inputs": tensors}

    sides, spelt = {}, {}
    with httpx.Client() as client:
        for key in (key for number in range(30) for key in (number, float(number), f"{number}.0")):
            answer = client.post(f"{endpoint.address}/invocations", json={"instances": [GOOD | {"customer": key}]})
            version = answer.raise_for_status().headers["x-model-version"]
            assert spelt.setdefault(float(key), version) == version, key
        for number in range(300):
            for path, asked in forms(f"customer-{number}"):
                answer = client.post(f"{endpoint.address}{path}", json=asked).raise_for_status()
                version = answer.headers["x-model-version"]
                assert sides.setdefault(number, version) == version, path
        without = {
            client.post(f"{endpoint.address}/invocations", content=BODY).headers["x-model-version"] for _ in range(40)
        }
        assert client.post(f"{endpoint.address}/invocations", content=b"no json").status_code == 400
    assert 60 < Counter(sides.values())["2"] < 120
    assert set(spelt.values()) == {"1", "2"}
    assert without == {"1", "2"}
    endpoint.rollback()
    thread.join()
    assert endpoint.live() == ("1", "blue")
