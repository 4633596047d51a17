"""The process that deploys is killed before and after each side effect; whatever it leaves is recovered."""

from __future__ import annotations

import signal
import threading
import time

import httpx
import pytest

from harness.commands import run
from harness.load import steady_load
from harness.project import BODY, bodies
from harness.rollouts import races
from pipeline.ledger.rollout_events import RolloutStarted, RouteMoved
from pipeline.rollout import recovery
from pipeline.runs.settle import settle
from tests.support.endpoint import LIMIT_S, WIDE, agreed, kill_slot, one_engine
from tests.support.required import EXHAUSTIVE

# What a rollout does to the world. That each is passed, and that no other is, is checked below.
EFFECTS = ("empty slot", "start slot", "move route", "promote")
EVENTS = (
    *("rollout_started", "slot_ending", "slot_ended", "slot_starting", "slot_started", "slot_ready"),
    *("evidence_needed", "route_moving", "route_moved", "baked", "promoting", "promoted", "rollout_ended"),
)


def deploy(endpoint, command, **environment):
    """The command line in a process of its own, as a person or a task runs it; its exit code."""
    return run(endpoint.project, command, **environment)


def points(endpoint, tmp_path, command):
    """All failpoints that the command passes, in their order."""
    points = tmp_path / "points"
    code = deploy(endpoint, command, PERENNIAL_FAILPOINTS=str(points))
    assert code == 0
    return points.read_text().splitlines()


def apart(walk):
    """Those that find the world in another state than the point before: after one effect and before the next it is the same."""
    return [
        p
        for last, p in zip(["", *walk], walk, strict=False)
        if not (last.startswith("after") and p.startswith("before"))
    ]


def shared_out(endpoint, walk):
    """A fifth of the world's states for each engine; when all is walked, the points are shared out, so that each state is on both.

    tests/component/test_killed_in_memory.py and test_any_order.py walk the others in memory.
    """
    own = apart(walk)
    on_processes = endpoint.settings().engine == "process"
    if EXHAUSTIVE:
        return own if on_processes else [point for point in walk if point not in own]
    return own[::5] if on_processes else own[2::5]


def some(walk, step=2):
    """Every second point, or every `step`th, or all of them."""
    return walk if EXHAUSTIVE else walk[::step]


@pytest.fixture
def start(endpoint, tmp_path):
    """Version 1 live, and the points of `deploy 2 --strategy canary` and `rollback` from there."""
    endpoint.set(canary_percent=50, **WIDE)
    endpoint.deploy("1", "all-at-once")
    return endpoint


def test_a_rollout_killed_at_any_point_is_recovered(start, tmp_path):
    """The walk over them, shared out to the engines, under load: no failed request, and one version is live everywhere."""
    endpoint = start
    endpoint.deploy("2", "all-at-once")
    with steady_load(endpoint.address, BODY, pace=100) as tally:
        walk = points(endpoint, tmp_path, ["deploy", "churn", "1", "--strategy", "all-at-once"])
        names = {point.partition("#")[0] for point in walk}
        own = ["start process"] if endpoint.settings().engine == "process" else []
        effects = (*EFFECTS, *own, *(f"note {k}" for k in EVENTS))
        assert names == {f"{w} {e}" for w in ("before", "after") for e in effects}
        seen = set()
        for point in shared_out(endpoint, walk):
            other = {"1": "2", "2": "1"}[agreed(endpoint)]
            assert len(endpoint.slots()) == 2, "the predecessor is warm again, whatever the point before it left"
            code = deploy(endpoint, ["deploy", "churn", other, "--strategy", "all-at-once"], PERENNIAL_FAIL_AT=point)
            assert code == -signal.SIGKILL, point
            endpoint.reconcile()
            seen.add(agreed(endpoint))
            assert endpoint.reconcile() == [], point
    assert (tally.failed, tally.failures) == (0, [])
    assert seen == {"1", "2"}


