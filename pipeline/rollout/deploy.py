"""Carries a rollout out: start, prove, then move traffic and watch it step by step, promote.

pipeline.policy.canary judges each step. Each change to route, slots or registry has an event in the ledger before and after it. A
rollout that fails gives the champion, if there is one, all traffic back and empties the candidate's slot.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.errors import LedgerError, PerennialError, RolloutError
from pipeline.gates import schema
from pipeline.ledger.package_of_version import PackageOfVersion
from pipeline.ledger.rollout_events import (
    SCHEMA_ACCEPTED,
    Baked,
    Opening,
    PruneFailed,
    Replayed,
    RolledBack,
    RolloutEnded,
    RolloutFailed,
    RolloutStarted,
    ShadowEnded,
    StepBaked,
)
from pipeline.ledger.store import Entry
from pipeline.registry.packages import package_digest
from pipeline.rollout import (
    approval,
    image_contents,
    precedence,
    predecessor,
    recovery,
    settings_change,
    slots,
    step_watch,
)
from pipeline.rollout.context import RolloutContext, answers, check_router, other_slot
from pipeline.rollout.engines.base import SLOTS, Running
from pipeline.rollout.engines.select import Engines
from pipeline.rollout.evidence_needed import EvidenceNotice
from pipeline.rollout.replay import Replay, ReplayedLog, replayed_log
from pipeline.rollout.results import Deployment, ShadowResult
from pipeline.rollout.routing import route_file
from pipeline.rollout.routing.route import Route, RoutedSlot
from pipeline.rollout.step_watch import REPLAY, SHADOW, Step
from pipeline.serving.schema import Schema
from pipeline.settings.rollout import STRATEGIES, Rollout
from pipeline.training import signing

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """One rollout: the version, its slot, its strategy and reason, and the route before it."""

    model: str
    version: str
    slot: str
    strategy: str
    reason: str
    before: Route | None
    settings: Rollout
    digest: str

    @property
    def champion(self) -> RoutedSlot | None:
        return self.before.live if self.before is not None else None


def deploy(
    context: RolloutContext,
    model: str,
    version: str,
    settings: Rollout,
    reason: str = "by hand",
    strategy: str | None = None,
    wait_s: float = 0,
    accept_schema_change: bool = False,
) -> Deployment | ShadowResult:
    """Brings a registered version live.

    `strategy` None means `rollout.strategy`. A model's first version gets all traffic at once, because there is no
    other version to share the traffic with. A shadow promotes nothing: it returns its verdict. Waits at most `wait_s` seconds
    for the model's lease, which another rollout may hold. Only with `accept_schema_change` the version may take other columns
    than the live one. A run's version may have come too late (pipeline.rollout.precedence).

    Raises RolloutError or RegistryError; the live version is then untouched or restored.
    """
    strategy = strategy or settings.strategy
    if strategy not in STRATEGIES:
        raise RolloutError(
            f"strategy {strategy}", "is not known", f"rollout.strategy must be one of {', '.join(STRATEGIES)}"
        )
    if fault := settings.nothing_to_judge(strategy):
        raise RolloutError(f"model {model}", fault, "set one of these rollout.limits, or use strategy all-at-once")
    with context.leased(model, wait_s) as context:
        started = time.monotonic()
        approved = approval.approved_package(context, model, version, settings.engine)
        check_router(context)
        folder = approved or context.registry.deployable_package(model, version)
        current = recovery.recover_route(context, model, settings)
        wanted = PackageOfVersion(version, package_digest(folder))
        same_number = current is not None and current.live.version == version
        other_package = current is not None and same_number and not current.live.package.is_same(wanted)
        if strategy != "shadow" and (not same_number or other_package):
            precedence.check(context.ledger, context.run, model, version)
        if current is not None and not answers(current.live) and predecessor.warm(current) is not None:
            current = _revive_live(context, current, settings)
        if current is not None and answers(current.live):
            current, changed = _apply_settings(context, current, "" if other_package else version, settings)
            if current.live.version == version and not other_package:
                return _finish_live(context, model, current.live, changed)
        if current is None and strategy == "shadow":
            raise RolloutError(f"model {model}", "has no live version to shadow", "deploy a first version all-at-once")
        if current is not None:
            reason += _accepted_change(context, model, version, folder, current, accept_schema_change)
        slot = SLOTS[0] if current is None else other_slot(current.live.slot)
        if other_package and strategy != "all-at-once":
            # Prediction log and route name versions by number, so two packages of one number cannot share the traffic.
            logger.warning("%s: version %s is another package than the live one of this number", model, version)
            strategy = "all-at-once"
        planned = strategy if current else "all-at-once"
        plan = Plan(model, version, slot, planned, reason, current, settings, wanted.digest)
        return _carry_out(context, plan, folder, started)


def _revive_live(context: RolloutContext, current: Route, settings: Rollout) -> Route:
    """Starts a live slot that does not answer, so that the predecessor which covers it may make room.

    A version that does not start keeps nobody from deploying another one.
    """
    try:
        return recovery.restart_live(context, current, settings, [])
    except PerennialError as error:
        context.check_lease()
        logger.warning("%s: version %s, which is live, does not start (%s)", current.model, current.live.version, error)
        return current


def _carry_out(context: RolloutContext, plan: Plan, folder: Path, started: float) -> Deployment | ShadowResult:
    """The rollout itself, between its first event and its last."""
    before, shadow = plan.before, plan.strategy == "shadow"
    warm = predecessor.warm(before)
    started_event = RolloutStarted(
        version=plan.version,
        slot=plan.slot,
        strategy=plan.strategy,
        reason=plan.reason,
        before=before.live.version if before else None,
        digest=plan.digest,
        warm=warm.version if warm is not None else None,
        warm_digest=warm.digest or None if warm is not None else None,
    )
    log = _log_to_replay(context, plan)
    opened = context.record(started_event, plan.model)
    try:
        predecessor.make_room(context, before)
        proven = slots.fill(context, plan.model, plan.version, plan.slot, folder, plan.settings, shadow=shadow)
        result: Deployment | ShadowResult
        result = _shadow(context, plan, proven) if shadow else _go_live(context, plan, proven, started, log)
    except BaseException as error:
        _undo(context, plan, opened, error)
        predecessor.bring_back_after(context, plan.model, plan.settings)
        raise
    if shadow:
        predecessor.bring_back_after(context, plan.model, plan.settings)
    else:
        _prune(context, plan)
    return result


def _apply_settings(
    context: RolloutContext, current: Route, version: str, settings: Rollout
) -> tuple[Route, list[str]]:
    """(the route, the slots that run with changed settings now, one line each). What is live never has other settings than a candidate.

    A live version that does not start with them keeps nobody from deploying another one; it will not be kept warm.
    """
    actions: list[str] = []
    is_live = current.live.version == version
    try:
        return settings_change.apply(context, current, settings, actions, keep_warm=is_live), actions
    except RolloutError as error:
        if is_live:
            raise
        context.check_lease()
        logger.warning("%s", error)
        return route_file.read(context.home, current.model) or current, actions


def _accepted_change(
    context: RolloutContext, model: str, version: str, folder: Path, current: Route, accept: bool
) -> str:
    """The words for the ledger on a schema change that was accepted; '' without a change. Raises RolloutError for any other."""
    live = current.live.version
    subject = f"version {version} of {model}"
    try:
        before = context.registry.package_folder(model, live, current.live.digest)
        changed = schema.changes(_schema(before), _schema(folder))
    except (PerennialError, OSError, ValueError, KeyError, TypeError) as error:
        changed = [f"its columns cannot be compared with those of version {live} ({error})"]
    if changed and not accept:
        raise RolloutError(subject, f"beside version {live}, which is live: {', '.join(changed)}", schema.ACCEPT)
    return f"; {SCHEMA_ACCEPTED}: {', '.join(changed)}" if changed else ""


def _schema(folder: Path) -> Schema:
    return Schema.of_manifest(json.loads((folder / signing.MANIFEST).read_text(encoding="utf-8")))


def _finish_live(context: RolloutContext, model: str, live: RoutedSlot, changed: list[str]) -> Deployment:
    """The version is live already: makes registry and ledger say so too."""
    if context.registry.champion(model) != live.version:
        context.promote(model, live.version)
    result = Deployment(live.version, live.slot, 0.0, already_live=True, changed=changed or None)
    if not recovery.is_recorded(context.ledger, model, live):
        context.record(replace(RolloutEnded.read(result.as_dict()), digest=live.digest or None), model)
    return result


def _go_live(
    context: RolloutContext, plan: Plan, proven: slots.ProvenSlot, started: float, log: ReplayedLog | None
) -> Deployment:
    """Replays the log, if there is one, moves the traffic step by step, bakes each step, and promotes the version."""
    candidate = proven.routed
    image_contents.keep(context, proven.engine, plan.model, plan.version, plan.slot)
    notice = EvidenceNotice(context, plan.model, plan.champion, plan.strategy, plan.settings)
    if log is not None:
        _replay(context, plan, proven, notice, log)
    for percent in plan.settings.percents(plan.strategy):
        assert plan.before is not None
        step = Step(plan.model, plan.champion, candidate, percent)
        notice.announce(step)
        step_watch.check_called_back(context, plan.model, plan.version)
        context.move_route(
            Route(plan.model, plan.before.live, candidate=candidate, percent=percent, follow=plan.settings.follow)
        )
        judged = step_watch.watch(context, step, plan.settings)
        context.record(StepBaked(version=plan.version, percent=percent, **judged.as_dict()), plan.model)
    champion = plan.champion
    outdated = champion is not None and settings_change.is_outdated(context, plan.model, champion, plan.settings)
    warm = champion if champion is not None and not outdated and answers(champion) else None
    last = Step(plan.model, plan.champion, candidate, 100)
    notice.announce(last)
    step_watch.check_called_back(context, plan.model, plan.version)
    moving = time.monotonic()
    context.move_route(Route(plan.model, candidate, warm))
    moved = time.monotonic()
    judged = step_watch.watch(context, last, plan.settings)
    context.record(Baked(version=plan.version, slot=plan.slot, **judged.as_dict()), plan.model)
    context.promote(plan.model, plan.version)
    if champion is not None and outdated:
        context.empty_slot(plan.model, champion.slot, plan.settings.drain_s)
    result = Deployment(
        version=plan.version,
        slot=plan.slot,
        engine=proven.engine.name,
        engine_reason=proven.engine_reason,
        strategy=plan.strategy,
        reason=plan.reason,
        previous=plan.champion.version if plan.champion else None,
        ready_s=round(proven.ready_s, 3),
        switch_s=round(moved - moving, 3),
        to_traffic_s=round(moved - started, 3),
    )
    context.record(replace(RolloutEnded.read(result.as_dict()), digest=candidate.digest or None), plan.model)
    return result


def _log_to_replay(context: RolloutContext, plan: Plan) -> ReplayedLog | None:
    """The requests that the plan's candidate is to get, None for another strategy. Raises RolloutError when there are none."""
    if plan.strategy != "replay" or plan.champion is None:
        return None
    candidate = RoutedSlot(plan.slot, plan.version, "", plan.digest)
    return replayed_log(context, plan.model, plan.champion, candidate, plan.settings)


