"""Before a step begins, the log and the timeline say which evidence it will need."""

from __future__ import annotations

import logging

import pytest

from pipeline.context import Context
from pipeline.deployer.model_status import LiveStatus, ModelStatus
from pipeline.ledger.timeline import timeline
from pipeline.pages import newest_status, overview
from pipeline.rollout import deploy as deployments
from pipeline.rollout import logged_requests
from pipeline.rollout.logged_requests import Traffic
from tests.support.world import SETTINGS


def deploy(context, strategy, **settings):
    deployments.deploy(context, "churn", "1", SETTINGS)
    began = context.ledger.events()[-1].seq
    deployments.deploy(context, "churn", "2", SETTINGS.model_copy(update=settings), strategy=strategy)
    return context.ledger.events(model="churn", after=began)


@pytest.mark.parametrize(("strategy", "steps"), [("canary", 2), ("linear", 4), ("shadow", 1), ("all-at-once", 1)])
def test_each_step_says_what_it_needs_before_it_begins(lived, strategy, steps):
    """The evidence is announced once for each step, before the route moves to it."""
    _, context = lived
    kinds = [entry.kind for entry in deploy(context, strategy)]
    moves = [i for i, kind in enumerate(kinds) if kind == "evidence_needed"]
    assert len(moves) == steps
    assert all(kinds[i + 1] == "route_moving" for i in moves)


def test_with_too_little_traffic_the_line_says_what_will_happen_and_what_changes_it(lived, monkeypatch, caplog):
    """The line has the figures, the time at today's traffic, how the step will end, and the keys that change that."""
    _, context = lived
    caplog.set_level(logging.INFO, "pipeline")
    monkeypatch.setattr(logged_requests, "traffic", lambda *_: Traffic(312, 312, 24.0))
    limits = SETTINGS.limits.model_copy(update={"p99_ms": None})
    first, last = [e.event for e in deploy(context, "canary", limits=limits) if e.kind == "evidence_needed"]
    assert first.sentence() in caplog.text
    assert first.sentence() in [line.what for line in timeline(context.ledger, "churn")]
    assert "version 2 at 10 % needs at least 1,408 requests to the candidate" in first.sentence()
    assert "14,080 of the model; the 312 requests of the last 24 h make that 45.1 d, so it will" in first.sentence()
    assert "end after 15 min without a proof, and gives all traffic back to the champion" in first.sentence()
    for key in (
        "rollout.hold_s",
        "rollout.canary_percent",
        "rollout.limits, or null for off (error_rate, ",
        "min_requests",
        "strategy replay",
    ):
        assert key in first.sentence()
    assert first.sentence().endswith("; off: p99_ms")
    assert (first.off, first.requests, first.traffic_requests) == (["p99_ms"], 1408, 312)
    assert "p99_ms" not in first.figures
    assert "it needs no proof to go live" in last.sentence()


def test_with_enough_traffic_nothing_is_foretold(lived, monkeypatch):
    """A step for which the traffic is enough says only what it needs and the time."""
    _, context = lived
    monkeypatch.setattr(logged_requests, "traffic", lambda *_: Traffic(3_600_000, 3_600_000, 1.0))
    first, _ = [e.event for e in deploy(context, "canary") if e.kind == "evidence_needed"]
    assert first.sentence().endswith("the 3,600,000 requests of the last 60 min make that 14 s")


def test_a_log_that_cannot_be_read_holds_up_no_rollout(lived, monkeypatch):
    """When today's traffic cannot be read, that is said, and the rollout goes on."""
    _, context = lived

    def unreadable(*_):
        raise OSError("no such disk")

    monkeypatch.setattr(logged_requests, "traffic", unreadable)
    first, _ = [e.event for e in deploy(context, "canary") if e.kind == "evidence_needed"]
    assert first.sentence().endswith("today's traffic is not known (no such disk)")
    assert first.traffic_requests is None


def test_the_page_shows_what_a_step_needs_and_which_limits_are_off(project):
    """The overview page has what the step that is going on needs, and the limits that are off."""
    live = LiveStatus("1", "blue", "2026-01-02T03:04:05.678Z", answers=True, ledger_agrees=True)
    told = {"limits_off": ("p99_ms",), "evidence": "a proof takes at least 1,424 requests"}
    status = ModelStatus("churn", "", "", live, **told)
    context = Context.here()
    seen = overview.facts(context, newest_status.begin(context))
    page = overview.shown({**seen, "models": [{**status.as_dict(), "drift": None}]})
    assert "A proof takes at least 1,424 requests" in page
    assert "Limits of a rollout that are off: p99_ms." in page
