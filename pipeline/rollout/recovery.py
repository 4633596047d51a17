"""After a crash: makes route, slots, registry and ledger agree on one live version for each model.

A rollout that was killed is undone. It is finished when its bake had ended well, and also when the route names no predecessor to go
back to. The route says what is live; a route that somebody else changed or removed is written again from the ledger.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from pipeline.errors import LeaseBusy, RegistryError, RolloutError
from pipeline.ledger import lease
from pipeline.ledger.rollout_events import (
    MOVES,
    Baked,
    Opening,
    Promoting,
    RollbackStarted,
    RolledBack,
    RolloutEnded,
    RolloutFailed,
    SlotRevived,
    UndeployStarted,
)
from pipeline.ledger.store import Entry
from pipeline.ledger.timeline import live_at
from pipeline.rollout import predecessor, probe, registry_agreement, settings_change, slots, undeploy
from pipeline.rollout.context import SWITCH_LIMIT_S, RolloutContext, answers
from pipeline.rollout.engines.base import Engine
from pipeline.rollout.opened import is_recorded, open_rollout
from pipeline.rollout.recorded import recorded_settings
from pipeline.rollout.routing import foreign_files, route_file
from pipeline.rollout.routing.route import Route, RoutedSlot
from pipeline.settings.rollout import Rollout

# A rollout that was killed on another machine still holds its lease for a moment: wait until it runs out.
RECONCILE_WAIT_S = 2 * lease.HELD_S

logger = logging.getLogger(__name__)


def reconcile(context: RolloutContext, settings: dict[str, Rollout], models: list[str] | None = None) -> list[str]:
    """Makes what runs agree with the routes, and the routes with the ledger; returns its actions, one line each.

    `models` None means all that are routed, were ever live, or run. When the recovery of one model fails, the others are
    still recovered; the first such error is raised at the end, and the actions are logged.
    """
    # Of hundreds of models to open a connection for each question is most of the time.
    with context.ledger.reading():
        return _reconciled(context, settings, models)


def _reconciled(context: RolloutContext, settings: dict[str, Rollout], models: list[str] | None) -> list[str]:
    actions = foreign_files.set_aside(context.home)
    engines = context.engines.all()
    running = [r for engine in engines for r in engine.all()]
    live = {e.model for e in context.ledger.newest(*MOVES)}
    errors: list[Exception] = []
    for model in models or sorted({*route_file.routed_models(context.home), *live, *(r.model for r in running)}):
        try:
            with context.leased(model, RECONCILE_WAIT_S, recovering=True) as leased:
                actions += _recover(*_with_settings(leased, model, settings.get(model)), engines)
        except LeaseBusy:
            actions.append(f"{model}: left alone, a rollout of it is going on")
        except Exception as error:
            errors.append(error)
    _wait_for_routes(context, models)
    # That MLflow is away is one line, for however many models.
    actions = list(dict.fromkeys(actions))
    if errors:
        for line in actions:
            logger.info("%s", line)
        raise errors[0]
    return actions


def _wait_for_routes(context: RolloutContext, models: list[str] | None) -> None:
    """Waits until Traefik follows the files in routes/ again: one that another hand had emptied took its model off the router.

    It may have been restored by another process, just before. Nobody waits for a router that does not answer at all.
    """
    until = time.monotonic() + SWITCH_LIMIT_S
    for model in models or route_file.routed_models(context.home):
        try:
            current = route_file.read(context.home, model)
        except RolloutError:
            continue
        if current is None:
            continue
        address = context.address(model)
        status, _, stamp = probe.through_router(address)
        if status and stamp != current.stamp and any(map(answers, current.answering)):
            probe.wait_for_stamp(address, current.stamp, max(0.0, until - time.monotonic()))


def _with_settings(
    context: RolloutContext, model: str, settings: Rollout | None
) -> tuple[RolloutContext, str, Rollout]:
    """A model without a block goes by the settings it went live with; where the ledger has none either, no slot is started."""
    settings = settings or recorded_settings(context.ledger, model)
    return replace(context, may_start=settings is not None), model, settings or Rollout()


def _recover(context: RolloutContext, model: str, settings: Rollout, engines: Sequence[Engine]) -> list[str]:
    actions: list[str] = []
    current = recover_route(context, model, settings, actions, rebuild=True)
    if current is not None:
        current = _end_due_predecessor(context, current, settings, actions)
        before = current.previous
        if not answers(current.live):
            current = restart_live(context, current, settings, actions)
        current = settings_change.apply(context, current, settings, actions)
        current = predecessor.start_again(context, current, before, settings, actions)
        if not _kept_long_enough(context, model, settings):
            current = predecessor.bring_back(context, current, settings, actions)
        _restore_alias(context, current, actions)
    # By address: when two engines have a server in one slot, the route names one of them.
    named = [] if current is None else [s.address for s in (current.live, current.previous) if s is not None]
    for engine in engines:
        for running in engine.all():
            if running.model == model and running.address not in named:
                context.end_slot(engine, model, running.slot, settings.drain_s)
                actions.append(f"{model} {running.slot}: ended version {running.version}, which no route names")
    return actions


def _restore_alias(context: RolloutContext, current: Route, actions: list[str]) -> None:
    """Puts MLflow's alias back on the live version when another hand moved or deleted it, and says what else does not agree.

    The alias never names the live version's number while that is another package in MLflow.
    """
    model, live = current.model, current.live
    try:
        held = context.registry.held(model, live.version, live.digest)
        if held.has_version and not held.is_another and held.champion != live.version:
            context.promote(model, live.version)
            was = f"on version {held.champion}" if held.champion else "gone"
            again = f"it is on version {live.version} again, which is live"
            actions.append(f"{model}: MLflow's alias champion was {was}; {again}")
            held = replace(held, champion=live.version)
        actions += registry_agreement.lines(model, live.version, held, context.registry.uri)
    except RegistryError as error:
        actions.append(registry_agreement.away(error))


def recover_route(
    context: RolloutContext, model: str, settings: Rollout, actions: list[str] | None = None, *, rebuild: bool = False
) -> Route | None:
    """Finishes or undoes a rollout that was cut off, then returns the model's route; None when nothing is live.

    Adds a line to `actions` for each thing that it did. Raises RolloutError for a route that somebody else changed; with
    `rebuild` it writes such a route again.
    """
    actions = [] if actions is None else actions
    begun = open_rollout(context.ledger, model)
    if begun is not None and isinstance(begun.event, UndeployStarted):
        undeploy.take_down(context, model, settings.drain_s, begun.event.reason)
        actions.append(f"{model}: an undeploy was cut off and is completed; nothing of it is live")
        return None
    current = _rebuild_route(context, model, settings, actions) if rebuild else route_file.read(context.home, model)
    opened = open_rollout(context.ledger, model)
    if current is not None and opened is not None:
        _check_followed(context, current)
    if current is not None and current.candidate is not None:
        candidate = current.candidate
        live = _answer_or_restart(context, model, current.live, settings, actions)
        current = context.move_route(Route(model, live))
        context.empty_slot(model, candidate.slot, settings.drain_s)
        actions.append(f"{model}: version {live.version} has all traffic again, {candidate.version} was cut off")
    if current is not None and not is_recorded(context.ledger, model, current.live):
        return _finish_or_undo(context, current, opened, settings, actions)
    if opened is not None:
        version, slot = opened.event.version, opened.event.slot or None
        restore_champion(context, model, opened, current.live.version if current is not None else None)
        context.record(RolloutFailed(version=version, slot=slot, error="it was cut off"), model)
        actions.append(f"{model}: the rollout of version {version} was cut off and is undone")
    return current


def _check_followed(context: RolloutContext, current: Route) -> None:
    """Raises RolloutError when Traefik does not follow the route file.

    The rollout may have been killed just after it wrote the file, and the ledger is about to say what is live: Traefik must
    really follow the file. Where no slot answers this is skipped, because restarting one writes the route again.
    """
    address = context.address(current.model)
    if any(map(answers, current.answering)) and not probe.wait_for_stamp(address, current.stamp, SWITCH_LIMIT_S):
        raise RolloutError(
            f"route {current.model}", f"{address} does not follow its file", "is Traefik up? look at its log"
        )


def _finish_or_undo(
    context: RolloutContext, current: Route, opened: Entry[Opening] | None, settings: Rollout, actions: list[str]
) -> Route:
    """Returns the route when it has a live version that the ledger does not know yet.

    A rollback, a rollout whose bake ended well, and one without a predecessor in the route are finished; any other is undone.
    """
    model, live, previous = current.model, current.live, current.previous
    baked = bool(context.ledger.events(Baked, model=model, after=opened.seq if opened else 0))
    rollback = opened.event if opened is not None and isinstance(opened.event, RollbackStarted) else None
    if opened is not None and not (baked or rollback) and previous is not None:
        return _undo_in_bake(context, model, live, previous, settings, actions)
    if not answers(live):
        current = restart_live(context, current, settings, actions)
        live = current.live
    context.promote(model, live.version)
    version, slot = live.version, live.slot
    if rollback is not None:
        reason, left = rollback.reason, rollback.left
        back = RolledBack(version=version, slot=slot, switch_s=0.0, completed_later=True, reason=reason, left=left)
        back = replace(back, asked_by=rollback.asked_by)
        context.record(replace(back, digest=live.digest or None, left_digest=rollback.left_digest), model)
    else:
        before = previous.version if previous else None
        ended = RolloutEnded(version=version, slot=slot, switch_s=0.0, completed_later=True, previous=before)
        context.record(replace(ended, digest=live.digest or None), model)
    actions.append(f"{model}: version {live.version} is live; its missing end is now in the ledger")
    return current


def _undo_in_bake(
    context: RolloutContext,
    model: str,
    live: RoutedSlot,
    previous: RoutedSlot,
    settings: Rollout,
    actions: list[str],
) -> Route:
    """Gives `previous` all traffic again after a rollout of `live` was cut off in its bake; returns the route."""
    previous = _answer_or_restart(context, model, previous, settings, actions)
    restore_traffic(context, model, Route(model, previous), live.slot, settings.drain_s)
    reason = f"the rollout of version {live.version} was cut off in its bake"
    undone = RolledBack(version=previous.version, slot=previous.slot, reason=reason, left=live.version)
    context.record(replace(undone, digest=previous.digest or None, left_digest=live.digest or None), model)
    actions.append(f"{model}: back on version {previous.version}, {reason}")
    return route_file.read(context.home, model) or Route(model, previous)


def restore_traffic(
    context: RolloutContext, model: str, before: Route | None, failed_slot: str, drain_s: float
) -> bool:
    """Gives the live slot of `before` all traffic and empties `failed_slot`; returns whether that one had all traffic.

    `before` None means that nothing was live: the model leaves the router.
    """
    current = route_file.read(context.home, model)
    had_all = current is not None and current.live.slot == failed_slot
    if before is None:
        context.remove_route(model)
    elif current is None or replace(current, stamp="", rate_limit=0) != Route(model, before.live):
        leave(context, current, Route(model, before.live))
    context.empty_slot(model, failed_slot, drain_s)
    return had_all


def leave(context: RolloutContext, current: Route | None, to: Route) -> Route:
    """Moves the route away from a slot of `current` that is to get no traffic any more; that slot may have died."""
    if current is not None and to.live in (current.live, current.previous):
        leaving = current.candidate if to.live == current.live else current.live
        if leaving is not None and not answers(leaving):
            # Traefik retries a request with the configuration that the request began with, and ends that one's health checks
            # once the file changes. Wait until Traefik has found the slot dead, or those retries go to it until they give up.
            probe.wait_for_version(context.address(to.model), to.live.version, SWITCH_LIMIT_S)
    return context.move_route(to)


def restore_champion(context: RolloutContext, model: str, opened: Entry[Opening], version: str | None) -> None:
    """Makes `version` the champion again (None: no champion), when the rollout that `opened` began had promoted its own."""
    if not context.ledger.events(Promoting, model=model, after=opened.seq):
        return
    if version is None:
        context.demote(model)
    else:
        context.promote(model, version)


def _rebuild_route(context: RolloutContext, model: str, settings: Rollout, actions: list[str]) -> Route | None:
    """The route of the file; written again from the ledger when another hand has changed or removed it."""
    try:
        current = route_file.read(context.home, model)
        why = "is gone"
    except RolloutError as error:
        current, why = None, error.observation
    live = live_at(context.ledger, model)
    if current is not None or (live is None and not route_file.route_file(context.home, model).is_file()):
        return current
    if live is None:
        context.remove_route(model)
        actions.append(f"{model}: its route {why}, and no version of it was ever live; removed")
        return None
    running = [r for e in context.engines.all() for r in e.all() if r.model == model and r.version == live.version]
    answering = [routed for routed in map(slots.routed_slot, running) if answers(routed)]
    if answering:
        routed = replace(answering[0], digest=live.digest)
    else:
        folder = context.registry.deployable_package(model, live.version, live.digest)
        routed = slots.fill(context, model, live.version, live.slot, folder, settings, goes_on=True).routed
    written = context.move_route(Route(model, routed))
    actions.append(f"{model}: its route {why}; written again for version {routed.version}, as the ledger says")
    return written


def retire(context: RolloutContext, model: str, settings: Rollout) -> list[str]:
    """Ends the model's predecessor when it was kept warm for `keep_hours`; returns its actions, one line each.

    Does nothing while a rollout is going on or has no end in the ledger.
    """
    actions: list[str] = []
    current = route_file.read(context.home, model)
    if current is None or not _is_due(context, current, settings):
        return actions
    try:
        with context.leased(model) as leased:
            current = route_file.read(context.home, model)
            if current is not None and open_rollout(context.ledger, model) is None:
                _end_due_predecessor(leased, current, settings, actions)
    except LeaseBusy:
        return actions
    return actions


def _is_due(context: RolloutContext, current: Route, settings: Rollout) -> bool:
    if current.previous is None or current.candidate is not None:
        return False
    return _kept_long_enough(context, current.model, settings)


def _kept_long_enough(context: RolloutContext, model: str, settings: Rollout) -> bool:
    """Whether a predecessor of what is live has been warm for `keep_hours`."""
    live = live_at(context.ledger, model)
    if live is None:
        return False
    return context.clock() - datetime.fromisoformat(live.since) >= timedelta(hours=settings.keep_hours)


def _end_due_predecessor(context: RolloutContext, current: Route, settings: Rollout, actions: list[str]) -> Route:
    """Ends a predecessor that was warm for longer than `keep_hours`; returns the route, unchanged when none is due."""
    previous = current.previous
    if previous is None or not _is_due(context, current, settings) or not answers(current.live):
        return current
    # The route first: it must not fall back on a slot that has ended.
    live_only = context.move_route(Route(current.model, current.live))
    context.empty_slot(current.model, previous.slot, settings.drain_s)
    actions.append(
        f"{current.model} {previous.slot}: ended version {previous.version}, kept for {settings.keep_hours:g} h"
    )
    return live_only


def restart_live(context: RolloutContext, current: Route, settings: Rollout, actions: list[str]) -> Route:
    """The route with its live version started again in its slot; a warm predecessor answers meanwhile."""
    live = _answer_or_restart(context, current.model, current.live, settings, actions)
    previous = current.previous if current.previous is not None and answers(current.previous) else None
    return context.move_route(Route(current.model, live, previous))


def _answer_or_restart(
    context: RolloutContext, model: str, routed: RoutedSlot, settings: Rollout, actions: list[str]
) -> RoutedSlot:
    """The slot; when it does not answer, it is started and proven again before it gets traffic."""
    if answers(routed):
        return routed
    folder = context.registry.deployable_package(model, routed.version, routed.digest)
    proven = slots.fill(context, model, routed.version, routed.slot, folder, settings, goes_on=True)
    context.record(SlotRevived(version=routed.version, slot=routed.slot, engine=proven.engine.name), model)
    actions.append(f"{model} {routed.slot}: started version {routed.version} again ({proven.engine_reason})")
    return proven.routed
