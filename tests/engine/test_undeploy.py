"""A model whose block was deleted, on real slots behind a real Traefik, on both engines."""

from __future__ import annotations

import hashlib
import time

import httpx
import pytest
import yaml

from harness import rollouts
from harness.load import steady_load, wait_for_answers
from harness.project import BODY
from pipeline.cli.main import main
from pipeline.context import Context
from pipeline.deployer.api import LocalTraffic
from pipeline.deployer.status import models_status
from pipeline.rollout.routing import route_file
from tests.support.endpoint import LIMIT_S, one_engine

KEY = hashlib.sha256(b"mine").hexdigest()


@pytest.fixture
def without_a_block(endpoint):
    """Versions 1 and 2 of a model with API keys, whose block is then deleted."""
    endpoint.set(serving__api_keys=[KEY], serving__rate_limit=1000)
    endpoint.deploy("1")
    endpoint.deploy("2")
    path = endpoint.project / "params.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "models": {}}))
    yield endpoint


def test_it_is_shown_restarted_with_its_keys_rolled_back_and_ended(without_a_block, capsys):
    """`status` shows it, `reconcile` restarts it with its API keys, `rollback` works, and `undeploy` ends it."""
    endpoint = without_a_block
    (status,) = models_status(Context.here())
    assert (status.model, status.live.version) == ("churn", "2")
    assert "no block in params.yaml" in status.note
    current = route_file.read(endpoint.home, "churn")
    for engine in endpoint.engines.all():
        engine.stop("churn", current.live.slot, 0)
    assert any("started version 2 again" in line for line in LocalTraffic(Context.here()).reconcile("", None))
    assert rollouts.asked(endpoint.address, "") == 401 and rollouts.asked(endpoint.address, "mine") == 200
    assert route_file.read(endpoint.home, "churn").rate_limit == 1000
    assert main(["rollback", "churn"]) == 0
    assert rollouts.asked(endpoint.address, "") == 401 and rollouts.asked(endpoint.address, "mine") == 200
    assert main(["undeploy", "churn"]) == 0
    assert "version 1 is off the router" in capsys.readouterr().out
    assert endpoint.slots() == []
    assert httpx.post(f"{endpoint.address}/invocations", content=BODY).status_code == 404
    assert models_status(Context.here()) == []
    assert main(["rollback", "churn"]) == 1
    assert "is not in params.yaml" in capsys.readouterr().err
    assert main(["undeploy", "nobody"]) == 1


@one_engine
def test_requests_that_are_under_way_are_answered(endpoint):
    """An undeploy under load: each request is answered by a slot, or by the router, which no longer knows the model."""
    endpoint.deploy("1")
    with steady_load(endpoint.address, BODY, pace=100) as tally:
        wait_for_answers(tally, "1", 21)
        LocalTraffic(Context.here()).undeploy("", "churn", "a test")
        until = time.monotonic() + LIMIT_S
        while not tally.failed:
            assert time.monotonic() < until
            time.sleep(0.05)
    assert {failure[:3] for failure in tally.failures} == {"404"}
