"""The bake after all traffic has moved: few requests neither excuse a failure nor are a reason to go back by themselves."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from pipeline.errors import RolloutError
from pipeline.ledger.rollout_events import Baked, RolloutHolding
from pipeline.policy.canary import Evidence, judge
from pipeline.policy.confidence import Counted
from pipeline.rollout import deploy as deployments
from pipeline.rollout.routing import route_file
from tests.support.world import SETTINGS


def deploy_seeing(context, *looks, hold_s=5.0):
    """Deploys version 2 over version 1, whose past is 300 answers; each look sees (refused, of), the last one for ever."""
    deployments.deploy(context, "churn", "1", SETTINGS)
    left = list(looks)

    def look():
        refused, of = left.pop(0) if len(left) > 1 else left[0]
        past = Counted(0, 300)
        seen = Evidence(Counted(0, of), past, Counted(0, of), past, past=True, not_compared="not here")
        return judge(replace(seen, refused=Counted(refused, of), champion_refused=past), SETTINGS.limits)

    watched = replace(context, judge=lambda *_: look)
    settings = SETTINGS.model_copy(update={"hold_s": hold_s})
    return deployments.deploy(watched, "churn", "2", settings)


def live(context):
    return route_file.read(context.home, "churn").live.version


def test_four_of_four_refused_requests_undo_the_rollout(lived):
    """Few requests that prove a failure give the champion all traffic back."""
    world, context = lived
    with pytest.raises(RolloutError, match="100.00% of 4 requests were refused, 0.00% of the champion's 300: over"):
        deploy_seeing(context, (4, 4))
    assert (live(context), world.promoted) == ("1", "1")


def test_a_suspicion_holds_the_last_bake_until_it_is_proven(lived):
    """Refusals that are not yet proven hold the last bake, and the proof undoes the rollout."""
    _, context = lived
    with pytest.raises(RolloutError, match="100.00% of 6 requests were refused"):
        deploy_seeing(context, (2, 2), (3, 3), (6, 6))
    (held,) = context.ledger.events(RolloutHolding)
    assert "2 of 2 requests were refused, 0.00% of the champion's 300: over the limit of 0.05" in held.event.reason
    assert live(context) == "1"


def test_a_suspicion_that_dissolves_lets_the_version_go_live(lived):
    """One refused request among many accepted ones keeps no version back."""
    _, context = lived
    deploy_seeing(context, (1, 1), (1, 9), (1, 40))
    assert live(context) == "2"


def test_a_suspicion_that_stays_until_the_deadline_goes_back_when_it_is_improbable(lived):
    """At hold_s a version goes back when an equal one would hardly show its refusals, and goes live with a warning otherwise."""
    _, context = lived
    with pytest.raises(RolloutError, match="goes back to the champion: 3 requests, at least 100 required; 3 of 3"):
        deploy_seeing(context, (3, 3), hold_s=0.05)
    assert live(context) == "1"


def test_a_single_refused_request_goes_live_with_a_warning(lived, caplog):
    """A single refused request may be its client's fault: the version goes live at hold_s, and log and ledger say why."""
    _, context = lived
    with caplog.at_level(logging.WARNING, "pipeline"):
        deploy_seeing(context, (1, 1), hold_s=0.05)
    assert live(context) == "2"
    assert "version 2 of churn at 100 % goes on: 1 of 1 requests were refused" in caplog.text
    assert "1 of 1 requests were refused" in context.ledger.events(Baked)[-1].event.reason
