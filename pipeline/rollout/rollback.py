"""Rolls back: onto the warm predecessor at once, onto a cold one after starting and proving it."""

from __future__ import annotations

import time
from dataclasses import replace as replace_fields

from pipeline.errors import LeaseBusy, RolloutError
from pipeline.ledger.rollout_events import AbortAsked, RollbackStarted, RolledBack, RolloutFailed
from pipeline.ledger.timeline import live_version, predecessor
from pipeline.rollout import recovery, slots
from pipeline.rollout.context import RolloutContext, answers, check_router, other
from pipeline.rollout.results import Rollback
from pipeline.rollout.routing.route import Route, Share
from pipeline.settings.models import Rollout

# How long a rollout that is called back may take to give the traffic back.
CALL_BACK_S = 30.0


def rollback(context: RolloutContext, model: str, settings: Rollout, reason: str = "by hand") -> Rollback:
    """Brings the predecessor live again, with all traffic.

    A rollout that is going on is called back instead: it gives the champion all traffic and ends. What is left is the
    version that is live or on its way when this is asked: when another has left it by the time that this one's turn
    comes, nothing moves and `already` is true. Raises RolloutError when there is nothing to go back to.
    """
    leaving = _on_its_way(context, model)
    try:
        with context.alone(model) as alone:
            return _roll_back(alone, model, settings, reason, leaving)
    except LeaseBusy:
        asked = context.ledger.append(AbortAsked(reason=reason), model, context.run, "roll_out")
    with context.alone(model, CALL_BACK_S) as alone:
        ended = context.ledger.events(RolloutFailed, model=model, after=asked.seq)
        current = recovery.unfinished(alone, model, settings)
        if not ended or current is None:
            return _roll_back(alone, model, settings, reason, leaving)
    return replace_fields(_nothing_moved(current, ended[-1].event.version), called_back=True)


def replace(context: RolloutContext, model: str, settings: Rollout, reason: str, leaving: str, by: str) -> Rollback:
    """Goes back from the version `leaving` to the version `by`, as `rollback` does, but calls no rollout back.

    Raises LeaseBusy when one is going on.
    """
    with context.alone(model) as alone:
        return _roll_back(alone, model, settings, reason, leaving, by)


def _on_its_way(context: RolloutContext, model: str) -> str:
    """The version that who asks now wants to leave: the newest that gets or is to get traffic; '' when nothing is live."""
    opened = recovery.open_rollout(context.ledger, model)
    if opened is not None:
        return opened.event.leaving
    return live_version(context.ledger, model)


def _nothing_moved(current: Route, left: str) -> Rollback:
    return Rollback(current.live.version, current.live.slot, left, 0.0)


def _roll_back(
    context: RolloutContext, model: str, settings: Rollout, reason: str, leaving: str, by: str | None = None
) -> Rollback:
    current = recovery.unfinished(context, model, settings)
    if current is None:
        raise RolloutError(
            f"model {model}", "is not live", f"deploy a version first: `python -m pipeline deploy {model} VERSION`"
        )
    if leaving and current.live.version != leaving:
        return replace_fields(_nothing_moved(current, leaving), already=True)
    check_router(context)
    left = current.live
    back, warm = _predecessor(context, current, settings, by)
    started = RollbackStarted(version=back.version, slot=back.slot, left=left.version, reason=reason)
    context.record(started, model)
    start = time.monotonic()
    context.move(Route(model, back, left if answers(left) else None))
    switch_s = time.monotonic() - start
    context.promote(model, back.version)
    result = Rollback(back.version, back.slot, left.version, round(switch_s, 3), reason, warm)
    context.record(RolledBack.read(result.as_dict()), model)
    return result


def _predecessor(context: RolloutContext, current: Route, settings: Rollout, by: str | None) -> tuple[Share, bool]:
    """(the slot to go back to, whether it was warm), with version `by` (None: whatever was live before).

    A cold one is started in the idle slot.
    """
    warm = current.previous
    if warm is not None and by in (None, warm.version) and answers(warm):
        return warm, True
    version = by or predecessor(context.ledger, current.model, current.live.version)
    if version is None:
        raise RolloutError(
            f"model {current.model}",
            "has no predecessor to go back to",
            f"deploy another version: `python -m pipeline deploy {current.model} VERSION`",
        )
    folder = context.registry.deployable_package(current.model, version)
    slot = other(current.live.slot)
    return slots.fill(context, current.model, version, slot, folder, settings).share, False