def _replay(
    context: RolloutContext, plan: Plan, proven: slots.ProvenSlot, notice: EvidenceNotice, log: ReplayedLog
) -> None:
    """Proves the candidate on logged requests; users get no answer of it. Raises RolloutError when it is not proven."""
    step = Step(plan.model, plan.champion, proven.routed, REPLAY)
    notice.announce(step, log)
    with Replay.of(log, proven, plan.settings) as replay:
        judged = step_watch.watch(context, step, plan.settings, replay)
        replayed = Replayed(
            version=plan.version,
            requests=replay.sent,
            rows=replay.rows,
            left_out=dict(replay.left_out),
            **judged.as_dict(),
        )
    logger.info("%s %s", plan.model, replayed.sentence())
    context.record(replayed, plan.model)


def _prune(context: RolloutContext, plan: Plan) -> None:
    """Removes images of versions that are no longer live or warm. When it fails the new version stays live; the ledger says so."""
    keep = {plan.version, *([plan.champion.version] if plan.champion else [])}
    try:
        for engine in context.engines.all():
            engine.prune(plan.model, keep)
    except Exception as error:
        logger.warning("%s: old images stay, they could not be removed (%s)", plan.model, error)
        context.record(PruneFailed(error=str(error) or type(error).__name__), plan.model)


