"""Carries a rollout out: start, prove, move share by share, watch, promote. What it may do next is judged elsewhere.

Each side effect has an event in the ledger before and after it. Whatever goes wrong, the champion gets all traffic
back, and the candidate's slot is emptied.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import LedgerError, PerennialError, RolloutError
from pipeline.ledger.store import Event
from pipeline.ledger.timeline import live_at
from pipeline.registry import versions as registry
from pipeline.rollout import recovery, slots, step_watch
from pipeline.rollout.context import RolloutContext, answers, check_router, other
from pipeline.rollout.engines.base import SLOTS, Running
from pipeline.rollout.engines.select import engines
from pipeline.rollout.routing import route_file
from pipeline.rollout.routing.route import Route, Share
from pipeline.rollout.step_watch import SHADOW, Step
from pipeline.settings.models import STRATEGIES, Rollout


@dataclass(frozen=True)
class Plan:
    """One rollout: which version goes where, how, and what was live before it."""

    model: str
    version: str
    slot: str
    strategy: str
    reason: str
    before: Route | None
    settings: Rollout

    @property
    def champion(self) -> Share | None:
        return self.before.live if self.before is not None else None


def deploy(
    context: RolloutContext,
    model: str,
    version: str,
    settings: Rollout,
    reason: str = "by hand",
    strategy: str | None = None,
    wait_s: float = 0,
) -> dict[str, Any]:
    """Brings a registered version live. Returns {"version", "slot", "previous", "switch_s", …}.

    `strategy` None means the one of `settings`; the first version of a model has nobody to share with and gets all at
    once. A shadow promotes nothing: it returns {"verdict", "looks", …}. Another rollout of the model is waited for at
    most `wait_s`.

    Raises RolloutError (or RegistryError) with the live version untouched or restored.
    """
    strategy = strategy or settings.strategy
    if strategy not in STRATEGIES:
        raise RolloutError(f"strategy {strategy}", "is not known", f"use {', '.join(STRATEGIES)}")
    with context.alone(model, wait_s) as context:
        started = time.monotonic()
        check_router(context)
        folder = registry.deployable_package(context.home, model, version)
        current = recovery.unfinished(context, model, settings)
        if current is not None and current.live.version == version and answers(current.live):
            return _finish_live(context, model, current.live)
        if current is None and strategy == "shadow":
            raise RolloutError(f"model {model}", "has nothing live to shadow", "deploy a first version all-at-once")
        slot = SLOTS[0] if current is None else other(current.live.slot)
        plan = Plan(model, version, slot, strategy if current else "all-at-once", reason, current, settings)
        opened = context.note(
            "rollout_started",
            model,
            version=version,
            slot=slot,
            strategy=plan.strategy,
            reason=reason,
            before=current.live.version if current else None,
        )
        try:
            proven = slots.fill(context, model, version, slot, folder, settings, shadow=strategy == "shadow")
            told = _shadow(context, plan, proven) if strategy == "shadow" else _go_live(context, plan, proven, started)
        except BaseException as error:
            _undo(context, plan, opened, error)
            raise
        if strategy != "shadow":
            _prune(context, plan)
        return told


def _finish_live(context: RolloutContext, model: str, live: Share) -> dict[str, Any]:
    """The version is live already: sees to it that registry and ledger say so too."""
    if registry.champion(context.home, model) != live.version:
        context.promote(model, live.version)
    told = {"version": live.version, "slot": live.slot, "already_live": True, "switch_s": 0.0}
    if (live_at(context.ledger, model) or {}).get("version") != live.version:
        context.note("rollout_ended", model, **told)
    return told


def _go_live(context: RolloutContext, plan: Plan, proven: slots.Proven, started: float) -> dict[str, Any]:
    """Share by share, then all; each is watched. Then the version is the champion."""
    new = proven.share
    for percent in plan.settings.percents(plan.strategy):
        assert plan.before is not None
        context.move(Route(plan.model, plan.before.live, candidate=new, percent=percent, follow=plan.settings.follow))
        judged = step_watch.watch(context, Step(plan.model, plan.champion, new, percent), plan.settings)
        context.note("step_baked", plan.model, version=plan.version, percent=percent, **judged.as_dict())
    warm = plan.champion if plan.champion is not None and answers(plan.champion) else None
    moving = time.monotonic()
    context.move(Route(plan.model, new, warm))
    moved = time.monotonic()
    judged = step_watch.watch(context, Step(plan.model, plan.champion, new, 100), plan.settings)
    context.note("baked", plan.model, version=plan.version, slot=plan.slot, **judged.as_dict())
    context.promote(plan.model, plan.version)
    told = {
        "version": plan.version,
        "slot": plan.slot,
        "engine": proven.engine.name,
        "engine_reason": proven.engine_reason,
        "strategy": plan.strategy,
        "reason": plan.reason,
        "previous": plan.champion.version if plan.champion else None,
        "ready_s": round(proven.ready_s, 3),
        "switch_s": round(moved - moving, 3),
        "to_traffic_s": round(moved - started, 3),
    }
    context.note("rollout_ended", plan.model, **told)
    return told


def _prune(context: RolloutContext, plan: Plan) -> None:
    """What no longer helps anybody to start goes. The version is live: that this fails is told, and undoes nothing."""
    keep = {plan.version, *([plan.champion.version] if plan.champion else [])}
    try:
        for engine in context.engines():
            engine.prune(plan.model, keep)
    except Exception as error:
        print(f"{plan.model}: old images stay, they could not be removed ({error})")
        context.note("prune_failed", plan.model, error=str(error) or type(error).__name__)


def _shadow(context: RolloutContext, plan: Plan, proven: slots.Proven) -> dict[str, Any]:
    """Copies of the champion's requests go to the candidate, whose answers nobody gets; then all is as before."""
    assert plan.before is not None
    percent = plan.settings.shadow_percent
    copied = Route(plan.model, plan.before.live, candidate=proven.share, percent=percent, mirror=True)
    context.move(copied)
    judged = step_watch.shadow(context, Step(plan.model, plan.champion, proven.share, SHADOW), plan.settings)
    context.move(Route(plan.model, plan.before.live))
    context.empty(plan.model, plan.slot, plan.settings.drain_s)
    told = {
        "version": plan.version,
        "slot": plan.slot,
        "engine": proven.engine.name,
        "engine_reason": proven.engine_reason,
        "strategy": "shadow",
        "champion": plan.before.live.version,
        **judged.as_dict(),
    }
    context.note("shadow_ended", plan.model, **told)
    return told


