"""A model with few requests: a candidate is proven, or refuted, on logged requests before any user reaches it."""

from __future__ import annotations

import time

import httpx
import pytest

from harness import commands
from harness.project import bodies
from pipeline.errors import RolloutError
from pipeline.ledger.rollout_events import EvidenceNeeded, Replayed, RouteMoved
from pipeline.ledger.timeline import timeline
from pipeline.monitoring import live_quality
from pipeline.rollout.answer_counts import slot_counts
from pipeline.rollout.routing import route_file
from pipeline.rollout.slots import predictions_folder
from tests.support.endpoint import FLIPPED, LIMIT_S, agreed, one_engine

REQUESTS = 600


@pytest.fixture
def quiet(endpoint):
    """Version 1 is live and has answered its requests; nobody asks any more."""
    endpoint.set(bake_s=0.2, drain_s=1, limits__error_rate=0.05, limits__p99_ms=None)
    endpoint.deploy("1", "all-at-once")
    with httpx.Client() as client:
        for body in bodies(REQUESTS):
            client.post(f"{endpoint.address}/invocations", content=body).raise_for_status()
    until = time.monotonic() + LIMIT_S
    while logged(endpoint) < REQUESTS:
        assert time.monotonic() < until
        time.sleep(0.1)
    return endpoint


def logged(endpoint):
    """The rows of traffic in the prediction log."""
    return live_quality.logged(predictions_folder(endpoint.home, "churn"))


def told(endpoint, version):
    return [line.what for line in timeline(endpoint.context.ledger, "churn") if f"version {version}" in line.what]


@one_engine
def test_a_good_candidate_goes_live_and_a_bad_one_does_not_without_a_live_request(quiet):
    """With logged requests alone a candidate with opposite predictions gets no traffic, and an equal one goes live."""
    before = logged(quiet)
    with pytest.raises(RolloutError, match=r"version 4 of churn in its replay: .*changed sides: over the limit"):
        quiet.deploy(FLIPPED, "replay")
    assert quiet.slots() == [("blue", "1")]
    result = quiet.deploy("2", "replay")
    assert (result.version, result.strategy, result.previous) == ("2", "replay", "1")
    moves = [(e.body["to"], e.body["percent"]) for e in quiet.context.ledger.events(RouteMoved)]
    assert moves == [("1", 100), ("2", 100)]
    (replayed,) = quiet.context.ledger.events(Replayed)
    assert replayed.event.version == "2"
    assert 100 <= replayed.event.requests <= REQUESTS
    assert {look["figure"]: look["of"] for look in replayed.event.looks}["churn"] == replayed.event.rows
    needed = quiet.context.ledger.events(EvidenceNeeded)[-2].event
    assert needed.step == "in its replay"
    assert f"it gets {REQUESTS} logged requests of the last 30 d" in needed.text
    assert any("proved itself on" in line for line in told(quiet, "2"))
    # What was replayed is no traffic: not in the slot's counts, not in the log.
    time.sleep(1)
    assert slot_counts(route_file.read(quiet.home, "churn").live.address).answers == 0
    assert logged(quiet) == before


@one_engine
def test_with_too_few_logged_requests_the_champion_keeps_all_traffic(quiet):
    """A replay that proves nothing ends with its last request, and says which keys help before and after it."""
    quiet.set(limits__error_rate=0.001)
    with pytest.raises(RolloutError) as held:
        quiet.deploy("2", "replay")
    assert f"held after all {REQUESTS} logged requests, and the champion keeps all traffic" in str(held.value)
    assert quiet.live() == ("1", "blue")
    assert quiet.slots() == [("blue", "1")]
    assert any("so it will probably end without a proof" in line for line in told(quiet, "2"))


@one_engine
def test_what_cannot_be_replayed_is_refused_before_a_slot_is_started(quiet):
    """When the log has no request as it was asked, the replay is refused in one line, and nothing is started."""
    quiet.set(replay_days=1e-6)
    with pytest.raises(RolloutError, match="no logged request can be replayed: 0 logged requests of the last 1e-06 d"):
        quiet.deploy("2", "replay")
    assert quiet.slots() == [("blue", "1")]


@one_engine
def test_a_replay_that_is_killed_is_undone(quiet):
    """A rollout that is killed in its replay leaves no slot and no traffic behind."""
    code = commands.run(
        quiet.project, ["deploy", "churn", "2", "--strategy", "replay"], PERENNIAL_FAIL_AT="before note replayed"
    )
    assert code != 0
    assert ("green", "2") in quiet.slots()
    quiet.reconcile()
    assert quiet.slots() == [("blue", "1")]
    assert agreed(quiet) == "1"
