"""What was cut off is noticed by whoever is always there: a killed rollout, a lease that ran out, an undo that could not end."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time

import pytest
import sqlalchemy as sa

from harness.project import ROOT
from pipeline.errors import LeaseBusy, LedgerError, RolloutError
from pipeline.ledger import lease
from pipeline.ledger.rollout_events import RolloutStarted
from pipeline.rollout.cut_off import CutOff
from tests.support.accidents import agreed, deploy, kill_at, reconcile

ELSEWHERE = "process 7 from 100 on another (boot-of-another 4026531836)"


def holder(context, name: str, left_s: float) -> None:
    """The lease as `name` holds it, for so many more seconds."""
    with context.ledger.writing() as connection:
        now = lease._now(connection)
        connection.execute(lease.LEASES.update().values(holder=name, until=now + left_s))


def cut_off(context, point: str, call) -> None:
    """A rollout that is killed at the point: its lease is as a process leaves it that is no more."""
    kill_at(point, call)
    holder(context, "process 1 from 1 on here (gone)", -1)


@pytest.mark.parametrize(
    "point", ["after note rollout_started", "after move route", "before note baked", "after note baked"]
)
def test_a_rollout_that_was_killed_is_due_at_the_second_look_until_it_is_recovered(lived, point):
    """At any point: also in the last bake, when the route names no candidate."""
    world, context = lived
    deploy(context, "1")
    watch = CutOff(context.ledger)
    assert watch.due() == watch.due() == []
    cut_off(context, point, lambda: deploy(context, "2", "canary"))
    assert (watch.due(), watch.due()) == ([], ["churn"])
    reconcile(context)
    agreed(world, context)
    assert watch.due() == watch.due() == []
    assert CutOff(context.ledger).due() == []


def test_a_rollout_that_goes_on_is_left_alone(lived):
    """As long as its lease is renewed it is nobody else's, on this machine and on another."""
    _, context = lived
    deploy(context, "1")
    watch = CutOff(context.ledger)
    with context.leased("churn") as leased:
        leased.record(RolloutStarted(version="2"), "churn")
        assert watch.due() == watch.due() == []
        holder(context, ELSEWHERE, 3)
        assert watch.due() == watch.due() == []
        holder(context, ELSEWHERE, -0.1)
        assert (watch.due(), watch.due()) == ([], ["churn"])


def test_a_rollout_that_ended_without_its_end_in_the_ledger_is_due(lived):
    """Its undo failed and it gave its lease back: nobody holds anything, and the rollout is still open."""
    _, context = lived
    deploy(context, "1")
    with context.leased("churn") as leased:
        leased.record(RolloutStarted(version="2"), "churn")
    watch = CutOff(context.ledger)
    assert (watch.due(), watch.due()) == ([], ["churn"])


def test_one_that_is_late_with_its_renewal_is_left_alone_while_its_process_lives(lived):
    """On a busy machine, or after its sleep, a lease may run out before it is renewed: only after ten seconds is that the end."""
    _, context = lived
    deploy(context, "1")
    watch = CutOff(context.ledger)
    with context.leased("churn") as leased:
        holder(context, leased.lease.holder, -2)
        assert watch.due() == watch.due() == []
        holder(context, leased.lease.holder, -lease.RENEWAL_LIMIT_S - 1)
        assert (watch.due(), watch.due()) == ([], ["churn"])


def test_it_is_tried_again_after_pauses_that_grow(lived, monkeypatch):
    """While a recovery fails, on a full disk for example, the next one comes after 2, 4, 8 … and at most 60 seconds."""
    _, context = lived
    deploy(context, "1")
    cut_off(context, "after move route", lambda: deploy(context, "2", "canary"))
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    watch, tried = CutOff(context.ledger), []
    while len(tried) < 8:
        for model in watch.due():
            watch.tries(model)
            tried.append(now[0])
        now[0] += 1
    assert [b - a for a, b in zip(tried, tried[1:], strict=False)] == [2, 4, 8, 16, 32, 60, 60]


def test_another_machines_models_are_left_to_it(lived):
    """What `concerns` excludes is not due."""
    _, context = lived
    deploy(context, "1")
    cut_off(context, "after move route", lambda: deploy(context, "2", "canary"))
    holder(context, ELSEWHERE, -1)
    watch = CutOff(context.ledger, lambda model, holder: holder.is_local)
    assert watch.due() == watch.due() == []


def test_whoever_wants_the_lease_waits_for_a_recovery_and_not_for_a_rollout(lived):
    """A deploy by hand just after a kill waits for the recovery that nobody asked for; beside a rollout it is refused at once."""
    world, context = lived
    deploy(context, "1")
    inside, end = threading.Event(), threading.Event()

    def hold(recovering):
        with context.leased("churn", recovering=recovering):
            inside.set()
            end.wait(60)

    for recovering in (False, True):
        inside.clear(), end.clear()
        holding = threading.Thread(target=hold, args=(recovering,))
        holding.start()
        inside.wait(60)
        if recovering:
            threading.Timer(0.5, end.set).start()
            deploy(context, "2")
        else:
            with pytest.raises(LeaseBusy):
                deploy(context, "2")
            end.set()
        holding.join()
    assert agreed(world, context) == "2"


def test_a_lease_that_could_not_be_renewed_for_long_is_refused(lived):
    """Its holder stops by itself before it changes anything, though nobody else has taken the lease."""
    _, context = lived
    with context.leased("churn") as leased:
        leased.check_lease()
        leased.lease.renewed_at -= lease.RENEWAL_LIMIT_S + 1
        with pytest.raises(LedgerError, match="lease of churn: could not be renewed for 11 s"):
            leased.check_lease()
        assert leased.lease.renew()
        leased.check_lease()


def test_a_full_disk_in_mid_canary_gives_the_traffic_back(tmp_path):
    """On a disk without a free byte the route still moves back; once there is room again, reconcile puts the ledger right."""
    mount = 'mount -t tmpfs -o size=4m tmpfs "$1" && exec "$2" -m tests.support.full_disk "$1"'
    mine = subprocess.run(["unshare", "--map-root-user", "--mount", "true"], capture_output=True)
    if mine.returncode:
        pytest.skip(f"no disk of one's own: {mine.stderr.decode().strip()}")
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", mount, "sh", str(tmp_path), sys.executable]
    story = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert story.returncode == 0, story.stderr
    said = json.loads(story.stdout)
    assert "full" in said["raised"] or "could not be renewed" in said["raised"]
    assert (said["full"], said["live"]) == ("live 1, candidate None, answers 1", "1")


def _full(*_):
    raise LedgerError("ledger", "database or disk is full", "make room")


def test_a_release_that_fails_does_not_hide_why_the_rollout_failed(lived, monkeypatch):
    """The first error is the one to read; the lease runs out by itself."""
    _, context = lived
    monkeypatch.setattr(lease.Lease, "release", _full)
    with pytest.raises(RolloutError, match="the first error"), context.leased("churn"):
        raise RolloutError("slot", "the first error", "look")
    with context.ledger.writing() as connection:
        assert connection.execute(sa.select(lease.LEASES.c.holder)).scalar()