def _undo(context: RolloutContext, plan: Plan, opened: Event, error: BaseException) -> None:
    """Gives the champion all traffic and its alias back, and empties the candidate's slot; says in the ledger why."""
    why = str(error) or type(error).__name__
    try:
        moved = recovery.give_back(context, plan.model, plan.before, plan.slot, plan.settings.drain_s)
        recovery.restore_champion(context, plan.model, opened, plan.champion.version if plan.champion else None)
        if moved and plan.before is not None:
            reason = f"version {plan.version} failed: {why}"
            context.note("rolled_back", plan.model, **vars_of(plan.before.live), reason=reason, left=plan.version)
        context.note("rollout_failed", plan.model, version=plan.version, slot=plan.slot, error=why)
    except PerennialError as second:
        if isinstance(second, LedgerError) and plan.before is not None:
            # Users do not wait for the ledger: the file itself refuses an older rollout. `reconcile` tells it later.
            with contextlib.suppress(PerennialError):
                route_file.write(context.home, Route(plan.model, plan.before.live), context.token)
        if str(second) != str(error):
            raise RolloutError(
                f"model {plan.model}", f"{why}; and going back failed: {second}", "run `python -m pipeline reconcile`"
            ) from error


def vars_of(share: Share) -> dict[str, Any]:
    """What the ledger's moves say of a slot."""
    return {"version": share.version, "slot": share.slot}


def stop_all(home: Path, project: Path, drain_s: float = 10) -> list[Running]:
    """Ends every slot of this home, in every engine. The routes stay: `reconcile` starts their live slots again."""
    ended = []
    for engine in engines(home, project):
        for running in engine.all():
            engine.stop(running.model, running.slot, drain_s)
            ended.append(running)
        engine.leave()
    return ended
