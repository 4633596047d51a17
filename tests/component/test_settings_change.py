"""A change of rollout.serving reaches every slot that can get traffic, in the world in memory."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.errors import RolloutError
from pipeline.ledger.rollout_events import SettingsApplied
from pipeline.rollout import deploy as deployments
from pipeline.rollout import failpoints, probe, recovery, rollback
from pipeline.rollout.recorded import slot_settings
from pipeline.rollout.routing import route_file
from pipeline.settings.rollout import Rollout, Serving
from tests.support.world import SETTINGS, killed_at

COLUMNS = {"churn": frozenset({"email", "age"})}


def with_serving(**serving) -> Rollout:
    return SETTINGS.model_copy(update={"serving": Serving(**serving)})


OLD_KEY, NEW_KEY = "a" * 64, "b" * 64
BEFORE, AFTER = with_serving(api_keys=(OLD_KEY,)), with_serving(api_keys=(NEW_KEY,), personal={"email": "drop"})


@pytest.fixture
def two(lived):
    """Version 2 live and version 1 warm, both with the settings BEFORE."""
    world, context = lived
    context = replace(context, columns=COLUMNS)
    for version in ("1", "2"):
        deployments.deploy(context, "churn", version, BEFORE)
    return world, context


def running(context) -> dict[str, Rollout | None]:
    """With which settings each version that can get traffic runs, by the route and the ledger."""
    current = route_file.read(context.home, "churn")
    return {s.version: slot_settings(context.ledger, "churn", s) for s in current.answering}


def all_run_with(context, settings) -> bool:
    return all(each == settings for each in running(context).values())


def nothing_else_runs(world, context):
    """What runs is what the route names."""
    current = route_file.read(context.home, "churn")
    named = {s.address for s in (current.live, current.previous) if s is not None}
    return {r.address for r in world.running.values()} == named


def test_deploying_the_live_version_brings_changed_settings_to_it_and_to_the_warm_predecessor(two):
    """`deploy` of the live version starts both slots again with the changed settings, and says so."""
    world, context = two
    result = deployments.deploy(context, "churn", "2", AFTER)
    assert result.already_live and len(result.changed) == 2
    assert running(context) == {"2": AFTER, "1": AFTER}
    assert nothing_else_runs(world, context)
    assert context.ledger.events(SettingsApplied)[-1].event.version == "2"
    assert deployments.deploy(context, "churn", "2", AFTER).changed is None


def test_reconcile_brings_changed_settings_too(two):
    """`reconcile` does the same, and nothing the second time."""
    world, context = two
    assert len(recovery.reconcile(context, {"churn": AFTER})) == 2
    assert running(context) == {"2": AFTER, "1": AFTER}
    assert nothing_else_runs(world, context)
    assert recovery.reconcile(context, {"churn": AFTER}) == []


@pytest.mark.parametrize("strategy", ["all-at-once", "canary", "shadow"])
def test_the_next_rollout_brings_changed_settings_to_the_champion_first(two, monkeypatch, strategy):
    """From the candidate's start on, no slot of the route has the older settings, whatever comes of the rollout."""
    _, context = two
    seen = []
    reach = failpoints.reach

    def look(name):
        if name == "after note slot_ready" and len(seen) < 2:
            seen.append(running(context))
        reach(name)

    monkeypatch.setattr(failpoints, "reach", look)
    deployments.deploy(context, "churn", "3", AFTER, strategy=strategy)
    assert seen[-1]["2"] == AFTER
    assert all_run_with(context, AFTER)


def test_a_rollback_starts_an_outdated_predecessor_again_before_it_gets_traffic(two):
    """A warm predecessor with other settings is started again first, and the version that was left is not kept with its own."""
    world, context = two
    result = rollback.rollback(context, "churn", AFTER)
    assert (result.version, result.left, result.warm) == ("1", "2", False)
    assert running(context) == {"1": AFTER}
    assert nothing_else_runs(world, context)


def test_only_the_rate_limit_moves_the_route_and_starts_nothing(two):
    """A rate limit is the router's: no slot is started again for it."""
    world, context = two
    context, before = replace(context, rate_limits={"churn": 7}), dict(world.running)
    settings = with_serving(api_keys=(OLD_KEY,), rate_limit=7)
    assert recovery.reconcile(context, {"churn": settings}) != []
    assert route_file.read(context.home, "churn").rate_limit == 7
    assert world.running == before
    assert recovery.reconcile(context, {"churn": settings}) == []


