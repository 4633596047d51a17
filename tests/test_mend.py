"""Accidents in a world of slots in memory: what each leaves behind, and that it is mended. tests/test_killed.py has the real ones."""

from __future__ import annotations

import contextlib

import pytest

from pipeline.ledger.timeline import live_at
from pipeline.rollout import execute, failpoints, mend, route
from tests.support.world import SETTINGS, Killed, lived_in


@pytest.fixture
def lived(tmp_path):
    with lived_in(tmp_path / "home") as (world, site):
        yield world, site


def deploy(site, version, strategy="all-at-once"):
    return execute.deploy(site, "churn", version, SETTINGS, strategy=strategy)


def reconcile(site):
    return mend.reconcile(site, {"churn": SETTINGS})


def kill_at(world, point, call):
    """Runs the call and ends its process at the point."""

    def reach(name):
        if name == point:
            world.dead = True
            raise Killed

    with pytest.MonkeyPatch.context() as during:
        during.setattr(failpoints, "reach", reach)
        during.setattr(execute, "_undo", lambda *_: None)
        with contextlib.suppress(Killed):
            call()
            pytest.fail(f"never reached {point}")
    world.dead = False


def agreed(world, site):
    """One version is live, and route, slots, registry and ledger say so; returns it."""
    current = route.read(site.home, "churn")
    assert current.candidate is None
    assert world.routed("churn")["x-model-version"] == current.live.version == world.champion
    assert live_at(site.ledger, "churn")["version"] == current.live.version
    assert set(world.running) <= current.slots
    assert mend.open_rollout(site.ledger, "churn") is None
    assert reconcile(site) == []
    return current.live.version


@pytest.mark.parametrize(
    ("strategy", "point", "left"),
    [
        ("canary", "after move route", "1"),
        ("canary", "after note step_baked", "1"),
        ("all-at-once", "before note slot_ready", "1"),
        ("all-at-once", "after move route", "1"),
        ("all-at-once", "after note baked", "2"),
    ],
)
@pytest.mark.parametrize("dead", [["blue"], ["green"], ["blue", "green"]])
def test_a_killed_rollout_whose_slots_died_too_is_mended(lived, strategy, point, left, dead):
    world, site = lived
    deploy(site, "1")
    kill_at(world, point, lambda: deploy(site, "2", strategy))
    for slot in dead:
        world.running.pop(slot)
    reconcile(site)
    assert agreed(world, site) == left


@pytest.mark.parametrize("point", ["after note rollback_started", "after move route", "before note rolled_back"])
def test_a_killed_rollback_whose_slots_died_too_is_mended(lived, point):
    from pipeline.rollout import back

    world, site = lived
    deploy(site, "1")
    deploy(site, "2")
    kill_at(world, point, lambda: back.rollback(site, "churn", SETTINGS))
    world.running.clear()
    reconcile(site)
    assert agreed(world, site) == ("2" if point == "after note rollback_started" else "1")