@one_engine
def test_a_canary_killed_in_its_step_is_given_back(start):
    """A canary that is killed in its step gives all traffic back to the champion, without a failed request."""
    endpoint = start
    with steady_load(endpoint.address, BODY, pace=150) as tally:
        for point in ("before move route", "after move route", "before note route_moved"):
            code = deploy(endpoint, ["deploy", "churn", "2", "--strategy", "canary"], PERENNIAL_FAIL_AT=point)
            assert code == -signal.SIGKILL, point
            endpoint.reconcile()
            assert agreed(endpoint) == "1"
    assert (tally.failed, tally.failures) == (0, [])


@one_engine
@pytest.mark.parametrize(
    ("strategy", "own", "until"),
    [
        # The first move of the route is the predecessor's, which makes room.
        ("canary", "before note route_moving#2", "before note route_moving#3"),
        ("linear", "before note route_moving#3", "before note route_moving#4"),
        ("shadow", "before note route_moving#2", "after note shadow_ended#1"),
    ],
)
def test_a_rollout_by_steps_killed_at_any_point_is_recovered(start, tmp_path, strategy, own, until):
    """Where each strategy goes its own way: before that and after it does what all-at-once does, and linear begins as canary."""
    endpoint = start
    # At its first look each step holds, and so passes the points of a hold each time.
    endpoint.set(linear_percent=34, bake_s=0, limits__min_requests=100)
    endpoint.deploy("2", "all-at-once")
    with steady_load(endpoint.address, BODY, pace=100) as tally:
        walk = points(endpoint, tmp_path, ["deploy", "churn", "1", "--strategy", strategy])
        walk = some(apart(walk[walk.index(own) : walk.index(until) + 1]), 8)
        seen = set()
        for point in walk:
            other = {"1": "2", "2": "1"}[agreed(endpoint)]
            code = deploy(endpoint, ["deploy", "churn", other, "--strategy", strategy], PERENNIAL_FAIL_AT=point)
            assert code == -signal.SIGKILL, point
            endpoint.reconcile()
            seen.add(agreed(endpoint) == other)
            assert endpoint.reconcile() == [], point
    assert (tally.failed, tally.failures) == (0, [])
    assert seen == {False}, "none of these is to be finished"


@one_engine
@pytest.mark.parametrize(("left_at", "strategy"), [("after move route", "canary"), ("after note baked", "all-at-once")])
def test_a_recovery_killed_at_any_point_is_recovered(start, tmp_path, left_at, strategy):
    """A rollout that is to be undone and one that is to be finished: the `reconcile` that does so is killed, and the next one ends it."""
    endpoint = start

    def leave():
        other = {"1": "2", "2": "1"}[agreed(endpoint)]
        command = ["deploy", "churn", other, "--strategy", strategy]
        assert deploy(endpoint, command, PERENNIAL_FAIL_AT=left_at) == -signal.SIGKILL

    with steady_load(endpoint.address, BODY, pace=150) as tally:
        leave()
        walk = apart(points(endpoint, tmp_path, ["reconcile"]))
        assert len(walk) >= 3
        for point in some(walk, 3):
            leave()
            assert deploy(endpoint, ["reconcile"], PERENNIAL_FAIL_AT=point) == -signal.SIGKILL, point
            endpoint.reconcile()
            agreed(endpoint)
    assert (tally.failed, tally.failures) == (0, [])


@one_engine
def test_of_two_deploys_at_once_on_real_slots_one_wins(start):
    """Of two deploys at once on real slots one wins, in each of several races."""
    races(start.context, start.address, 10 if EXHAUSTIVE else 4)
    agreed(start)


def test_a_rollback_killed_at_any_point_is_recovered(start, tmp_path):
    """A rollback that is killed at any failpoint is finished or undone, without a failed request."""
    endpoint = start
    endpoint.deploy("2", "all-at-once")
    with steady_load(endpoint.address, BODY, pace=100) as tally:
        walk = points(endpoint, tmp_path, ["rollback", "churn"])
        assert "before move route#1" in walk
        walk = shared_out(endpoint, walk)
        for point in walk:
            if agreed(endpoint) == "1":
                endpoint.deploy("2", "all-at-once")
            code = deploy(endpoint, ["rollback", "churn"], PERENNIAL_FAIL_AT=point)
            assert code == -signal.SIGKILL, point
            endpoint.reconcile()
            assert agreed(endpoint) in ("1", "2")
    assert (tally.failed, tally.failures) == (0, [])


