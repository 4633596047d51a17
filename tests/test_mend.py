"""Accidents in a world of slots in memory: what each leaves behind, and that it is mended. tests/test_killed.py has the real ones."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from dataclasses import replace

import pytest

from pipeline.errors import LedgerError, PerennialError, RegistryError, RolloutError
from pipeline.ledger import lease
from pipeline.ledger.rollout_events import Baked, PruneFailed, RolloutEnded
from pipeline.ledger.timeline import live_at
from pipeline.policy.canary import Judgement
from pipeline.rollout import deploy as execute
from pipeline.rollout import failpoints, probe, recovery, rollback, slots
from pipeline.rollout.context import RolloutContext
from pipeline.rollout.engines.base import Wanted
from pipeline.rollout.routing import route_file
from pipeline.rollout.routing.route import Route
from tests.support.world import SETTINGS, World, killed_at, lived_in, race, world_folder  # noqa: F401


@pytest.fixture
def lived(world_folder):  # noqa: F811
    with lived_in(world_folder / "home") as (world, site):
        yield world, site


def deploy(site, version, strategy="all-at-once"):
    return execute.deploy(site, "churn", version, SETTINGS, strategy=strategy)


def reconcile(site):
    return recovery.reconcile(site, {"churn": SETTINGS})


def kill_at(point, call):
    with killed_at(point) as told, contextlib.suppress(PerennialError):
        call()
    assert told.killed, point


def agreed(world, site):
    """One version is live, and route, slots, registry and ledger say so; returns it."""
    current = route_file.read(site.home, "churn")
    assert current.candidate is None
    assert world.routed("churn")["x-model-version"] == current.live.version == world.promoted
    assert live_at(site.ledger, "churn")["version"] == current.live.version
    assert set(world.running) <= current.slots
    assert recovery.open_rollout(site.ledger, "churn") is None
    assert reconcile(site) == []
    return current.live.version


@pytest.mark.parametrize(
    ("strategy", "point", "left"),
    [
        ("canary", "after move route", "1"),
        ("canary", "after note step_baked", "1"),
        ("all-at-once", "before note slot_ready", "1"),
        ("all-at-once", "after move route", "1"),
        ("all-at-once", "after note baked", "2"),
    ],
)
@pytest.mark.parametrize("dead", [["blue"], ["green"], ["blue", "green"]])
def test_a_killed_rollout_whose_slots_died_too_is_mended(lived, strategy, point, left, dead):
    world, site = lived
    deploy(site, "1")
    kill_at(point, lambda: deploy(site, "2", strategy))
    for slot in dead:
        world.running.pop(slot)
    reconcile(site)
    assert agreed(world, site) == left


@pytest.mark.parametrize("point", ["after note rollback_started", "after move route", "before note rolled_back"])
def test_a_killed_rollback_whose_slots_died_too_is_mended(lived, point):
    world, site = lived
    deploy(site, "1")
    deploy(site, "2")
    kill_at(point, lambda: rollback.rollback(site, "churn", SETTINGS))
    world.running.clear()
    reconcile(site)
    assert agreed(world, site) == ("2" if point == "after note rollback_started" else "1")


def test_a_rollout_that_was_overtaken_takes_nothing_from_the_younger_one(lived):
    """It wakes up while a younger one has a slot and the route: neither is touched, whatever it would clean up."""
    world, site = lived
    deploy(site, "1")

    def lose(engine, running, limit_s):
        # The younger one: its version in the same slot, its number in the lease and the route.
        with site.ledger.writing() as connection:
            connection.execute(lease.LEASES.update().values(token=lease.LEASES.c.token + 1, holder="another"))
        world.stop("churn", running.slot, 0)
        younger = world.start(Wanted("churn", running.slot, "3", site.home, site.home, 0))
        live = route_file.read(site.home, "churn").live
        share = slots.share_of(younger)
        route_file.write(site.home, Route("churn", live, candidate=share, percent=50), site_token(site) + 1)
        raise RolloutError("slot", "did not get ready", "look at it")

    with pytest.MonkeyPatch.context() as during:
        during.setattr(probe, "wait_ready", lose)
        with pytest.raises(RolloutError, match="was overtaken by another"):
            deploy(site, "2")
    assert world.running["green"].version == "3"
    assert route_file.read(site.home, "churn").candidate.version == "3"


def site_token(site):
    return route_file.token_of(site.home, "churn")


def test_a_route_is_removed_by_no_older_rollout(lived):
    _, site = lived
    deploy(site, "1")
    with pytest.raises(RolloutError, match="was moved by a younger rollout"):
        route_file.remove(site.home, "churn", site_token(site) - 1)
    assert route_file.read(site.home, "churn") is not None


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
    """Forwards, back, cold, failed, shadowed, mended: whoever changes the world says so twice."""
    world, site = lived
    done = []
    for name in ("start", "stop", "promote"):
        real = getattr(world, name)
        monkeypatch.setattr(
            world,
            name,
            lambda *a, n=name, r=real: (done.append(n) if n != "stop" or world.running.get(a[1]) else None, r(*a))[1],
        )
    for name in ("write", "remove"):
        real = getattr(route_file, name)
        monkeypatch.setattr(route_file, name, lambda *a, n=name, r=real: (done.append(n), r(*a))[1])
    with monkeypatch.context() as during:
        during.setattr(probe, "wait_ready", lambda *_: (_ for _ in ()).throw(RolloutError("slot", "is not ready", "")))
        with pytest.raises(RolloutError):
            deploy(site, "1")
    deploy(site, "1")
    deploy(site, "2", "linear")
    deploy(site, "3", "shadow")
    rollback.rollback(site, "churn", SETTINGS)
    world.running.clear()
    reconcile(site)
    route_file.route_file(site.home, "churn").write_text("garbled")
    reconcile(site)
    begun, ended = effects([e.kind for e in site.ledger.events()])
    assert begun == ended
    names = {
        "start": "slot_starting",
        "stop": "slot_ending",
        "promote": "promoting",
        "write": "route_moving",
        "remove": "route_removing",
    }
    assert begun == [names[n] for n in done]
    assert set(begun) == set(PAIRS)


@pytest.fixture
def the_end_cannot_be_told(monkeypatch):
    """The ledger fails in the very moment in which a rollout would end well."""
    record = RolloutContext.record

    def failing(site, event, model):
        if isinstance(event, RolloutEnded) and event.version == "2":
            raise LedgerError("ledger", "is away", "wait")
        return record(site, event, model)

    monkeypatch.setattr(RolloutContext, "record", failing)


@pytest.mark.usefixtures("the_end_cannot_be_told")
def test_a_rollout_that_is_undone_after_its_promotion_gives_the_alias_back(lived):
    world, site = lived
    deploy(site, "1")
    with pytest.raises(LedgerError):
        deploy(site, "2")
    assert agreed(world, site) == "1"


@pytest.mark.usefixtures("the_end_cannot_be_told")
def test_a_first_rollout_that_is_undone_after_its_promotion_leaves_no_champion(lived):
    world, site = lived
    with pytest.raises(LedgerError):
        deploy(site, "2")
    assert (world.promoted, world.running, route_file.read(site.home, "churn")) == (None, {}, None)


@pytest.mark.usefixtures("the_end_cannot_be_told")
@pytest.mark.parametrize(
    "point", ["after move route#2", "before promote#2", "after promote#2", "before note rolled_back"]
)
def test_one_that_is_killed_while_it_is_undone_is_undone_by_reconcile(lived, point):
    world, site = lived
    deploy(site, "1")
    kill_at(point, lambda: deploy(site, "2"))
    reconcile(site)
    assert agreed(world, site) == "1"


def test_old_images_that_cannot_be_removed_undo_nothing(lived, monkeypatch, capsys):
    world, site = lived
    deploy(site, "1")
    monkeypatch.setattr(world, "prune", lambda *_: (_ for _ in ()).throw(OSError("the disk is read-only")))
    assert deploy(site, "2").version == "2"
    assert agreed(world, site) == "2"
    assert "old images stay, they could not be removed (the disk is read-only)" in capsys.readouterr().out
    assert site.ledger.events(PruneFailed)[-1].body["error"] == "the disk is read-only"


def test_two_rollbacks_at_once_are_one(lived):
    """The second finds that what it was to leave has been left; twice in turn is there and back again."""
    world, site = lived
    deploy(site, "1")
    deploy(site, "2")
    told = race(lambda _: rollback.rollback(site, "churn", SETTINGS), "one", "two")
    assert sorted((t.version, t.left, bool(t.already)) for t in told) == [
        ("1", "2", False),
        ("1", "2", True),
    ]
    assert agreed(world, site) == "1"
    assert rollback.rollback(site, "churn", SETTINGS).version == "2"


def test_a_rollback_that_was_asked_before_another_one_ended_moves_nothing(lived, monkeypatch):
    """It read what is live, slept, and got its turn when the first had ended."""
    world, site = lived
    deploy(site, "1")
    deploy(site, "2")
    alone = RolloutContext.alone

    def sleep_first(asking, model, wait_s=0):
        monkeypatch.setattr(RolloutContext, "alone", alone)
        rollback.rollback(site, "churn", SETTINGS)
        return alone(asking, model, wait_s)

    monkeypatch.setattr(RolloutContext, "alone", sleep_first)
    assert rollback.rollback(site, "churn", SETTINGS).already
    assert agreed(world, site) == "1"


def test_the_last_bake_is_judged_at_its_end_too(lived):
    """What fails in the last moment before the promotion counts."""
    world, site = lived
    deploy(site, "1")
    began = []

    def judgement():
        began.append(time.monotonic())
        at_the_end = began[-1] - began[0] >= 0.5
        return Judgement("abort" if at_the_end else "promote", "half of the answers failed")

    late = replace(site, judge=lambda *_: judgement, look_s=0.5)
    settings = SETTINGS.model_copy(update={"bake_s": 0.5})
    with pytest.raises(RolloutError, match=r"version 2 of churn at 100 %: half of the answers failed"):
        execute.deploy(late, "churn", "2", settings, strategy="all-at-once")
    assert agreed(world, site) == "1"


def test_what_cannot_be_mended_of_one_model_keeps_no_other_from_being_mended(lived, monkeypatch, capsys):
    world, site = lived
    deploy(site, "1")
    world.running.clear()
    for model in ("a-broken-one", "zz-broken-too"):
        site.ledger.append(RolloutEnded(version="9", slot="blue", switch_s=0.0), model)
    with pytest.raises(RegistryError, match="version 9: is not signed"):
        reconcile(site)
    assert "started version 1 again" in capsys.readouterr().out
    assert world.routed("churn") is not None


def test_a_predecessor_is_kept_warm_and_then_ended_and_never_while_the_route_falls_back_on_it(lived):
    world, site = lived
    deploy(site, "1")
    deploy(site, "2")
    assert recovery.retire(site, "churn", SETTINGS) == []
    assert set(world.running) == {"blue", "green"}
    began = site.ledger.events()[-1].seq
    at_once = SETTINGS.model_copy(update={"keep_hours": 0})
    with site.alone("churn"):
        assert recovery.retire(site, "churn", at_once) == []
    assert recovery.retire(site, "churn", at_once) == ["churn blue: ended version 1, kept for 0 h"]
    assert [e.kind for e in site.ledger.events(after=began)] == [
        "route_moving",
        "route_moved",
        "slot_ending",
        "slot_ended",
    ]
    assert agreed(world, site) == "2"
    assert recovery.retire(site, "churn", at_once) == []


def test_a_predecessor_stays_while_a_rollout_has_no_end(lived):
    world, site = lived
    deploy(site, "1")
    deploy(site, "2")
    kill_at("after note rollout_started", lambda: deploy(site, "3"))
    assert recovery.retire(site, "churn", SETTINGS.model_copy(update={"keep_hours": 0})) == []
    assert set(world.running) == {"blue", "green"}


def test_what_an_engine_left_in_a_slot_while_it_was_away_is_ended_and_nothing_else(lived):
    """Docker is restarted; meanwhile the process engine starts the live version again. Then both have one in the slot."""
    world, site = lived
    docker = World(site.home)
    world.beside.append(docker)
    engines = world.engines
    engines.answering, engines.chosen = [world, docker], docker
    deploy(site, "1")
    away = dict(docker.running)
    docker.running.clear()
    engines.answering, engines.chosen = [world], world
    reconcile(site)
    docker.running |= away
    engines.answering = [world, docker]
    assert reconcile(site) == ["churn blue: ended version 1, which no route names"]
    assert (set(world.running), docker.running) == ({"blue"}, {})
    assert agreed(world, site) == "1"
    docker.server.shutdown()
    docker.server.server_close()


def passed(monkeypatch, call):
    """The failpoints that the call passes, each with its number."""
    reached, points = Counter(), []

    def reach(name):
        reached[name] += 1
        points.append(f"{name}#{reached[name]}")

    with monkeypatch.context() as during:
        during.setattr(failpoints, "reach", reach)
        call()
    return points


@pytest.mark.parametrize("strategy", ["canary", "linear", "shadow"])
def test_a_rollout_by_steps_killed_at_any_point_is_mended(lived, monkeypatch, strategy):
    """tests/test_killed.py walks all-at-once and rollback on real slots; here each step's own points are walked too."""
    world, site = lived
    deploy(site, "2")
    deploy(site, "1")
    points = passed(monkeypatch, lambda: deploy(site, "3", strategy))
    step = "note shadow_ended" if strategy == "shadow" else "note step_baked"
    assert {"before move route#2", f"before {step}#1", "before note slot_ending#1", "after note route_moved#1"} <= set(
        points
    )
    for point in points:
        current = route_file.read(site.home, "churn").live.version
        other = "3" if current == "1" else "1"
        if "slot_end" in point and set(world.running) != {"blue", "green"}:
            deploy(site, other)
            current, other = other, current
        kill_at(point, lambda other=other: deploy(site, other, strategy))
        reconcile(site)
        left = agreed(world, site)
        assert left == current or strategy != "shadow", point


ACCIDENTS = {
    "a rollout that is to be undone": "after note route_moved",
    "one that is to be finished": "after note baked",
    "a champion that died too": "after move route",
}


@pytest.mark.parametrize("accident", ACCIDENTS)
def test_what_mends_may_be_killed_at_any_point_and_is_mended(lived, monkeypatch, accident):
    world, site = lived

    def happen():
        reconcile(site)
        current = route_file.read(site.home, "churn")
        other = "2" if current is None or current.live.version == "1" else "1"
        kill_at(ACCIDENTS[accident], lambda: deploy(site, other, "canary" if "died" in accident else "all-at-once"))
        if "died" in accident:
            world.running.clear()

    deploy(site, "1")
    happen()
    points = passed(monkeypatch, lambda: reconcile(site))
    assert len(points) >= 8
    for point in points:
        happen()
        kill_at(point, lambda: reconcile(site))
        reconcile(site)
        agreed(world, site)


def test_a_ledger_that_goes_away_in_a_bake_keeps_no_users_from_the_champion(lived, monkeypatch):
    world, site = lived
    deploy(site, "1")
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
            deploy(site, "2")
        assert world.routed("churn")["x-model-version"] == "1"
    reconcile(site)
    assert agreed(world, site) == "1"
