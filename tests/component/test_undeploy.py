"""A model without a block: it is seen, restarted with the settings it went live with, and taken off the router."""

from __future__ import annotations

import pytest

from pipeline.context import Context
from pipeline.errors import RegistryError, RolloutError
from pipeline.ledger import timeline
from pipeline.pages.overview import overview_page
from pipeline.rollout import deploy as deployments
from pipeline.rollout import failpoints, recovery, rollback, undeploy
from pipeline.rollout.recorded import slot_settings
from pipeline.rollout.routing import route_file
from pipeline.settings.rollout import Serving
from tests.support.world import SETTINGS, killed_at

KEYED = SETTINGS.model_copy(update={"serving": Serving(api_keys=("a" * 64,), personal={"email": "drop"})})


@pytest.fixture
def two(lived):
    """Version 2 live and version 1 warm."""
    world, context = lived
    for version in ("1", "2"):
        deployments.deploy(context, "churn", version, KEYED)
    return world, context


def nothing_is_left(world, context):
    return (
        world.running == {}
        and world.promoted is None
        and route_file.read(context.home, "churn") is None
        and timeline.live_at(context.ledger, "churn") is None
        and recovery.open_rollout(context.ledger, "churn") is None
        and recovery.reconcile(context, {}) == []
    )


def test_a_model_leaves_the_router_first_and_then_its_slots_end(two):
    """An undeploy removes the route before it ends a slot, and ledger, registry and timeline say that nothing is live."""
    world, context = two
    began = context.ledger.events()[-1].seq
    result = undeploy.undeploy(context, "churn", 0, "its season is over")
    assert (result.version, sorted(result.ended)) == ("2", ["blue: 1", "green: 2"])
    kinds = [entry.kind for entry in context.ledger.events(after=began)]
    assert kinds.index("route_removed") < kinds.index("slot_ending") < kinds.index("undeployed")
    assert nothing_is_left(world, context)
    assert "its season is over" in timeline.timeline(context.ledger, "churn")[-1].what
    assert timeline.live_periods(context.ledger, "churn", "2")[-1].end is not None


def test_after_an_undeploy_a_rollback_says_what_to_do_and_a_deploy_works(two):
    """After an undeploy `rollback` and a second undeploy are refused in one line, and any version can go live again."""
    world, context = two
    undeploy.undeploy(context, "churn", 0)
    with pytest.raises(RolloutError, match="is not live; deploy a version first"):
        rollback.rollback(context, "churn", KEYED)
    with pytest.raises(RolloutError, match="is not live"):
        undeploy.undeploy(context, "churn", 0)
    assert deployments.deploy(context, "churn", "3", KEYED).previous is None
    assert world.routed("churn")["x-model-version"] == "3"


def test_an_undeploy_that_is_killed_at_any_point_is_completed(two, monkeypatch):
    """An undeploy that was killed once it had begun is completed by `reconcile`, and so it is by a deploy."""
    world, context = two
    points, reach = [], failpoints.reach
    with monkeypatch.context() as during:
        during.setattr(failpoints, "reach", lambda name: (points.append(name), reach(name)))
        undeploy.undeploy(context, "churn", 0)
    counted = [f"{name}#{points[: i + 1].count(name)}" for i, name in enumerate(points)]
    for point in counted[1:]:
        for version in ("1", "2"):
            deployments.deploy(context, "churn", version, KEYED)
        with killed_at(point) as outcome:
            undeploy.undeploy(context, "churn", 0)
        assert outcome.killed, point
        recovery.reconcile(context, {})
        if world.promoted is not None:  # it was killed after its end was recorded
            undeploy.undeploy(context, "churn", 0)
        assert nothing_is_left(world, context), point


def test_a_route_that_another_hand_garbled_does_not_keep_a_model_on_the_router(two):
    """A route file that cannot be read is removed like any other."""
    world, context = two
    route_file.route_file(context.home, "churn").write_text("http: [")
    undeploy.undeploy(context, "churn", 0)
    assert nothing_is_left(world, context)


def test_a_registry_that_is_away_keeps_no_slot_alive(two, monkeypatch):
    """The slots end although the registry is away; called again, the undeploy removes the alias."""
    world, context = two
    with monkeypatch.context() as during:
        during.setattr(world, "champion", lambda _: (_ for _ in ()).throw(RegistryError("mlflow", "is away", "wait")))
        with pytest.raises(RegistryError, match="is away"):
            undeploy.undeploy(context, "churn", 0)
    assert world.running == {} and timeline.live_version(context.ledger, "churn") == ""
    undeploy.undeploy(context, "churn", 0)
    assert nothing_is_left(world, context)


def test_a_model_without_a_block_is_restarted_with_the_settings_it_went_live_with(two):
    """A dead slot of a model without a block gets its API keys and personal columns back, never the defaults."""
    world, context = two
    assert recovery.reconcile(context, {}) == []
    world.running.clear()
    assert any("started version 2 again" in line for line in recovery.reconcile(context, {}))
    assert slot_settings(context.ledger, "churn", route_file.read(context.home, "churn").live) == KEYED


def test_without_a_block_and_without_recorded_settings_no_slot_is_started(lived, monkeypatch):
    """A ledger of an older version refuses to restart such a model, in one line; what answers goes on."""
    world, context = lived
    with monkeypatch.context() as during:
        during.setattr("pipeline.rollout.slots.as_recorded", lambda _: None)
        during.setattr("pipeline.rollout.recorded.as_recorded", lambda _: None)
        for version in ("1", "2"):
            deployments.deploy(context, "churn", version, KEYED)
    assert recovery.reconcile(context, {}) == []
    world.running.pop(route_file.read(context.home, "churn").live.slot)
    with pytest.raises(RolloutError, match="has no readable block in params.yaml and no recorded settings"):
        recovery.reconcile(context, {})
    assert world.running == {} and route_file.read(context.home, "churn").live.version == "2"
    undeploy.undeploy(context, "churn", 0)
    assert nothing_is_left(world, context)


def test_the_page_shows_an_undeploy_and_nothing_live(two, project, monkeypatch):
    """The overview lists the undeploy with its reason among the deployments, and the model's card has no live version."""
    _, context = two
    monkeypatch.setenv("PERENNIAL_HOME", str(context.home))
    undeploy.undeploy(context, "churn", 0, "its season is over")
    page = overview_page(Context.here())
    deployments = page[page.index('id="deployments"') :]
    assert "version 2 is off the router, and its slots have ended: its season is over" in deployments
    card = page[page.index('id="model-churn"') : page.index('id="deployments"')]
    assert "Live:" not in card
    assert "Not live" in card
