"""The stop button: who froze a model, until when, and what a run that began by itself does then."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from harness.project import change_params
from pipeline.context import Context
from pipeline.errors import SettingsError
from pipeline.runs.freeze import freeze, frozen, unfreeze
from pipeline.settings.environment import Environment
from tests.support.ledger import ledger_of

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)


@pytest.fixture
def context(project):
    environment = Environment.read().at(project, project / "home")
    return Context(environment, ledger_of(project / "home"), clock=lambda: NOW, asked_by="ann")


def later(context, days):
    return replace(context, clock=lambda: NOW + timedelta(days=days))


def test_a_frozen_model_is_frozen_until_somebody_ends_it(context):
    """The sentence names the person and the reason, another model is not frozen, and the end is an event too."""
    assert frozen(context, "churn") == ""
    assert freeze(context, "r", "churn", "Black Friday") == "frozen by ann: Black Friday"
    assert frozen(later(context, 400), "churn") == "frozen by ann: Black Friday"
    assert frozen(context, "other") == ""
    assert unfreeze(context, "r", "churn", "it is over") == "no longer frozen, by ann: it is over"
    assert frozen(context, "churn") == ""


def test_a_freeze_ends_by_itself_at_its_until(context):
    """Until then it is frozen, and from then on not; an `until` that is over is refused."""
    freeze(context, "r", "churn", "a move", NOW + timedelta(days=2))
    assert frozen(later(context, 1.99), "churn").startswith("frozen until 2026-12-01")
    assert frozen(later(context, 2), "churn") == ""
    with pytest.raises(SettingsError, match="freeze churn: until 2026-11-29 12:00 is over at once; name a later time"):
        freeze(context, "r", "churn", "a move", NOW)


def test_what_is_not_frozen_cannot_be_unfrozen(context):
    """The refusal says so, and writes no event."""
    with pytest.raises(SettingsError, match="model churn: is not frozen"):
        unfreeze(context, "r", "churn", "over")
    assert context.ledger.events() == []


def test_the_calendar_of_the_block_freezes_its_span(context, project):
    """Inside of a span the line names the key and the reason, nobody can end it by hand, and outside of it the model is free."""
    span = {"start": "2026-11-27T00:00:00Z", "end": "2026-12-01T00:00:00Z", "reason": "the sales"}
    change_params(project, "models.churn.policy", {"frozen": [span]})
    now = replace(context)
    assert frozen(now, "churn") == "frozen until 2026-12-01 00:00 by models.churn.policy.frozen: the sales"
    with pytest.raises(
        SettingsError, match="is still frozen until .*; change models.churn.policy.frozen in params.yaml"
    ):
        unfreeze(now, "r", "churn", "over")
    assert [frozen(later(context, days), "churn") for days in (-3, 2)] == ["", ""]


def test_a_span_that_ends_before_its_start_is_refused(context, project):
    """The fault names the key."""
    change_params(project, "models.churn.policy", {"frozen": [{"start": "2026-12-01", "end": "2026-11-01"}]})
    with pytest.raises(SettingsError, match=r"models.churn.policy.frozen.0: end: 2026-11-01 00:00 is not after start"):
        context.params.model("churn")
