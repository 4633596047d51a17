"""A run that comes late to its rollout: it replaces no version that it was not compared with. Rollouts in the world in memory."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.errors import RolloutError
from pipeline.ledger.events import GatesChecked, RunOpened, StepEnded, VersionRegistered
from pipeline.ledger.rollout_events import RolloutStarted
from pipeline.ledger.timeline import timeline
from pipeline.rollout import rollback, undeploy
from pipeline.rollout.routing import route_file
from pipeline.runs.settle import _outcome
from tests.support.accidents import agreed, deploy, kill_at, reconcile
from tests.support.world import SETTINGS


def ready(context, run: str, version: str, as_of: str = "2024-03-01T00:00:00+00:00"):
    """The context of a run whose gates have just passed and whose version is registered."""
    ledger = context.ledger
    ledger.append(RunOpened(as_of=as_of, reason="a test"), "churn", run)
    ledger.append(GatesChecked(verdicts=[]), "churn", run)
    registered = VersionRegistered(version=version, mlflow_run="m", data_version="d", as_of=as_of, alias="challenger")
    ledger.append(registered, "churn", run)
    return replace(context, run=run)


def test_a_run_that_is_cleared_after_another_went_live_is_refused(lived):
    """The roll_out of an older run, done again alone, does not put version 1 over version 2."""
    world, context = lived
    one = ready(context, "run/1", "1")
    deploy(one, "1")
    deploy(ready(context, "run/2", "2"), "2")
    with pytest.raises(RolloutError) as refused:
        deploy(one, "1")
    assert str(refused.value) == (
        "version 1 of churn: was not compared with what is live: version 2 went live after this run's gates were checked; start a "
        "new run, or clear this one from its first task on; to bring it live all the same: `perennial deploy churn 1`"
    )
    assert agreed(world, context) == "2"


def test_a_run_with_an_older_as_of_replaces_no_younger_version(lived):
    """A run that is cleared from its first task on has new gates, and is still as of a day before the live version's."""
    world, context = lived
    deploy(ready(context, "run/2", "2", "2024-03-08T00:00:00+00:00"), "2")
    with pytest.raises(
        RolloutError, match="is as of 2024-03-01.*version 2, which is live, is younger: as of 2024-03-08"
    ):
        deploy(ready(context, "run/1", "1", "2024-03-01T00:00:00+00:00"), "1")
    assert agreed(world, context) == "2"
    # The same moment in another zone is not younger.
    deploy(ready(context, "run/3", "3", "2024-03-08T02:00:00+02:00"), "3")
    assert agreed(world, context) == "3"


def test_what_a_person_deployed_a_second_before_stays(lived):
    """A person's version, with no run and no as-of that the ledger knows, went live after the run's gates: the run is refused."""
    world, context = lived
    deploy(context, "1")
    run = ready(context, "run/2", "2")
    deploy(context, "3")
    with pytest.raises(RolloutError, match="version 3 went live after this run's gates"):
        deploy(run, "2")
    assert agreed(world, context) == "3"


def test_a_run_brings_back_nothing_that_a_person_pulled_or_took_off(lived):
    """After a rollback and after an undeploy a cleared run is refused too; a new run goes live."""
    world, context = lived
    deploy(context, "1")
    run = ready(context, "run/2", "2")
    deploy(run, "2")
    rollback.rollback(context, "churn", SETTINGS, "it harms")
    with pytest.raises(RolloutError, match="version 1 went live after this run's gates"):
        deploy(run, "2")
    assert agreed(world, context) == "1"
    run = ready(context, "run/3", "3")
    undeploy.undeploy(context, "churn", 0, "not wanted")
    with pytest.raises(RolloutError, match="churn was undeployed after this run's gates were checked"):
        deploy(run, "3")
    assert route_file.read(context.home, "churn") is None
    deploy(ready(context, "run/4", "3"), "3")
    assert agreed(world, context) == "3"


def test_a_run_goes_on_after_its_own_rollout_was_cut_off_or_failed(lived):
    """What gave the traffic back to the same live version is no change: the run's next try is let in, also after a reconcile."""
    world, context = lived
    deploy(context, "1")
    run = ready(context, "run/2", "2")
    kill_at("after move route", lambda: deploy(run, "2"))
    reconcile(context)
    deploy(run, "2")
    assert agreed(world, context) == "2"
    deploy(run, "2")
    assert agreed(world, context) == "2"


def test_a_shadow_may_come_late(lived):
    """A shadow replaces nothing, so that it needs no newer gates."""
    world, context = lived
    deploy(context, "1")
    run = ready(context, "run/2", "2")
    deploy(context, "3")
    deploy(run, "2", strategy="shadow")
    assert agreed(world, context) == "3"


def test_a_person_may_and_the_ledger_says_who(lived):
    """By name any registered version goes live, a rollback and an undeploy too, and the timeline names the person."""
    world, context = lived
    deploy(ready(context, "run/2", "2", "2024-03-08T00:00:00+00:00"), "2")
    person = replace(context, asked_by="anna")
    ready(context, "run/1", "1", "2024-03-01T00:00:00+00:00")
    deploy(person, "1")
    assert agreed(world, context) == "1"
    assert context.ledger.events(RolloutStarted)[-1].event.asked_by == "anna"
    rollback.rollback(person, "churn", SETTINGS, "it harms")
    undeploy.undeploy(person, "churn", 0, "not wanted")
    said = [event.what for event in timeline(context.ledger, "churn") if "anna" in event.what]
    assert said == [
        "rollout of version 1 begins, all-at-once: by hand, asked by anna",
        "rollback from version 1 to version 2 begins: it harms, asked by anna",
        "undeploy of version 2 begins: not wanted, asked by anna",
    ]


def test_a_refused_roll_out_does_not_settle_as_live(lived):
    """The outcome of a run whose second roll_out was refused is that, and not that its version went live the first time."""
    world, context = lived
    run = ready(context, "run/1", "1")
    deploy(run, "1")
    assert _outcome(context.ledger.events(run="run/1")) == "version 1 went live"
    deploy(context, "2")
    with pytest.raises(RolloutError) as refused:
        deploy(run, "1")
    failed = StepEnded(state="failed", wall_s=1, cpu_s=1, peak_mb=1, error=str(refused.value))
    context.ledger.append(failed, "churn", "run/1", "roll_out")
    outcome = _outcome(context.ledger.events(run="run/1"))
    assert outcome.startswith(
        "version 1 was registered as challenger, not rolled out: version 1 of churn: was not compared"
    )