def _shadow(context: RolloutContext, plan: Plan, proven: slots.ProvenSlot) -> ShadowResult:
    """Copies the champion's requests to the candidate, whose answers users never get; then restores the route."""
    assert plan.before is not None
    percent = plan.settings.shadow_percent
    copied = Route(plan.model, plan.before.live, candidate=proven.routed, percent=percent, mirror=True)
    step = Step(plan.model, plan.champion, proven.routed, SHADOW)
    EvidenceNotice(context, plan.model, plan.champion, plan.strategy, plan.settings).announce(step)
    context.move_route(copied)
    judged = step_watch.shadow(context, step, plan.settings)
    context.move_route(Route(plan.model, plan.before.live))
    context.empty_slot(plan.model, plan.slot, plan.settings.drain_s)
    result = ShadowResult(
        version=plan.version,
        slot=plan.slot,
        engine=proven.engine.name,
        engine_reason=proven.engine_reason,
        champion=plan.before.live.version,
        **judged.as_dict(),
    )
    context.record(ShadowEnded.read(result.as_dict()), plan.model)
    return result


def _undo(context: RolloutContext, plan: Plan, opened: Entry[Opening], error: BaseException) -> None:
    """Gives traffic and alias back to the version that was live before, empties the candidate's slot, and records why."""
    why = str(error) or type(error).__name__
    try:
        moved = recovery.restore_traffic(context, plan.model, plan.before, plan.slot, plan.settings.drain_s)
        recovery.restore_champion(context, plan.model, opened, plan.champion.version if plan.champion else None)
        if moved and plan.before is not None:
            live, reason = plan.before.live, f"version {plan.version} failed: {why}"
            undone = RolledBack(version=live.version, slot=live.slot, reason=reason, left=plan.version)
            context.record(replace(undone, digest=live.digest or None, left_digest=plan.digest), plan.model)
        back = True if moved and plan.before is not None else None
        context.record(RolloutFailed(version=plan.version, slot=plan.slot, error=why, rolled_back=back), plan.model)
    except PerennialError as second:
        if isinstance(second, LedgerError) and _go_back_without_ledger(context, plan):
            logger.warning("%s: the traffic is where it was before; `reconcile` notes that in the ledger", plan.model)
        elif str(second) != str(error):
            raise RolloutError(
                f"model {plan.model}",
                f"{why}; and going back failed: {second}",
                f"run `perennial reconcile {plan.model}`",
            ) from error


def _go_back_without_ledger(context: RolloutContext, plan: Plan) -> bool:
    """Writes the route of before, though no event can be written; whether that was possible.

    `route_file` checks the lease's number, so that a rollout that was overtaken cannot.
    """
    try:
        if plan.before is not None:
            route_file.write(context.home, Route(plan.model, plan.before.live), context.token)
        else:
            route_file.remove(context.home, plan.model, context.token)
    except PerennialError as error:
        logger.error("%s", error)
        return False
    return True


def stop_all(engines: Engines, drain_s: float = 10) -> list[Running]:
    """Ends every slot of this home, in every engine, and returns them. The routes stay: `reconcile` starts live slots again."""
    ended = []
    for engine in engines.all():
        for running in engine.all():
            engine.stop(running.model, running.slot, drain_s)
            ended.append(running)
        engine.clean_up()
    return ended
