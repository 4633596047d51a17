"""Accidents in a world of slots in memory: whatever each leaves behind is recovered. tests/engine/test_killed.py has the real ones."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import replace

import pytest

from pipeline.errors import LedgerError, PerennialError, RegistryError, RolloutError
from pipeline.ledger import lease
from pipeline.ledger.rollout_events import (
    Baked,
    PruneFailed,
    RolloutEnded,
)
from pipeline.ledger.timeline import live_at
from pipeline.policy.canary import Judgement
from pipeline.rollout import deploy as deployments
from pipeline.rollout import probe, recovery, rollback, slots
from pipeline.rollout.context import RolloutContext
from pipeline.rollout.engines.base import SlotSpec
from pipeline.rollout.routing import route_file
from pipeline.rollout.routing.route import Route
from pipeline.training import signing
from tests.support.accidents import agreed, deploy, kill_at, reconcile
from tests.support.world import GOLDEN, SETTINGS, World, race


def test_a_rollout_that_was_overtaken_takes_nothing_from_the_younger_one(lived):
    """A rollout that lost its lease touches neither slot nor route of the younger one."""
    world, context = lived
    deploy(context, "1")

    def lose(engine, running, limit_s):
        # The younger one: its version in the same slot, its number in the lease and the route.
        with context.ledger.writing() as connection:
            connection.execute(lease.LEASES.update().values(token=lease.LEASES.c.token + 1, holder="another"))
        world.stop("churn", running.slot, 0)
        younger = world.start(SlotSpec("churn", running.slot, "3", context.home, context.home, 0))
        live = route_file.read(context.home, "churn").live
        candidate = slots.routed_slot(younger)
        route_file.write(context.home, Route("churn", live, candidate=candidate, percent=50), token_of(context) + 1)
        raise RolloutError("slot", "did not get ready", "look at it")

    with pytest.MonkeyPatch.context() as during:
        during.setattr(probe, "wait_ready", lose)
        with pytest.raises(RolloutError, match="was overtaken by another"):
            deploy(context, "2")
    assert world.running["green"].version == "3"
    assert route_file.read(context.home, "churn").candidate.version == "3"


def token_of(context):
    return route_file.token_of(context.home, "churn")


def test_a_route_is_removed_by_no_older_rollout(lived):
    """A rollout with an older lease cannot remove the route of a younger one."""
    _, context = lived
    deploy(context, "1")
    with pytest.raises(RolloutError, match="was moved by a younger rollout"):
        route_file.remove(context.home, "churn", token_of(context) - 1)
    assert route_file.read(context.home, "churn") is not None


def effects(kinds):
    """What was begun and what was ended, of all events."""
    return [k for k in kinds if k in PAIRS], [PAIRS_ENDED[k] for k in kinds if k in PAIRS_ENDED]


PAIRS = ("slot_starting", "slot_ending", "route_moving", "route_removing", "promoting")
PAIRS_ENDED = {
    "slot_started": "slot_starting",
    "slot_ended": "slot_ending",
    "route_moved": "route_moving",
    "route_removed": "route_removing",
    "promoted": "promoting",
}


def test_each_effect_has_an_event_before_and_after_it(lived, monkeypatch):
    """Forwards, back, cold, failed, shadowed, recovered: each change of the world has two events."""
    world, context = lived
    calls = []
    for name in ("start", "stop", "promote"):
        real = getattr(world, name)
        monkeypatch.setattr(
            world,
            name,
            lambda *a, n=name, r=real: (calls.append(n) if n != "stop" or world.running.get(a[1]) else None, r(*a))[1],
        )
    for name in ("write", "remove"):
        real = getattr(route_file, name)
        monkeypatch.setattr(route_file, name, lambda *a, n=name, r=real: (calls.append(n), r(*a))[1])
    with monkeypatch.context() as during:
        during.setattr(probe, "wait_ready", lambda *_: (_ for _ in ()).throw(RolloutError("slot", "is not ready", "")))
        with pytest.raises(RolloutError):
            deploy(context, "1")
    deploy(context, "1")
    deploy(context, "2", "linear")
    deploy(context, "3", "shadow")
    rollback.rollback(context, "churn", SETTINGS)
    world.running.clear()
    reconcile(context)
    route_file.route_file(context.home, "churn").write_text("garbled")
    reconcile(context)
    begun, ended = effects([e.kind for e in context.ledger.events()])
    assert begun == ended
    names = {
        "start": "slot_starting",
        "stop": "slot_ending",
        "promote": "promoting",
        "write": "route_moving",
        "remove": "route_removing",
    }
    assert begun == [names[n] for n in calls]
    assert set(begun) == set(PAIRS)


@pytest.mark.usefixtures("the_end_cannot_be_recorded")
def test_a_rollout_that_is_undone_after_its_promotion_gives_the_alias_back(lived):
    """A rollout that is undone after its promotion gives the champion alias back to the predecessor."""
    world, context = lived
    deploy(context, "1")
    with pytest.raises(LedgerError):
        deploy(context, "2")
    assert agreed(world, context) == "1"


@pytest.mark.usefixtures("the_end_cannot_be_recorded")
def test_a_first_rollout_that_is_undone_after_its_promotion_leaves_no_champion(lived):
    """A first rollout that is undone after its promotion leaves no champion, slot or route."""
    world, context = lived
    with pytest.raises(LedgerError):
        deploy(context, "2")
    assert (world.promoted, world.running, route_file.read(context.home, "churn")) == (None, {}, None)


def test_old_images_that_cannot_be_removed_undo_nothing(lived, monkeypatch, caplog):
    """A failure to remove old images is reported and recorded, and undoes no rollout."""
    world, context = lived
    deploy(context, "1")
    monkeypatch.setattr(world, "prune", lambda *_: (_ for _ in ()).throw(OSError("the disk is read-only")))
    assert deploy(context, "2").version == "2"
    assert agreed(world, context) == "2"
    assert "old images stay, they could not be removed (the disk is read-only)" in caplog.text
    assert context.ledger.events(PruneFailed)[-1].body["error"] == "the disk is read-only"


def test_two_rollbacks_at_once_are_one(lived):
    """Of two rollbacks at once one moves the route, and the other finds it done."""
    world, context = lived
    deploy(context, "1")
    deploy(context, "2")
    results = race(lambda _: rollback.rollback(context, "churn", SETTINGS), "one", "two")
    assert sorted((result.version, result.left, bool(result.already)) for result in results) == [
        ("1", "2", False),
        ("1", "2", True),
    ]
    assert agreed(world, context) == "1"
    with pytest.raises(RolloutError, match="version 1 is live, and version 2 was rolled back before"):
        rollback.rollback(context, "churn", SETTINGS)


def test_a_rollback_that_was_asked_before_another_one_ended_moves_nothing(lived, monkeypatch):
    """A rollback that waited for another one does not roll back a second time."""
    world, context = lived
    deploy(context, "1")
    deploy(context, "2")
    leased = RolloutContext.leased

    def sleep_first(asking, model, wait_s=0):
        monkeypatch.setattr(RolloutContext, "leased", leased)
        rollback.rollback(context, "churn", SETTINGS)
        return leased(asking, model, wait_s)

    monkeypatch.setattr(RolloutContext, "leased", sleep_first)
    assert rollback.rollback(context, "churn", SETTINGS).already
    assert agreed(world, context) == "1"


def test_the_last_bake_is_judged_at_its_end_too(lived):
    """A fault in the last moment of the last bake aborts the rollout."""
    world, context = lived
    deploy(context, "1")
    began = []

    def judgement():
        began.append(time.monotonic())
        at_the_end = began[-1] - began[0] >= 0.5
        return Judgement("abort" if at_the_end else "promote", "half of the answers failed")

    late = replace(context, judge=lambda *_: judgement, look_s=0.5)
    settings = SETTINGS.model_copy(update={"bake_s": 0.5})
    with pytest.raises(RolloutError, match=r"version 2 of churn at 100 %: half of the answers failed"):
        deployments.deploy(late, "churn", "2", settings, strategy="all-at-once")
    assert agreed(world, context) == "1"


def test_when_one_model_cannot_be_recovered_the_others_still_are(lived, caplog):
    """A model that cannot be recovered does not keep another model from being recovered."""
    world, context = lived
    caplog.set_level(logging.INFO, logger="pipeline")
    deploy(context, "1")
    world.running.clear()
    for model in ("a-broken-one", "zz-broken-too"):
        context.ledger.append(RolloutEnded(version="9", slot="blue", switch_s=0.0), model)
    with pytest.raises(RegistryError, match="version 9: is not signed"):
        reconcile(context)
    assert "started version 1 again" in caplog.text
    assert world.routed("churn") is not None


def test_a_predecessor_is_kept_warm_and_then_ended_and_never_while_the_route_falls_back_on_it(lived):
    """A predecessor's slot is ended after keep_hours, once the route no longer falls back on it."""
    world, context = lived
    deploy(context, "1")
    deploy(context, "2")
    assert recovery.retire(context, "churn", SETTINGS) == []
    assert set(world.running) == {"blue", "green"}
    began = context.ledger.events()[-1].seq
    at_once = SETTINGS.model_copy(update={"keep_hours": 0})
    with context.leased("churn"):
        assert recovery.retire(context, "churn", at_once) == []
    assert recovery.retire(context, "churn", at_once) == ["churn blue: ended version 1, kept for 0 h"]
    assert [e.kind for e in context.ledger.events(after=began)] == [
        "route_moving",
        "route_moved",
        "slot_ending",
        "slot_ended",
    ]
    assert agreed(world, context) == "2"
    assert recovery.retire(context, "churn", at_once) == []