def test_a_killed_slot_is_covered_and_comes_back(start):
    """The warm predecessor answers for a champion that was killed, and reconcile starts the champion again."""
    endpoint = start
    endpoint.deploy("2", "all-at-once")
    with steady_load(endpoint.address, BODY, pace=100) as tally:
        kill_slot(endpoint, "green")
        until = time.monotonic() + LIMIT_S
        while (answer := httpx.post(f"{endpoint.address}/invocations", content=BODY)).status_code != 200:
            assert time.monotonic() < until
        assert answer.headers["x-model-version"] in ("1", "2")
        endpoint.reconcile()
        assert agreed(endpoint) == "2"
    assert (tally.failed, tally.failures) == (0, [])


@one_engine
def test_a_killed_router_reads_the_same_route_again(start):
    """A Traefik that was killed reads the same route when it starts again."""
    endpoint = start
    endpoint.deploy("2", "all-at-once")
    endpoint.at.process.kill()
    endpoint.at.process.wait()
    endpoint.at.start()
    until = time.monotonic() + LIMIT_S
    while httpx.post(f"{endpoint.address}/invocations", content=BODY).status_code != 200:
        assert time.monotonic() < until
    assert agreed(endpoint) == "2"
    assert endpoint.reconcile() == []


@one_engine
def test_a_router_that_is_killed_in_a_canary_changes_nothing_of_it(start):
    """A canary goes on to its end when Traefik is killed in it and started again by its supervisor."""
    endpoint = start
    results = {}

    def deploy():
        results["deploy"] = endpoint.deploy("2", "canary")

    rollout = threading.Thread(target=deploy)
    # Slow answers are what Traefik counts, from nothing again after its death.
    endpoint.set(bake_s=4, limits__p99_ms=5000)
    traefik = endpoint.at.kept()
    with steady_load(endpoint.address, bodies(), pace=200) as tally:
        rollout.start()
        until = time.monotonic() + LIMIT_S
        while not endpoint.context.ledger.events(
            RouteMoved, after=endpoint.context.ledger.events(RolloutStarted)[-1].seq
        ):
            assert time.monotonic() < until
            time.sleep(0.1)
        time.sleep(1)
        traefik.kill()
        until = time.monotonic() + LIMIT_S
        while not (up := answers(f"{endpoint.address}/invocations")):
            assert time.monotonic() < until
            time.sleep(0.05)
        assert up in ("1", "2")
        rollout.join(240)
    assert results["deploy"].version == "2"
    assert agreed(endpoint) == "2"
    print(f"{tally.sent} requests, {tally.failed} failed while Traefik was away")
    # Those that were under way, that came while nobody listened, or before Traefik, which listens first, had read the
    # route; of the slots none.
    answered = {failure for failure in tally.failures if failure[0].isdigit()}
    assert answered <= {"404 b'404 page not found\\n'"}


def answers(address):
    try:
        answer = httpx.post(address, content=BODY)
    except httpx.HTTPError:
        return None
    return answer.headers.get("x-model-version") if answer.status_code == 200 else None


@one_engine
def test_the_end_of_a_run_recovers_the_rollout_that_was_killed_in_it(start):
    """Airflow's teardown: a task that was killed undoes nothing, so the run's last step does."""
    endpoint = start
    endpoint.context.rollout("run/killed").record(RolloutStarted(version="2", slot="green", before="1"), "churn")
    assert recovery.open_rollout(endpoint.context.ledger, "churn") is not None
    settle(endpoint.context, "run/another", "churn")
    assert recovery.open_rollout(endpoint.context.ledger, "churn") is not None
    settle(endpoint.context, "run/killed", "churn")
    assert agreed(endpoint) == "1"
