"""After an update of the server a version comes back from the very image that was approved with it, or not at all; what is live stays."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.errors import RolloutError
from pipeline.ledger.approval_events import (
    ApprovalAsked,
    Approved,
    DeployRefused,
    OtherImage,
    Rejected,
    SettingsChanged,
)
from pipeline.ledger.rollout_events import RolloutStarted, SlotReady
from pipeline.registry.packages import package_digest
from pipeline.rollout import recovery, rollback, slot_deaths
from pipeline.rollout.recorded import as_recorded
from pipeline.rollout.routing import route_file
from pipeline.runs.audit import audit
from pipeline.settings.environment import Environment
from pipeline.settings.rollout import Serving
from tests.support.accidents import agreed, deploy, reconcile
from tests.support.world import SETTINGS

BEFORE, NOW = "sha256:" + "b" * 64, "sha256:" + "e" * 64
GONE = (
    "version 1 of churn: changed since bob approved it: image: what serves has digest sha256:eeeeeeeeeeee, but "
    "sha256:bbbbbbbbbbbb was approved, and the world engine does not have that one; look at who changed it; "
    "`perennial approve churn 1 --ask` asks for what is there now"
)


@pytest.fixture
def updated(lived):
    """Version 2 live and 1 warm, both approved with the image of before; since then another one serves."""
    world, context = lived
    for version in ("1", "2"):
        deploy(context, version)
        parts = {"package": package_digest(world.package(version)), "image": BEFORE}
        context.ledger.append(Approved(version=version, digest="d", parts=parts, by="bob"), "churn")
    world.started_from.clear()
    return world, replace(context, approval={"churn": ()}, image_digest=lambda runtime: NOW)


def back(context):
    return rollback.rollback(context, "churn", SETTINGS)


def died(world):
    world.running.clear()


def test_a_warm_predecessor_takes_the_traffic_and_nothing_starts(updated):
    """Within the keep time a rollback asks nobody: the slot runs on the image with which it was approved."""
    world, context = updated
    assert (back(context).version, world.started_from, agreed(world, context)) == ("1", [], "1")


def test_a_cold_predecessor_starts_from_the_image_that_was_approved(updated):
    """Where the engine has kept the approved image, a way back starts from it and needs no new approval."""
    world, context = updated
    world.images = {BEFORE}
    world.stop("churn", "blue", 0)
    assert (back(context).version, world.started_from, agreed(world, context)) == ("1", [BEFORE], "1")
    assert context.ledger.events(DeployRefused, OtherImage) == []


@pytest.mark.parametrize("go_back", [back, lambda c: rollback.replace(c, "churn", SETTINGS, "worse", "2", "1")])
def test_where_that_image_is_gone_a_way_back_is_refused_and_what_is_live_stays(updated, go_back):
    """A person's rollback and the watch's name the image and the next step, and the refusal is in the audit."""
    world, context = updated
    world.stop("churn", "blue", 0)
    with pytest.raises(RolloutError) as error:
        go_back(context)
    assert str(error.value) == GONE
    assert (world.started_from, list(world.running), world.routed("churn")["x-model-version"]) == ([], ["green"], "2")
    (line,) = [line for line in audit(context.ledger, "churn") if "was not deployed" in line.what]
    assert line.evidence["changed"][0].startswith("image: what serves has digest")


def test_what_is_live_goes_on_by_the_image_of_now_and_the_audit_says_so(updated):
    """A restart of what is live is no release; its predecessor, which a rollback would give traffic, is not started so."""
    world, context = updated
    died(world)
    lines = reconcile(context)
    assert world.started_from == [""] and route_file.read(context.home, "churn").previous is None
    assert any("version 1 is no longer warm" in line and "--ask" in line for line in lines)
    (line,) = [line for line in audit(context.ledger, "churn") if "runs in" in line.what]
    assert line.what == (
        "version 2, which is live, runs in green by image sha256:eeeeeeeeeeee, and sha256:bbbbbbbbbbbb was approved: "
        "the world engine does not have that one"
    )
    assert (line.kind, line.evidence["approved_image"], line.evidence["image"]) == ("rollout", BEFORE, NOW)


def test_where_the_image_is_kept_a_restart_changes_nothing(updated):
    """What is live and its predecessor start again from the image that was approved, and nothing is noted."""
    world, context = updated
    world.images = {BEFORE}
    died(world)
    reconcile(context)
    assert world.started_from == [BEFORE, BEFORE] and agreed(world, context) == "2"
    assert context.ledger.events(OtherImage, DeployRefused) == []


def test_what_is_live_goes_on_though_the_approved_image_does_not_start(updated, monkeypatch):
    """An old server that cannot start with the settings of today does not keep what is live from its users."""
    world, context = updated
    world.images = {BEFORE}
    died(world)
    start = world.start

    def old_fails(spec):
        if spec.image:
            raise RolloutError("slot churn green", "did not get ready", "look at it")
        return start(spec)

    monkeypatch.setattr(world, "start", old_fails)
    reconcile(context)
    assert world.routed("churn")["x-model-version"] == "2"
    (entry,) = context.ledger.events(OtherImage)
    assert "did not start by that one (slot churn green: did not get ready" in entry.event.why


def test_changed_settings_reach_what_is_live_and_end_no_predecessor_that_cannot_start_again(updated):
    """Changed `rollout.serving` restarts what is live; a rollback that would need the warm predecessor anew is refused before it is ended."""
    world, context = updated
    changed = SETTINGS.model_copy(update={"serving": Serving(max_rows=7)})
    with pytest.raises(RolloutError) as error:
        rollback.rollback(context, "churn", changed)
    assert str(error.value) == GONE and set(world.running) == {"blue", "green"}
    lines = recovery.reconcile(context, {"churn": changed})
    assert any("version 2 runs with the changed rollout.serving" in line for line in lines)
    assert any("version 1 is no longer warm" in line for line in lines)
    assert world.routed("churn")["x-model-version"] == "2" and len(context.ledger.events(OtherImage)) == 1


def test_a_predecessor_that_cannot_start_again_does_not_go_on_with_settings_that_were_changed(updated):
    """A reconcile ends it and says so: it may accept a key that was revoked, and an error would keep all from being reconciled."""
    world, context = updated
    ready = context.ledger.events(SlotReady, model="churn")
    (first,) = [entry.event for entry in ready if entry.event.version == "1"]
    earlier = as_recorded(SETTINGS.model_copy(update={"serving": Serving(max_rows=7)}))
    context.ledger.append(replace(first, settings=earlier), "churn")
    (line,) = reconcile(context)
    assert "version 1 is no longer warm (version 1 of churn: changed since bob approved it: image: " in line
    assert set(world.running) == {"green"} and agreed(world, context) == "2"


def test_a_process_that_died_comes_back_by_the_code_of_now_and_the_ledger_says_so(updated):
    """The keeper of process slots asks nobody: its note tells that the code is another, and such a predecessor is warm no more for a rollback."""
    world, context = updated
    ledger = context.ledger
    environment = Environment.read().at(Environment.read().project, context.home)
    assert environment.ledger_url == ledger.url
    death = slot_deaths.Death("churn", "green", "2", "process", "killed", "", 1)
    slot_deaths.note(environment, [death, replace(death, slot="blue", version="1"), replace(death, slot="red")])
    noted = [entry.event for entry in ledger.events(OtherImage)]
    assert [(e.version, e.approved, "which is warm" in e.sentence()) for e in noted] == [
        ("2", BEFORE, False),
        ("1", BEFORE, True),
    ]
    with pytest.raises(RolloutError) as error:
        back(context)
    assert str(error.value) == GONE and world.routed("churn")["x-model-version"] == "2"
    world.images = {BEFORE}
    assert (back(context).version, world.started_from) == ("1", [BEFORE])


@pytest.mark.parametrize(
    "named, decided, why",
    [
        ((), Rejected(version="1", by="cid", reason="unfair"), "was rejected by cid: unfair"),
        (("cid",), None, "was approved by bob, who is not in models.churn.approval_by (cid)"),
    ],
)
def test_what_people_would_not_let_live_any_more_is_not_started_by_a_way_back(updated, named, decided, why):
    """A rejection after the approval, and a name that is taken off the list, count at a rollback too; a slot that still runs takes over."""
    world, context = updated
    world.images, context = {BEFORE}, replace(context, approval={"churn": named})
    if decided is not None:
        context.ledger.append(decided, "churn")
    world.stop("churn", "blue", 0)
    with pytest.raises(RolloutError) as error:
        back(context)
    assert str(error.value) == f"version 1 of churn: {why}; `perennial approve churn 1 --ask` asks again"
    assert (world.started_from, world.routed("churn")["x-model-version"]) == ([], "2")


def test_a_block_that_cannot_be_read_opens_no_way_back(updated):
    """A slip in any key of the block: what a person has rejected is refused by the rule with which the model was last used."""
    world, context = updated
    required = {"approval": "required", "approval_by": ["bob"]}
    context.ledger.append(SettingsChanged(digest="d", settings=required), "churn")
    context.ledger.append(Rejected(version="1", by="cid", reason="unfair"), "churn")
    world.images, context = {BEFORE}, replace(context, approval={}, columns={})
    world.stop("churn", "blue", 0)
    with pytest.raises(RolloutError, match="version 1 of churn: was rejected by cid: unfair"):
        back(context)
    readable = replace(context, columns={"churn": frozenset({"spend"})})
    assert (context.approvers("churn"), readable.approvers("churn")) == (("bob",), None)


@pytest.mark.parametrize("said", [ApprovalAsked(version="1", digest="d"), Rejected(version="1", through="time")])
def test_a_question_that_nobody_answered_closes_no_way_back(updated, said):
    """To ask anew about a version that was live ends no approval for a way back: only a person does."""
    world, context = updated
    world.images = {BEFORE}
    context.ledger.append(said, "churn")
    world.stop("churn", "blue", 0)
    assert back(context).version == "1"


def test_what_nobody_asks_for_is_refused_once(updated):
    """Each reconcile tries to bring a predecessor back that made room for a rollout in vain; the audit has one line of it."""
    world, context = updated
    context.ledger.append(
        RolloutStarted(version="3", slot="blue", strategy="canary", reason="r", before="2", warm="1"), "churn"
    )
    with context.leased("churn") as leased:
        leased.move_route(replace(route_file.read(context.home, "churn"), previous=None))
    world.stop("churn", "blue", 0)
    lines = [line for _ in range(3) for line in reconcile(context)]
    assert sum("version 1 is no longer warm" in line for line in lines) >= 2
    assert len(context.ledger.events(DeployRefused)) == 1
    for _ in range(2):
        with pytest.raises(RolloutError):
            back(replace(context, asked_by="ann"))
    assert len(context.ledger.events(DeployRefused)) == 3, "what a person asks for is told each time"
