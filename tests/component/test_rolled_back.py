"""A version that was pulled by a rollback: it gets no request any more, and no rollback brings it back."""

from __future__ import annotations

import pytest

from pipeline.errors import RolloutError
from pipeline.ledger.rollout_events import RolledBack
from pipeline.registry.packages import package_digest
from pipeline.rollout import rollback
from pipeline.rollout.routing import route_file
from tests.support.accidents import agreed, deploy, reconcile
from tests.support.world import SETTINGS


def back(context):
    return rollback.rollback(context, "churn", SETTINGS)


def test_a_second_rollback_goes_on_to_the_one_before(lived):
    """Each rollback goes one version further back, and the last one refuses with the command that goes forward."""
    world, context = lived
    for version in ("1", "2", "3"):
        deploy(context, version)
    assert (back(context).version, agreed(world, context)) == ("2", "2")
    assert (back(context).version, agreed(world, context)) == ("1", "1")
    with pytest.raises(RolloutError) as refused:
        back(context)
    assert str(refused.value) == (
        "model churn: has no predecessor to go back to: version 1 is live, and versions 3, 2 were rolled back before; "
        "to bring version 2 live all the same: `perennial deploy churn 2`"
    )
    assert agreed(world, context) == "1"


def test_a_version_that_is_deployed_after_a_rollback_goes_back_to_what_was_live_before_it(lived):
    """Rollback, deploy of a new version, rollback: the version that was pulled first stays away."""
    world, context = lived
    deploy(context, "1")
    deploy(context, "2")
    back(context)
    deploy(context, "3")
    assert (back(context).version, agreed(world, context)) == ("1", "1")
    with pytest.raises(RolloutError, match="versions 2, 3 were rolled back before"):
        back(context)


def test_a_version_that_is_deployed_again_by_its_number_counts_again(lived):
    """A pulled version that a person deploys again is live, and is gone back to again."""
    world, context = lived
    deploy(context, "1")
    deploy(context, "2")
    back(context)
    deploy(context, "2")
    deploy(context, "3")
    assert (back(context).version, agreed(world, context)) == ("2", "2")


def test_a_version_that_was_pulled_answers_nobody_when_the_live_slot_dies(lived):
    """After a rollback the pulled version is no failover, and its slot is ended."""
    world, context = lived
    deploy(context, "1")
    deploy(context, "2")
    back(context)
    assert route_file.read(context.home, "churn").previous is None
    assert set(world.running) == {"blue"}
    world.running.clear()
    assert world.routed("churn") is None
    reconcile(context)
    assert agreed(world, context) == "1"


def test_a_slot_that_cannot_be_ended_does_not_undo_a_rollback(lived, monkeypatch, caplog):
    """A rollback whose old slot cannot be ended is done; reconcile ends the slot."""
    world, context = lived
    deploy(context, "1")
    deploy(context, "2")
    with monkeypatch.context() as during:
        during.setattr(world, "stop", lambda *_: (_ for _ in ()).throw(OSError("the engine is away")))
        assert back(context).version == "1"
    assert "version 2 still runs (the engine is away); `reconcile` ends it" in caplog.text
    assert reconcile(context) == ["churn green: ended version 2, which no route names"]
    assert agreed(world, context) == "1"


def test_a_rollback_asks_for_the_package_that_was_live_not_for_its_number(lived, monkeypatch):
    """The predecessor is started from the package with the digest that the ledger has for it."""
    world, context = lived
    for version in ("1", "2", "3"):
        deploy(context, version)
    before = package_digest(world.package("1"))
    back(context)
    asked, package = [], world.deployable_package
    monkeypatch.setattr(world, "deployable_package", lambda *at: asked.append(at) or package(*at))
    assert back(context).version == "1"
    assert ("churn", "1", before) in asked
    left = context.ledger.events(RolledBack, model="churn")[-1].event
    assert (left.digest, left.left, left.left_digest) == (before, "2", package_digest(world.package("2")))