def test_a_predecessor_stays_while_a_rollout_has_no_end(lived):
    """A predecessor's slot is not ended while a rollout is open."""
    world, context = lived
    deploy(context, "1")
    deploy(context, "2")
    kill_at("after note rollout_started", lambda: deploy(context, "3"))
    assert recovery.retire(context, "churn", SETTINGS.model_copy(update={"keep_hours": 0})) == []
    assert set(world.running) == {"blue", "green"}


def test_what_an_engine_left_in_a_slot_while_it_was_away_is_ended_and_nothing_else(lived):
    """A slot that an engine kept while it was away is ended when the route names another."""
    world, context = lived
    docker = World(context.home)
    world.beside.append(docker)
    engines = world.engines
    engines.answering, engines.chosen = [world, docker], docker
    deploy(context, "1")
    away = dict(docker.running)
    docker.running.clear()
    engines.answering, engines.chosen = [world], world
    reconcile(context)
    docker.running |= away
    engines.answering = [world, docker]
    assert reconcile(context) == ["churn blue: ended version 1, which no route names"]
    assert (set(world.running), docker.running) == ({"blue"}, {})
    assert agreed(world, context) == "1"
    docker.server.shutdown()
    docker.server.server_close()


def test_a_ledger_that_goes_away_in_a_bake_keeps_no_users_from_the_champion(lived, monkeypatch):
    """A ledger that is away during a bake undoes the rollout: users keep the champion."""
    world, context = lived
    deploy(context, "1")
    record = RolloutContext.record

    def away(asking, event, model):
        if isinstance(event, Baked):
            away.since = True
        if away.since:
            raise LedgerError("ledger", "is away", "wait")
        return record(asking, event, model)

    away.since = False
    with monkeypatch.context() as during:
        during.setattr(RolloutContext, "record", away)
        with pytest.raises(PerennialError, match="is away"):
            deploy(context, "2")
        assert world.routed("churn")["x-model-version"] == "1"
    reconcile(context)
    assert agreed(world, context) == "1"


