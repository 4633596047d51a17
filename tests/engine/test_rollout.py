"""Blue-green against a real Traefik and real slots, the same story for each engine."""

from __future__ import annotations

import hashlib
import json
import time

import httpx
import pytest

from harness.load import steady_load, wait_for_answers
from harness.project import BODY
from pipeline.errors import RegistryError, RolloutError
from pipeline.ledger.lease import HELD_S, LEASES
from pipeline.ledger.timeline import live_at
from pipeline.registry.versions import Registry
from pipeline.rollout import deploy as deployments
from pipeline.rollout import probe
from pipeline.rollout.routing import route_file
from pipeline.rollout.routing.traefik import RETRIED_BYTES
from pipeline.services import control
from tests.support.endpoint import LIMIT_S, agreed, one_engine


def test_versions_go_live_in_turn_and_no_request_is_dropped(endpoint):
    """Deploy, rollback and forward again switch between blue and green, without a failed request."""
    first = endpoint.deploy("1")
    assert (first.slot, endpoint.live()) == ("blue", ("1", "blue"))
    assert endpoint.context.registry.champion("churn") == "1"
    with steady_load(endpoint.address, BODY) as tally:
        wait_for_answers(tally, "1")
        assert endpoint.deploy("2").slot == "green"
        assert endpoint.live() == ("2", "green")
        assert endpoint.rollback().version == "1"
        assert endpoint.live() == ("1", "blue")
        assert endpoint.deploy("2").slot == "green"
        endpoint.deploy("3")
        wait_for_answers(tally, "3", 20)
    assert (tally.failed, tally.failures) == (0, [])
    assert set(tally.versions) == {"1", "2", "3"}
    assert tally.sent > 100
    assert endpoint.slots() == [("blue", "3"), ("green", "2")]
    assert endpoint.context.registry.champion("churn") == "3"
    assert endpoint.context.ledger.verify()[1] is None


@one_engine
def test_deploying_what_is_live_changes_nothing(endpoint):
    """A deployment of the live version changes nothing."""
    endpoint.deploy("1")
    assert endpoint.deploy("1").already_live
    assert endpoint.slots() == [("blue", "1")]


@one_engine
def test_a_registry_that_fails_after_the_move_undoes_the_rollout(endpoint, monkeypatch):
    """A registry that fails after the move undoes the rollout, and the next one succeeds."""
    endpoint.deploy("1")
    with monkeypatch.context() as during, steady_load(endpoint.address, BODY) as tally:
        during.setattr(
            Registry, "promote", lambda *_: (_ for _ in ()).throw(RegistryError("mlflow", "is away", "wait"))
        )
        with pytest.raises(RegistryError):
            endpoint.deploy("2")
    assert (tally.failed, tally.failures) == (0, [])
    assert endpoint.live() == ("1", "blue")
    assert endpoint.context.registry.champion("churn") == "1"
    assert live_at(endpoint.context.ledger, "churn").version == "1"
    assert endpoint.deploy("2").previous == "1"


def test_a_dead_live_slot_is_covered_by_its_warm_predecessor_and_reconcile_brings_it_back(endpoint):
    """The warm predecessor answers for a dead champion, and reconcile starts the champion again."""
    endpoint.deploy("1")
    endpoint.deploy("2")
    for engine in endpoint.engines.all():
        engine.stop("churn", "green", 0)
    until = time.monotonic() + LIMIT_S
    while httpx.post(f"{endpoint.address}/invocations", content=BODY).status_code != 200:
        assert time.monotonic() < until
    actions = endpoint.reconcile()
    assert any("started version 2 again" in line for line in actions)
    assert endpoint.live() == ("2", "green")
    assert endpoint.reconcile() == []


@one_engine
def test_a_rollout_that_was_overtaken_touches_nothing(endpoint, monkeypatch):
    """A rollout that lost its lease is refused, and what is live stays live."""
    endpoint.deploy("1")
    waited = probe.wait_ready

    def sleep_and_lose(engine, running, limit_s):
        ready_s = waited(engine, running, limit_s)
        with endpoint.context.ledger.writing() as connection:
            connection.execute(LEASES.update().values(token=LEASES.c.token + 1, holder="another"))
        return ready_s

    with monkeypatch.context() as during:
        during.setattr(probe, "wait_ready", sleep_and_lose)
        with pytest.raises(RolloutError, match="this rollout was overtaken by another"):
            endpoint.deploy("2")
    assert endpoint.live() == ("1", "blue")
    assert endpoint.context.registry.champion("churn") == "1"
    time.sleep(HELD_S)
    endpoint.deploy("2")
    assert endpoint.live() == ("2", "green")


