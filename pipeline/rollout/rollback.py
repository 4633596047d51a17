"""Rolls back: onto the warm predecessor at once, onto a cold one after starting and proving it."""

from __future__ import annotations

import time
from typing import Any

from pipeline.errors import RolloutError
from pipeline.ledger import lease
from pipeline.ledger.store import Event
from pipeline.ledger.timeline import live_at, predecessor
from pipeline.registry import versions as registry
from pipeline.rollout import recovery, slots
from pipeline.rollout.context import RolloutContext, answers, check_router, other
from pipeline.rollout.routing.route import Route, Share
from pipeline.settings.models import Rollout

# How long a rollout that is called back may take to give the traffic back.
CALL_BACK_S = 30.0


def rollback(context: RolloutContext, model: str, settings: Rollout, reason: str = "by hand") -> dict[str, Any]:
    """Brings the predecessor live again, with all traffic. Returns {"version", "slot", "left", "switch_s", …}.

    A rollout that is going on is called back instead: it gives the champion all traffic and ends. What is left is the
    version that is live or on its way when this is asked: when another has left it by the time that this one's turn
    comes, nothing moves and `already` is true. Raises RolloutError when there is nothing to go back to.
    """
    leaving = _on_its_way(context, model)
    try:
        with context.alone(model) as alone:
            return _roll_back(alone, model, settings, reason, leaving)
    except RolloutError as error:
        if error.observation != lease.BUSY:
            raise
    asked = context.ledger.append(Event("abort_asked", model, context.run, "roll_out", {"reason": reason}))
    with context.alone(model, CALL_BACK_S) as alone:
        ended = context.ledger.events(kind="rollout_failed", model=model, after=asked.seq)
        current = recovery.unfinished(alone, model, settings)
        if not ended or current is None:
            return _roll_back(alone, model, settings, reason, leaving)
    return {**_nothing_moved(current, ended[-1].body["version"]), "called_back": True}


def replace(
    context: RolloutContext, model: str, settings: Rollout, reason: str, leaving: str, by: str
) -> dict[str, Any]:
    """Goes back from the version `leaving` to the version `by`, as `rollback` does, but calls no rollout back.

    Raises RolloutError (its observation is lease.BUSY) when one is going on.
    """
    with context.alone(model) as alone:
        return _roll_back(alone, model, settings, reason, leaving, by)


def _on_its_way(context: RolloutContext, model: str) -> str:
    """The version that who asks now wants to leave: the newest that gets or is to get traffic; '' when nothing is live."""
    opened = recovery.open_rollout(context.ledger, model)
    if opened is not None:
        return opened.body["left" if opened.kind == "rollback_started" else "version"]
    return (live_at(context.ledger, model) or {}).get("version", "")


def _nothing_moved(current: Route, left: str) -> dict[str, Any]:
    return {"version": current.live.version, "slot": current.live.slot, "left": left, "switch_s": 0.0}


def _roll_back(
    context: RolloutContext, model: str, settings: Rollout, reason: str, leaving: str, by: str | None = None
) -> dict[str, Any]:
    current = recovery.unfinished(context, model, settings)
    if current is None:
        raise RolloutError(
            f"model {model}", "is not live", f"deploy a version first: `python -m pipeline deploy {model} VERSION`"
        )
    if leaving and current.live.version != leaving:
        return {**_nothing_moved(current, leaving), "already": True}
    check_router(context)
    left = current.live
    back, warm = _predecessor(context, current, settings, by)
    context.note("rollback_started", model, version=back.version, slot=back.slot, left=left.version, reason=reason)
    start = time.monotonic()
    context.move(Route(model, back, left if answers(left) else None))
    switch_s = time.monotonic() - start
    context.promote(model, back.version)
    told = {
        "version": back.version,
        "slot": back.slot,
        "left": left.version,
        "reason": reason,
        "warm": warm,
        "switch_s": round(switch_s, 3),
    }
    context.note("rolled_back", model, **told)
    return told


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
    folder = registry.deployable_package(context.home, current.model, version)
    slot = other(current.live.slot)
    return slots.fill(context, current.model, version, slot, folder, settings).share, False
