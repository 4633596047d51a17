"""The warm predecessor makes room for a candidate, and is warm again when that does not go live. In the world in memory."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from pipeline.errors import RegistryError, RolloutError
from pipeline.ledger.rollout_events import RouteMoved, SlotEnding, SlotRevived
from pipeline.policy.canary import Judgement
from pipeline.rollout import rollback
from pipeline.rollout.routing import route_file
from tests.support.accidents import agreed, deploy, kill_at, reconcile
from tests.support.world import SETTINGS


@pytest.fixture
def warm(lived):
    """Version 2 live and version 1 warm."""
    world, context = lived
    deploy(context, "1")
    deploy(context, "2")
    return world, context


def predecessor(context) -> str | None:
    previous = route_file.read(context.home, "churn").previous
    return previous.version if previous is not None else None


def refusing(context):
    return replace(context, judge=lambda *_: lambda: Judgement("abort", "it fails"))


@pytest.mark.parametrize("strategy", ["canary", "linear", "all-at-once"])
def test_a_candidate_that_fails_leaves_the_predecessor_warm(warm, strategy):
    """After a failed rollout the predecessor answers in its slot again and a rollback is warm."""
    world, context = warm
    with pytest.raises(RolloutError, match="it fails"):
        deploy(refusing(context), "3", strategy)
    assert (agreed(world, context), predecessor(context)) == ("2", "1")
    back = rollback.rollback(context, "churn", SETTINGS)
    assert (back.version, back.warm) == ("1", True)


def test_the_route_leaves_the_predecessor_before_its_slot_is_emptied(warm):
    """No request falls back on a slot that is being emptied: the route moves off it first."""
    _, context = warm
    before = context.ledger.events()[-1].seq
    deploy(context, "3")
    moved = context.ledger.events(RouteMoved, after=before)[0]
    emptied = context.ledger.events(SlotEnding, after=before)[0]
    assert (moved.event.to, emptied.event.version) == ("2", "1")
    assert moved.seq < emptied.seq


def test_one_that_covers_a_dead_live_slot_makes_room_once_that_is_back(warm):
    """The live slot is started again before its cover is ended, and the rollout goes on."""
    world, context = warm
    world.running.pop(route_file.read(context.home, "churn").live.slot)
    assert world.routed("churn")["x-model-version"] == "1"
    before = context.ledger.events()[-1].seq
    deploy(context, "3", "canary")
    assert agreed(world, context) == "3"
    revived = context.ledger.events(SlotRevived, after=before)[0]
    emptied = next(e for e in context.ledger.events(SlotEnding, after=before) if e.event.version == "1")
    assert revived.event.version == "2" and revived.seq < emptied.seq


def test_a_live_version_that_does_not_start_again_keeps_nobody_from_deploying(warm, monkeypatch):
    """The next version goes live though the live slot is dead for good."""
    world, context = warm
    world.running.pop(route_file.read(context.home, "churn").live.slot)
    package = context.registry.deployable_package
    monkeypatch.setattr(context.registry, "deployable_package", lambda *a: broken(a, package, "2"))
    deploy(context, "3")
    monkeypatch.undo()
    assert agreed(world, context) == "3"


def test_a_shadow_leaves_the_predecessor_warm(warm):
    """A shadow promotes nothing and takes nothing away."""
    world, context = warm
    deploy(context, "3", "shadow")
    assert (agreed(world, context), predecessor(context)) == ("2", "1")


@pytest.mark.parametrize(
    "point", ["after note rollout_started", "after move route#1", "after move route#2", "after note route_moved#3"]
)
def test_reconcile_brings_it_back_after_a_rollout_that_was_cut_off(warm, point):
    """A canary that is killed at its start, in its step or while it goes back leaves a warm predecessor once it is recovered."""
    world, context = warm
    kill_at(point, lambda: deploy(refusing(context), "3", "canary"))
    reconcile(context)
    assert (agreed(world, context), predecessor(context)) == ("2", "1")


def test_one_that_does_not_start_again_is_said_and_the_failure_stays_the_failure(warm, monkeypatch, caplog):
    """The rollout's own error is raised; the log says that a rollback has to start the predecessor."""
    _, context = warm
    package = context.registry.deployable_package
    monkeypatch.setattr(context.registry, "deployable_package", lambda *a: broken(a, package))
    with caplog.at_level("INFO"), pytest.raises(RolloutError, match="it fails"):
        deploy(refusing(context), "3", "canary")
    assert "version 1 is no longer warm (version 1: is damaged; fetch it); a rollback has to start it" in caplog.text
    assert (route_file.read(context.home, "churn").live.version, predecessor(context)) == ("2", None)


def broken(arguments, package, version="1"):
    if arguments[1] == version:
        raise RegistryError(f"version {version}", "is damaged", "fetch it")
    return package(*arguments)


def test_one_that_was_kept_long_enough_is_not_brought_back(warm):
    """After `keep_hours` a predecessor stays away, whatever failed before."""
    world, context = warm
    kill_at("after move route#2", lambda: deploy(context, "3", "canary"))
    later = replace(context, clock=lambda: datetime.now(UTC) + timedelta(hours=SETTINGS.keep_hours + 1))
    reconcile(later)
    assert (agreed(world, later), predecessor(later)) == ("2", None)


def test_a_version_that_was_pulled_is_not_brought_back(warm):
    """After a rollback the version that was left stays away, though a later candidate fails."""
    world, context = warm
    rollback.rollback(context, "churn", SETTINGS)
    with pytest.raises(RolloutError, match="it fails"):
        deploy(refusing(context), "3", "canary")
    assert (agreed(world, context), predecessor(context)) == ("1", None)