def test_settings_with_which_nothing_starts_leave_both_slots_as_they_were(two, monkeypatch):
    """Settings that are too tight are refused in one line, and live version and predecessor go on as before."""
    world, context = two
    wait_ready = probe.wait_ready

    def too_tight(engine, running, limit_s):
        if context.ledger.events(SettingsApplied) or world.tight:
            world.tight -= 1
            raise RolloutError("slot churn", "was killed for its memory", "give it more")
        return wait_ready(engine, running, limit_s)

    world.tight = 1
    monkeypatch.setattr(probe, "wait_ready", too_tight)
    with pytest.raises(RolloutError, match=r"version 2 does not start with the changed rollout.serving"):
        deployments.deploy(context, "churn", "2", AFTER)
    assert running(context) == {"2": BEFORE, "1": BEFORE}
    assert nothing_else_runs(world, context)


def test_a_live_version_that_cannot_start_again_keeps_no_other_from_going_live(two, monkeypatch):
    """The next version goes live although the champion does not start with the changed settings; the champion is not kept."""
    world, context = two
    wait_ready = probe.wait_ready

    def only_three(engine, running, limit_s):
        if running.version != "3":
            raise RolloutError("slot churn", "was killed for its memory", "give it more")
        return wait_ready(engine, running, limit_s)

    monkeypatch.setattr(probe, "wait_ready", only_three)
    assert deployments.deploy(context, "churn", "3", AFTER).version == "3"
    assert running(context) == {"3": AFTER}
    assert nothing_else_runs(world, context)


def test_what_was_started_by_an_older_code_is_started_again(two):
    """A slot whose settings the ledger does not have counts as outdated."""
    _, context = two
    live = route_file.read(context.home, "churn").live
    with pytest.MonkeyPatch.context() as during:
        during.setattr("pipeline.rollout.slots.as_recorded", lambda _: None)
        deployments.deploy(context, "churn", "3", BEFORE)
    assert live.version == "2" and running(context)["3"] is None
    recovery.reconcile(context, {"churn": BEFORE})
    assert all_run_with(context, BEFORE)


def test_a_dropped_feature_stays_personal_for_the_version_that_still_takes_it(two):
    """A column that left the block stays personal for a version that takes it; one that the block still has does not."""
    _, context = two
    deployments.deploy(context, "churn", "2", with_serving(personal={"email": "drop", "age": "hash"}))
    dropped = replace(context, columns={"churn": frozenset({"age"})})
    deployments.deploy(dropped, "churn", "3", SETTINGS)
    assert running(dropped)["2"].serving.personal == {"email": "drop"}
    assert running(dropped)["3"].serving.personal == {}
    assert recovery.reconcile(dropped, {"churn": SETTINGS}) == []


def test_a_change_that_is_killed_at_any_point_is_completed_by_reconcile(two, monkeypatch):
    """A killed change of settings is finished by the next reconcile: no slot that can get traffic has the older ones."""
    world, context = two
    points, reach = [], failpoints.reach
    with monkeypatch.context() as during:
        during.setattr(failpoints, "reach", lambda name: (points.append(name), reach(name)))
        deployments.deploy(context, "churn", "2", AFTER)
    counted = [f"{name}#{points[: i + 1].count(name)}" for i, name in enumerate(points)]
    assert len(counted) > 20
    settings = [BEFORE, AFTER]
    for turn, point in enumerate(counted):
        wanted = settings[turn % 2]
        if len(world.running) < 2:
            other = "3" if route_file.read(context.home, "churn").live.version == "2" else "2"
            deployments.deploy(context, "churn", other, settings[(turn + 1) % 2])
        version = route_file.read(context.home, "churn").live.version
        with killed_at(point) as outcome:
            deployments.deploy(context, "churn", version, wanted)
        recovery.reconcile(context, {"churn": wanted})
        assert all_run_with(context, wanted), point
        assert nothing_else_runs(world, context), point
        assert outcome.killed, point
        assert route_file.read(context.home, "churn").live.version == version == world.promoted
