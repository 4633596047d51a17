"""The ledger knows with which settings each slot was started."""

from __future__ import annotations

from pipeline.ledger.rollout_events import RolloutEnded, SettingsApplied, SlotReady, SlotStarting
from pipeline.rollout import deploy as deployments
from pipeline.rollout.recorded import as_recorded, recorded_settings, slot_settings
from pipeline.rollout.routing import route_file
from pipeline.settings.rollout import Serving
from tests.support.world import SETTINGS

KEYED = SETTINGS.model_copy(update={"serving": Serving(api_keys=("a" * 64,), personal={"email": "drop"})})


def test_what_is_live_can_be_started_again_with_the_settings_it_went_live_with(lived):
    """After a deploy the ledger gives back the whole section of the live version and of its predecessor."""
    _, context = lived
    assert recorded_settings(context.ledger, "churn") is None
    deployments.deploy(context, "churn", "1", SETTINGS)
    deployments.deploy(context, "churn", "2", KEYED)
    assert recorded_settings(context.ledger, "churn") == KEYED
    current = route_file.read(context.home, "churn")
    assert slot_settings(context.ledger, "churn", current.live) == KEYED


def test_a_start_that_was_not_proven_leaves_the_slot_unknown(lived):
    """A slot that was started again and not proven runs with settings that nobody knows."""
    _, context = lived
    deployments.deploy(context, "churn", "1", SETTINGS)
    live = route_file.read(context.home, "churn").live
    context.record(SlotStarting(version="1", slot=live.slot), "churn")
    assert slot_settings(context.ledger, "churn", live) is None


def test_older_and_newer_bodies_are_read(lived):
    """A body without settings is passed over, and keys that this code does not know are left out."""
    _, context = lived
    ledger = context.ledger
    ledger.append(RolloutEnded(version="1", slot="blue"), "churn")
    ledger.append(SlotReady(version="1", slot="blue"), "churn")
    assert recorded_settings(ledger, "churn") is None
    values = as_recorded(KEYED)
    newer = {**values, "hologram": 1, "serving": {**values["serving"], "warp": 9}}
    ledger.append(SettingsApplied(version="1", slot="blue", settings=newer), "churn")
    ledger.append(SlotReady(version="1", slot="blue"), "churn")
    assert recorded_settings(ledger, "churn") == KEYED
