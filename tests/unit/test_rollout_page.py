"""The page of a rollout: what goes on, who gets which share, the figures so far, and the end."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from pipeline.context import Context
from pipeline.errors import RolloutError, SettingsError
from pipeline.ledger.rollout_events import (
    AbortAsked,
    Baked,
    EvidenceNeeded,
    RollbackStarted,
    RolledBack,
    RolloutEnded,
    RolloutFailed,
    RolloutHolding,
    RolloutStarted,
    RouteMoved,
    ShadowEnded,
    SlotReady,
    StepBaked,
    Undeployed,
    UndeployStarted,
)
from pipeline.pages import rollout
from pipeline.policy.canary import Judgement, Look
from pipeline.rollout.newest_look import Noting
from pipeline.settings.rollout import Rollout

NOW = datetime(2024, 3, 20, 12, tzinfo=UTC)
LOOK = Look("churn", 0.1, 0.0, 0.4, 0.2, 9, "hold", "0.1 of the same 9 rows changed sides")
SETTINGS = Rollout(strategy="linear", linear_percent=40).model_dump(mode="json")


@pytest.fixture
def context(project, ledger):
    """Version 1 of churn is live."""
    ledger.append(RolloutEnded(version="1", slot="blue", digest="d1"), "churn")
    environment = SimpleNamespace(project=project, home=project, params_read=None, deployer="", server_mode=False)
    return Context(environment, ledger, lambda: NOW)


def told(context, *events):
    """The page's state after these events, and the number of the first."""
    seqs = [context.ledger.append(event, "churn", "run/1").seq for event in events]
    return rollout.state(context, "churn"), seqs[0]


def shares(state):
    return [(share["version"], share["percent"], share["role"]) for share in state["shares"]]


def steps(state):
    return [(step["name"], step["at"]) for step in state["steps"]]


BEGIN = RolloutStarted(version="2", slot="green", strategy="linear", before="1", reason="drift", asked_by="anna")
READY = SlotReady(version="2", slot="green", settings=SETTINGS)


def test_it_says_how_far_a_rollout_is(context):
    """Its steps, who gets which share now, what the step needs and why it holds, from its begin to its end."""
    state, _ = told(context, BEGIN)
    assert (state["going_on"], state["version"], state["before"], state["asked_by"]) == (True, "2", "1", "anna")
    assert (shares(state), steps(state)[0][1]) == ([("1", 100, "live")], "now")
    needs = EvidenceNeeded(version="2", step="at 40 %", text="needs 100 requests")
    state, _ = told(
        context, READY, needs, RouteMoved(to="2", percent=40), RolloutHolding(version="2", percent=40, reason="few")
    )
    assert shares(state) == [("1", 60, "live"), ("2", 40, "candidate")]
    assert [at for _, at in steps(state)] == ["done", "now", "ahead", "ahead"]
    assert (state["waits_for"], state["needs"]) == ("few", "version 2 at 40 % needs 100 requests")
    state, _ = told(
        context, StepBaked(version="2", percent=40, verdict="promote", reason="fine", looks=[LOOK.as_dict()])
    )
    assert (state["verdict"], state["figures"]) == ("promote", [LOOK.as_dict()])
    state, _ = told(context, RouteMoved(to="2", percent=80), StepBaked(version="2", percent=80), RouteMoved(to="2"))
    assert (shares(state), state["waits_for"]) == ([("1", 0, "live"), ("2", 100, "candidate")], "")
    state, _ = told(context, Baked(version="2"), RolloutEnded(version="2", slot="green", digest="d2"))
    assert (state["going_on"], state["went_live"], shares(state)) == (False, True, [("2", 100, "live")])
    assert {at for _, at in steps(state)} == {"done"}


def test_a_hold_of_a_night_hides_nothing(context):
    """It is told twice a minute; begin and steps are found all the same."""
    told(context, BEGIN, READY, RouteMoved(to="2", percent=40))
    held = [RolloutHolding(version="2", percent=40, reason=f"look {i}") for i in range(rollout.NEWEST + 10)]
    context.ledger.append_all(held, "churn")
    state = rollout.state(context, "churn")
    assert (state["going_on"], state["waits_for"], shares(state)[1]) == (True, held[-1].reason, ("2", 40, "candidate"))
    assert [at for _, at in steps(state)] == ["done", "now", "ahead", "ahead"]
    assert state["events"][0]["kind"] == "rollout_started" and len(state["events"]) == rollout.SHOWN + 1


def test_the_figures_are_those_of_the_newest_look_at_this_rollout(context):
    """A look at an older rollout is not shown; of one that has ended the ledger has them."""
    _, begun = told(context, BEGIN)
    Noting(context.home, "churn", begun - 1, "9", 10).note(Judgement("abort", "an older one", (LOOK,)))
    assert rollout.state(context, "churn")["figures"] == []
    Noting(context.home, "churn", begun, "2", 40).note(Judgement("hold", "few", (LOOK,)))
    state = rollout.state(context, "churn")
    assert (state["verdict"], state["why"], state["figures"]) == ("hold", "few", [LOOK.as_dict()])