@pytest.mark.parametrize("moved", ["1", None])
def test_an_alias_that_another_hand_moved_is_put_back(lived, moved):
    """Reconcile puts MLflow's champion back on the live version and says where it was."""
    world, context = lived
    deploy(context, "1")
    deploy(context, "2")
    world.promoted = moved
    was = f"on version {moved}" if moved else "gone"
    assert reconcile(context) == [f"churn: MLflow's alias champion was {was}; it is on version 2 again, which is live"]
    assert agreed(world, context) == "2"


def test_a_number_that_names_another_package_is_not_live_already(lived):
    """A version with the live one's number and another package goes live; ledger and route name its digest."""
    world, context = lived
    deploy(context, "1")
    before = live_at(context.ledger, "churn").digest
    (world.package("1") / "golden.json").write_text(json.dumps({"request": {}, "predictions": GOLDEN}))
    schema = {"features": [], "key": "customer", "event_time": "seen_at"}
    manifest = {**schema, "files": {"golden.json": signing.digest(world.package("1") / "golden.json")}}
    (world.package("1") / signing.MANIFEST).write_text(json.dumps(manifest))
    world.signatures["1"] = world.key.sign((world.package("1") / signing.MANIFEST).read_bytes())
    assert deploy(context, "1", "canary").already_live is not True
    after = live_at(context.ledger, "churn").digest
    assert after != before
    assert route_file.read(context.home, "churn").live.digest == after
    assert agreed(world, context) == "1"
    assert deploy(context, "1").already_live


def test_after_all_slots_have_ended_the_predecessor_is_warm_again(lived):
    """`reconcile`, and so `make up`, starts live version and predecessor; a predecessor that does not start is one line."""
    world, context = lived
    for version in ("1", "2"):
        deploy(context, version)
    world.running.clear()
    assert [line.partition(" (")[0] for line in reconcile(context)] == [
        "churn green: started version 2 again",
        "churn blue: version 1 is warm again",
    ]
    assert agreed(world, context) == "2"
    assert route_file.read(context.home, "churn").previous.version == "1"
    del world.running["blue"]
    (line,) = reconcile(context)
    assert line == "churn blue: version 1 is warm again"
    world.running.clear()
    (world.package("1") / "manifest.json").write_text("{}")
    started, lost = reconcile(context)
    assert started.startswith("churn green: started version 2 again")
    assert lost.startswith("churn: version 1 is no longer warm (")
    assert agreed(world, context) == "2"
