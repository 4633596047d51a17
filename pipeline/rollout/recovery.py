"""Finishes or undoes what was cut off, so that one version is live and route, slots and ledger agree on it.

A rollout that was killed is undone, unless its bake had ended well: then it is finished. What is live is read from the
route; a route that another hand has changed or removed is written again from the ledger.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from pipeline.errors import LeaseBusy, RolloutError
from pipeline.ledger import lease
from pipeline.ledger.rollout_events import (
    MOVES,
    OPENINGS,
    Baked,
    Opening,
    Promoting,
    RollbackStarted,
    RolledBack,
    RolloutEnded,
    RolloutFailed,
    ShadowEnded,
    SlotRevived,
)
from pipeline.ledger.store import Entry, Ledger
from pipeline.ledger.timeline import live_at, live_version
from pipeline.rollout import probe, slots
from pipeline.rollout.context import SWITCH_LIMIT_S, RolloutContext, answers
from pipeline.rollout.routing import route_file
from pipeline.rollout.routing.route import Route, Share
from pipeline.settings.models import Rollout

# What was killed on another machine holds its lease a little longer; it is waited for.
RECONCILE_WAIT_S = 2 * lease.HELD_S
CLOSINGS = (*MOVES, RolloutFailed, ShadowEnded)


def reconcile(context: RolloutContext, settings: dict[str, Rollout], models: list[str] | None = None) -> list[str]:
    """Makes what runs agree with the routes, and the routes with the ledger; returns what it did, one line each.

    `models` None means all that are routed, were ever live, or run. What cannot be mended of one model keeps no other
    from being mended; the first such error is raised at the end.
    """
    running = [r for engine in context.engines.all() for r in engine.all()]
    live = {e.model for e in context.ledger.events(*MOVES)}
    done: list[str] = []
    failed: list[Exception] = []
    for model in models or sorted({*route_file.routed_models(context.home), *live, *(r.model for r in running)}):
        try:
            with context.alone(model, RECONCILE_WAIT_S) as alone:
                done += _mended(alone, model, settings.get(model, Rollout()))
        except LeaseBusy:
            done.append(f"{model}: left alone, a rollout of it is going on")
        except Exception as error:
            failed.append(error)
    if failed:
        for line in done:
            print(line)
        raise failed[0]
    return done


def _mended(context: RolloutContext, model: str, settings: Rollout) -> list[str]:
    done: list[str] = []
    current = unfinished(context, model, settings, done, rebuild=True)
    if current is not None:
        current = _retired(context, current, settings, done)
        if not answers(current.live):
            current = _revived(context, current, settings, done)
    # By address: of two in one slot, started by two engines, the route names one.
    named = [] if current is None else [s.address for s in (current.live, current.previous) if s is not None]
    for engine in context.engines.all():
        for running in engine.all():
            if running.model == model and running.address not in named:
                context.end(engine, model, running.slot, settings.drain_s)
                done.append(f"{model} {running.slot}: ended version {running.version}, which no route names")
    return done


def unfinished(
    context: RolloutContext, model: str, settings: Rollout, done: list[str] | None = None, *, rebuild: bool = False
) -> Route | None:
    """The model's route, after whatever a rollout that was cut off has left was finished or undone.

    Adds a line for each thing done. Raises RolloutError for a route of another hand, unless `rebuild` may write it again.
    """
    done = [] if done is None else done
    current = _rebuilt(context, model, settings, done) if rebuild else route_file.read(context.home, model)
    opened = open_rollout(context.ledger, model)
    if current is not None and opened is not None:
        _refuse_unfollowed(context, current)
    if current is not None and current.candidate is not None:
        left = current.candidate
        current = context.move(Route(model, _alive(context, model, current.live, settings, done)))
        context.empty(model, left.slot, settings.drain_s)
        done.append(f"{model}: version {current.live.version} has all traffic again, {left.version} was cut off")
    if current is not None and live_version(context.ledger, model) != current.live.version:
        return _settled(context, current, opened, settings, done)
    if opened is not None:
        version, slot = opened.event.version, opened.event.slot or None
        restore_champion(context, model, opened, current.live.version if current is not None else None)
        context.record(RolloutFailed(version=version, slot=slot, error="it was cut off"), model)
        done.append(f"{model}: the rollout of version {version} was cut off and is undone")
    return current


def _refuse_unfollowed(context: RolloutContext, current: Route) -> None:
    """The file may have been written in the very moment of the kill: what is said next must be true of the traffic.

    Where nobody can answer there is no traffic to be true of; who is started again moves the route anyway.
    """
    address = context.address(current.model)
    if any(map(answers, current.answering)) and not probe.wait_for_stamp(address, current.stamp, SWITCH_LIMIT_S):
        raise RolloutError(f"route {current.model}", f"{address} does not follow its file", "is Traefik up?")


def open_rollout(ledger: Ledger, model: str) -> Entry[Opening] | None:
    """The event that opened a rollout or a rollback of which no end is told, or None."""
    closings = ledger.events(*CLOSINGS, model=model)
    openings = ledger.events(*OPENINGS, model=model, after=closings[-1].seq if closings else 0)
    return openings[-1] if openings else None


def _settled(
    context: RolloutContext, current: Route, opened: Entry[Opening] | None, settings: Rollout, done: list[str]
) -> Route:
    """All traffic had moved and the ledger does not know: finish when that was proven right, else back."""
    model, live, previous = current.model, current.live, current.previous
    started = opened.seq if opened else 0
    baked = bool(context.ledger.events(Baked, model=model, after=started))
    back = opened.event if opened is not None and isinstance(opened.event, RollbackStarted) else None
    if opened is not None and not (baked or back) and previous is not None:
        previous = _alive(context, model, previous, settings, done)
        give_back(context, model, Route(model, previous), live.slot, settings.drain_s)
        reason = f"the rollout of version {live.version} was cut off in its bake"
        undone = RolledBack(version=previous.version, slot=previous.slot, reason=reason, left=live.version)
        context.record(undone, model)
        done.append(f"{model}: back on version {previous.version}, {reason}")
        return route_file.read(context.home, model) or Route(model, previous)
    if not answers(live):
        current = _revived(context, current, settings, done)
        live = current.live
    context.promote(model, live.version)
    version, slot = live.version, live.slot
    if back is not None:
        reason = back.reason
        context.record(
            RolledBack(version=version, slot=slot, switch_s=0.0, completed_later=True, reason=reason, left=back.left),
            model,
        )
    else:
        before = previous.version if previous else None
        ended = RolloutEnded(version=version, slot=slot, switch_s=0.0, completed_later=True, previous=before)
        context.record(ended, model)
    done.append(f"{model}: version {live.version} is live, which the ledger had not been told")
    return current


def give_back(context: RolloutContext, model: str, before: Route | None, slot: str, drain_s: float) -> bool:
    """Gives `before`'s live slot all traffic and empties `slot`; returns whether that slot had had all.

    Without a `before` nothing was live: the model leaves the router.
    """
    now = route_file.read(context.home, model)
    had_all = now is not None and now.live.slot == slot
    if before is None:
        context.unroute(model)
    elif now is None or replace(now, stamp="", rate_limit=0) != Route(model, before.live):
        taken = now.live if now is not None and had_all else now.candidate if now is not None else None
        known = now is not None and before.live in (now.live, now.previous)
        if known and taken is not None and not answers(taken):
            # Requests that are being retried keep the configuration they began with, and its health checks end when the
            # file changes: Traefik must have found the slot dead before that, or they are retried against it to the end.
            probe.wait_for_version(context.address(model), before.live.version, SWITCH_LIMIT_S)
        context.move(Route(model, before.live))
    context.empty(model, slot, drain_s)
    return had_all


def restore_champion(context: RolloutContext, model: str, opened: Entry[Opening], version: str | None) -> None:
    """Makes `version` the champion again (None: nobody), when the rollout that began with `opened` had promoted its own."""
    if not context.ledger.events(Promoting, model=model, after=opened.seq):
        return
    if version is None:
        context.demote(model)
    else:
        context.promote(model, version)


def _rebuilt(context: RolloutContext, model: str, settings: Rollout, done: list[str]) -> Route | None:
    """The route as the file has it, or written again from the ledger when another hand changed or removed it."""
    try:
        current = route_file.read(context.home, model)
        why = "is gone"
    except RolloutError as error:
        current, why = None, error.observation
    live = live_at(context.ledger, model)
    if current is not None or (live is None and not route_file.route_file(context.home, model).is_file()):
        return current
    if live is None:
        context.unroute(model)
        done.append(f"{model}: its route {why}, and nothing of it was ever live: removed")
        return None
    found = [r for e in context.engines.all() for r in e.all() if r.model == model and r.version == live.version]
    alive = [share for share in map(slots.share_of, found) if answers(share)]
    if alive:
        share = alive[0]
    else:
        folder = context.registry.deployable_package(model, live.version)
        share = slots.fill(context, model, live.version, live.slot, folder, settings).share
    written = context.move(Route(model, share))
    done.append(f"{model}: its route {why}; written again for version {share.version}, as the ledger says")
    return written


def retire(context: RolloutContext, model: str, settings: Rollout) -> list[str]:
    """Ends the model's predecessor when it was kept warm for long enough; returns what it did, one line each.

    A rollout that is going on, or was cut off, is left alone.
    """
    done: list[str] = []
    current = route_file.read(context.home, model)
    if current is None or not _is_due(context, current, settings):
        return done
    try:
        with context.alone(model) as alone:
            current = route_file.read(context.home, model)
            if current is not None and open_rollout(context.ledger, model) is None:
                _retired(alone, current, settings, done)
    except LeaseBusy:
        return done
    return done


def _is_due(context: RolloutContext, current: Route, settings: Rollout) -> bool:
    live = live_at(context.ledger, current.model)
    if current.previous is None or current.candidate is not None or live is None:
        return False
    kept = context.clock() - datetime.fromisoformat(live.since)
    return kept >= timedelta(hours=settings.keep_hours)


def _retired(context: RolloutContext, current: Route, settings: Rollout, done: list[str]) -> Route:
    """Ends a predecessor that was kept warm for long enough, once the route no longer falls back on it."""
    previous = current.previous
    if previous is None or not _is_due(context, current, settings) or not answers(current.live):
        return current
    alone = context.move(Route(current.model, current.live))
    context.empty(current.model, previous.slot, settings.drain_s)
    done.append(
        f"{current.model} {previous.slot}: ended version {previous.version}, kept for {settings.keep_hours:g} h"
    )
    return alone


def _revived(context: RolloutContext, current: Route, settings: Rollout, done: list[str]) -> Route:
    """The route with its live version started again in its slot; its warm predecessor answers meanwhile."""
    live = _alive(context, current.model, current.live, settings, done)
    previous = current.previous if current.previous is not None and answers(current.previous) else None
    return context.move(Route(current.model, live, previous))


def _alive(context: RolloutContext, model: str, share: Share, settings: Rollout, done: list[str]) -> Share:
    """The slot, started and proven again when it does not answer: what is to get traffic must be able to take it."""
    if answers(share):
        return share
    folder = context.registry.deployable_package(model, share.version)
    proven = slots.fill(context, model, share.version, share.slot, folder, settings)
    context.record(SlotRevived(version=share.version, slot=share.slot, engine=proven.engine.name), model)
    done.append(f"{model} {share.slot}: started version {share.version} again ({proven.engine_reason})")
    return proven.share