@one_engine
def test_a_route_is_not_moved_back_by_an_older_rollout(endpoint):
    """A rollout with an older lease cannot move the route, even after a ledger was restored."""
    endpoint.deploy("1")
    current = route_file.read(endpoint.home, "churn")
    token = route_file.token_of(endpoint.home, "churn")
    with pytest.raises(RolloutError, match="was moved by a younger rollout"):
        route_file.write(endpoint.home, current, token - 1)
    with endpoint.context.ledger.writing() as connection:
        connection.execute(LEASES.delete())
    endpoint.deploy("2")  # a ledger that was restored has forgotten the number; the route has not
    assert route_file.token_of(endpoint.home, "churn") == token + 1


@one_engine
def test_refusals_are_one_line_and_change_nothing(endpoint):
    """Unknown versions, rollbacks without a predecessor and concurrent rollouts are refused and change nothing."""
    with pytest.raises(RegistryError, match="has no version 99; its versions are: 1, 2, 3"):
        endpoint.deploy("99")
    with pytest.raises(RolloutError, match="is not live"):
        endpoint.rollback()
    endpoint.deploy("1")
    with pytest.raises(RolloutError, match="has no predecessor to go back to"):
        endpoint.rollback()
    with (
        endpoint.context.rollout("test").leased("churn"),
        pytest.raises(RolloutError, match="another rollout of it is going on"),
    ):
        endpoint.deploy("2")
    assert endpoint.live() == ("1", "blue")


@one_engine
def test_the_router_lets_no_client_through_faster_than_the_limit(endpoint):
    """The router limits clients to rate_limit, and a rollout's own requests are not limited."""
    endpoint.set(serving__rate_limit=5)
    endpoint.deploy("1")
    with httpx.Client() as client:
        codes = [client.post(f"{endpoint.address}/invocations", content=BODY).status_code for _ in range(40)]
    assert set(codes) == {200, 429}
    assert endpoint.deploy("2").slot == "green"
    endpoint.set(serving__rate_limit=0)
    endpoint.deploy("3")
    with httpx.Client() as client:
        codes = [client.post(f"{endpoint.address}/invocations", content=BODY).status_code for _ in range(40)]
    assert set(codes) == {200}


@one_engine
def test_a_request_larger_than_is_kept_for_another_try_is_answered(endpoint):
    """A request larger than Traefik's retry buffer is answered."""
    endpoint.deploy("1")
    body = json.dumps({"dataframe_records": json.loads(BODY)["dataframe_records"] * 5000}).encode()
    assert len(body) > RETRIED_BYTES
    assert len(httpx.post(f"{endpoint.address}/invocations", content=body).json()["predictions"]) == 5000


@one_engine
def test_with_keys_a_rollout_proves_its_slot_and_strangers_are_refused(endpoint):
    """With API keys a rollout still checks its slot, and requests without a key get a 401."""
    endpoint.set(serving__api_keys=[hashlib.sha256(b"mine").hexdigest()])
    endpoint.deploy("1")
    assert httpx.post(f"{endpoint.address}/invocations", content=BODY).status_code == 401
    assert httpx.post(f"{endpoint.address}/invocations", content=BODY, headers={"x-api-key": "mine"}).status_code == 200


def test_after_down_and_up_the_predecessor_is_warm_again(endpoint):
    """All slots end with `make down`; what `make up` does then starts live version and predecessor, and a rollback is warm."""
    endpoint.deploy("1")
    endpoint.deploy("2")
    deployments.stop_all(endpoint.engines)
    assert endpoint.slots() == []
    lines: list[str] = []
    assert control._reconcile(endpoint.project, endpoint.home, lines.append) == []
    assert "churn blue: version 1 is warm again" in lines
    assert agreed(endpoint) == "2"
    assert endpoint.slots() == [("blue", "1"), ("green", "2")]
    assert endpoint.rollback().warm