def test_a_deployer_that_is_away_takes_the_figures_alone(context, monkeypatch):
    """The page says so, and shows what the ledger has."""
    told(context, BEGIN)

    class Away:
        def newest_look(self, model):
            raise RolloutError("deployer", "does not tell", "is it up?")

    monkeypatch.setattr(rollout, "traffic", lambda context: Away())
    state = rollout.state(context, "churn")
    assert (state["unseen"], shares(state)) == ("deployer: does not tell; is it up?", [("1", 100, "live")])


def test_after_it_was_called_back_the_page_says_who_and_what_came(context):
    """The champion has all traffic again, and the steps that were left are never taken."""
    asked = AbortAsked(reason="it harms", asked_by="bea", version="2")
    state, _ = told(context, BEGIN, READY, RouteMoved(to="2", percent=40), asked)
    assert (state["going_on"], state["called_back"]["by"], state["called_back"]["reason"]) == (True, "bea", "it harms")
    failed = RolloutFailed(version="2", error="was called back by hand")
    state, _ = told(context, RouteMoved(to="1"), failed)
    assert (state["going_on"], state["went_live"], shares(state)) == (False, False, [("1", 100, "live")])
    assert state["outcome"] == "version 2 did not go live: was called back by hand"
    assert [at for _, at in steps(state)] == ["done", "never", "never", "never"]


@pytest.mark.parametrize(
    ("begin", "during", "end", "left", "live"),
    [
        (
            RollbackStarted(version="1", slot="blue", left="2"),
            [("1", 100, "live")],
            RolledBack(version="1", slot="blue", left="2"),
            "2",
            ["1"],
        ),
        (UndeployStarted(version="1"), [("1", 100, "live")], Undeployed(version="1"), "1", []),
    ],
)
def test_a_rollback_and_an_undeploy_are_shown_and_have_no_steps(context, begin, during, end, left, live):
    """What is left is named, and afterwards what is live."""
    state, _ = told(context, begin, RouteMoved(to="1"))
    assert (state["version"], steps(state), shares(state)[-1:][0][0]) == (left, [], "1")
    state, _ = told(context, end)
    assert [share[0] for share in shares(state)] == live


def test_a_shadow_gets_copies(context):
    """Its lane says copies, and the champion keeps all traffic; nothing goes live at its end."""
    begin = RolloutStarted(version="2", slot="green", strategy="shadow", before="1")
    state, _ = told(context, begin, READY, RouteMoved(to="2", percent=50, mirror=True))
    assert [(s["version"], s["percent"], s["mirror"]) for s in state["shares"]] == [("1", 100, False), ("2", 50, True)]
    state, _ = told(context, ShadowEnded(version="2", verdict="hold", reason="few", champion="1"))
    assert (shares(state), state["went_live"]) == ([("1", 100, "live")], False)


def test_the_page_of_all_has_what_goes_on_first(context):
    """A model whose newest event of a rollout is its begin is going on; of the others the last end is shown."""
    context.ledger.append(RolloutEnded(version="4", slot="blue"), "loyal")
    told(context, BEGIN)
    found = [(line["model"], line["going_on"], line["kind"]) for line in rollout.table(context).rows]
    assert found == [("churn", True, "rollout"), ("loyal", False, "rollout_ended")]
    assert 'href="rollout/churn"' in rollout.rollouts_page(context)


def test_only_who_may_act_gets_the_button(context):
    """What people wrote is text on the page; an unknown model has none, and one without a rollout says so."""
    told(context, RolloutStarted(version="2", before="1", reason="</script><b>bold</b>"))
    page, seen = (rollout.rollout_page(context, "churn", may_act) for may_act in (True, False))
    assert "Call it back</button>" in page and "Call it back</button>" not in seen
    assert "</script><b>" not in page
    embedded = page.partition('type="application/json">')[2].partition("</script>")[0]
    assert json.loads(embedded)["reason"] == "</script><b>bold</b>"
    with pytest.raises(SettingsError, match="model nobody: is not known"):
        rollout.rollout_page(context, "nobody", True)


def test_it_says_that_nobody_carries_it_out_any_more(context):
    """A rollout whose process has ended waits for `reconcile`, and the page says so."""
    from pipeline.ledger import lease

    with lease.held(context.ledger, "churn"):
        state, _ = told(context, BEGIN)
        assert state["cut_off"] == ""
    lease.take(context.ledger, "churn", "process 1 from 1 on here (gone)")
    with context.ledger.writing() as connection:
        connection.execute(lease.LEASES.update().values(until=0.0))
    assert "`perennial reconcile churn`" in rollout.state(context, "churn")["cut_off"]
