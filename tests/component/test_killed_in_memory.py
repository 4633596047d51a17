"""Rollouts in memory that are killed at each point, or whose slots died: the next reconcile recovers them."""

from __future__ import annotations

from collections import Counter

import pytest

from pipeline.rollout import failpoints, rollback
from pipeline.rollout.routing import route_file
from tests.support.accidents import agreed, deploy, kill_at, reconcile
from tests.support.required import EXHAUSTIVE
from tests.support.world import SETTINGS


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
def test_a_killed_rollout_whose_slots_died_too_is_recovered(lived, strategy, point, left, dead):
    """A rollout that was killed, and whose slots died too, is finished or undone by reconcile."""
    world, context = lived
    deploy(context, "1")
    kill_at(point, lambda: deploy(context, "2", strategy))
    for slot in dead:
        world.running.pop(slot)
    reconcile(context)
    assert agreed(world, context) == left


@pytest.mark.parametrize("point", ["after note rollback_started", "after move route", "before note rolled_back"])
def test_a_killed_rollback_whose_slots_died_too_is_recovered(lived, point):
    """A rollback that was killed, and whose slots died too, is finished or undone by reconcile."""
    world, context = lived
    deploy(context, "1")
    deploy(context, "2")
    kill_at(point, lambda: rollback.rollback(context, "churn", SETTINGS))
    world.running.clear()
    reconcile(context)
    assert agreed(world, context) == ("2" if point == "after note rollback_started" else "1")


@pytest.mark.usefixtures("the_end_cannot_be_recorded")
@pytest.mark.parametrize(
    "point", ["after move route#2", "before promote#2", "after promote#2", "before note rolled_back"]
)
def test_one_that_is_killed_while_it_is_undone_is_undone_by_reconcile(lived, point):
    """A rollout that is killed while it is undone is undone by reconcile."""
    world, context = lived
    deploy(context, "1")
    kill_at(point, lambda: deploy(context, "2"))
    reconcile(context)
    assert agreed(world, context) == "1"


def test_reconcile_ends_once_the_router_follows_the_file(lived, monkeypatch):
    """The rollout keeper may restore a damaged route file a moment before: reconcile then waits until the router has read it."""
    world, context = lived
    deploy(context, "1")
    routed, unread = world.routed, iter(range(20))
    # What a router answers that has not yet read the file again.
    monkeypatch.setattr(world, "routed", lambda model: routed(model) if next(unread, None) is None else None)
    assert reconcile(context) == []
    assert next(unread, None) is None
    assert agreed(world, context) == "1"


def passed(monkeypatch, call):
    """The failpoints that the call passes, each with its number."""
    reached, points = Counter(), []

    def reach(name):
        reached[name] += 1
        points.append(f"{name}#{reached[name]}")

    with monkeypatch.context() as during:
        during.setattr(failpoints, "reach", reach)
        call()
    return points


@pytest.mark.parametrize("strategy", ["canary", "linear", "shadow"])
def test_a_rollout_by_steps_killed_at_any_point_is_recovered(lived, monkeypatch, strategy):
    """tests/engine/test_killed.py walks all-at-once and rollback on real slots; here each step's own points are walked too."""
    world, context = lived
    deploy(context, "2")
    deploy(context, "1")
    points = passed(monkeypatch, lambda: deploy(context, "3", strategy))
    step = "note shadow_ended" if strategy == "shadow" else "note step_baked"
    assert {"before move route#2", f"before {step}#1", "before note slot_ending#1", "after note route_moved#1"} <= set(
        points
    )
    # A linear rollout passes the same points again at each of its steps.
    for point in points if EXHAUSTIVE or strategy != "linear" else points[::2]:
        current = route_file.read(context.home, "churn").live.version
        other = "3" if current == "1" else "1"
        if set(world.running) != {"blue", "green"}:
            deploy(context, other)
            current, other = other, current
        kill_at(point, lambda other=other: deploy(context, other, strategy))
        reconcile(context)
        left = agreed(world, context)
        assert left == current or strategy != "shadow", point


ACCIDENTS = {
    "a rollout that is to be undone": "after note route_moved",
    "one that is to be finished": "after note baked",
    "a champion that died too": "after move route",
}


@pytest.mark.parametrize("accident", ACCIDENTS)
def test_a_recovery_may_be_killed_at_any_point_and_is_recovered(lived, monkeypatch, accident):
    """A reconcile that is killed at any of its failpoints is completed by the next reconcile."""
    world, context = lived

    def happen():
        reconcile(context)
        current = route_file.read(context.home, "churn")
        other = "2" if current is None or current.live.version == "1" else "1"
        kill_at(ACCIDENTS[accident], lambda: deploy(context, other, "canary" if "died" in accident else "all-at-once"))
        if "died" in accident:
            world.running.clear()

    deploy(context, "1")
    happen()
    points = passed(monkeypatch, lambda: reconcile(context))
    assert len(points) >= 8
    for point in points:
        happen()
        kill_at(point, lambda: reconcile(context))
        reconcile(context)
        agreed(world, context)
