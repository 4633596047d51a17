"""Rolls back to the predecessor: at once when it is warm, after it was started and proven when it is not.

The predecessor is the newest version that was live before and that no rollback has left. The version that a rollback leaves
gets no traffic any more, not even as a failover, until somebody deploys it again by its number.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace as replace_fields

from pipeline.errors import LeaseBusy, RolloutError
from pipeline.ledger.package_of_version import PackageOfVersion
from pipeline.ledger.rollout_events import AbortAsked, RollbackStarted, RolledBack, RolloutFailed
from pipeline.ledger.timeline import live_at, rolled_back_versions, trusted_predecessor
from pipeline.rollout import approved_image, calling_back, recovery, settings_change, slots
from pipeline.rollout.context import RolloutContext, answers, check_router, other_slot
from pipeline.rollout.results import Rollback
from pipeline.rollout.routing.route import Route, RoutedSlot
from pipeline.settings.rollout import Rollout

# Seconds in which a rollout that is called back must give the traffic back.
CALL_BACK_S = 30.0

logger = logging.getLogger(__name__)


def rollback(
    context: RolloutContext, model: str, settings: Rollout, reason: str = "by hand", only: str = ""
) -> Rollback:
    """Brings the predecessor live again, with all traffic, and ends the slot of the version that it leaves.

    A rollout that is going on is called back instead: it gives the champion all traffic and ends. This leaves the version
    that is live, or being rolled out, at the time of the call. When another rollback has left that version before this
    one gets the lease, nothing moves and `already` is true. Raises RolloutError when there is no predecessor.

    With `only` it leaves that version alone: nothing moves where another one is live by then. A page calls a rollout back so, and the
    rollout that its reader saw may have ended.
    """
    leaving = PackageOfVersion(only) if only else _newest_version(context, model)
    try:
        with context.leased(model) as leased:
            return _roll_back(leased, model, settings, reason, leaving, only=only)
    except LeaseBusy:
        noted_at = _call_back(context, model, reason, only)
    with context.leased(model, CALL_BACK_S) as leased:
        ended = context.ledger.events(RolloutFailed, model=model, after=noted_at) if noted_at is not None else []
        current = recovery.recover_route(leased, model, settings)
        if not ended or current is None:
            return _roll_back(leased, model, settings, reason, leaving, only=only)
    return replace_fields(_nothing_moved(current, ended[-1].event.version), called_back=True)


def replace(context: RolloutContext, model: str, settings: Rollout, reason: str, leaving: str, by: str) -> Rollback:
    """Rolls back from the version `leaving` to the version `by`. Raises LeaseBusy when a rollout is going on."""
    with context.leased(model) as leased:
        return _roll_back(leased, model, settings, reason, PackageOfVersion(leaving), by)


def _call_back(context: RolloutContext, model: str, reason: str, only: str) -> int | None:
    """The number of the note that ends the rollout that is going on; None when it has ended, and lets its lease go in a moment.

    Raises LeaseBusy when the rollout is one of another version than `only`.
    """
    if not only:
        asked = AbortAsked(reason=reason, asked_by=context.asked_by or None)
        return context.ledger.append(asked, model, context.run, "roll_out").seq
    if recovery.open_rollout(context.ledger, model) is None:
        return None
    note = calling_back.note(context.ledger, model, only, reason, context.asked_by, context.run)
    if note is None:
        raise LeaseBusy.of(model)
    return note.seq


def _newest_version(context: RolloutContext, model: str) -> PackageOfVersion | None:
    """The newest version that gets traffic or is being rolled out, which a rollback leaves; None when nothing is live."""
    opened = recovery.open_rollout(context.ledger, model)
    if opened is not None:
        return PackageOfVersion(*opened.event.leaving)
    live = live_at(context.ledger, model)
    return live.package if live is not None else None


def _nothing_moved(current: Route, left: str) -> Rollback:
    return Rollback(current.live.version, current.live.slot, left, 0.0)


def _roll_back(
    context: RolloutContext,
    model: str,
    settings: Rollout,
    reason: str,
    leaving: PackageOfVersion | None,
    by: str = "",
    only: str = "",
) -> Rollback:
    current = recovery.recover_route(context, model, settings)
    if current is None and only:
        return Rollback("", "", only, 0.0, already=True)
    if current is None:
        raise RolloutError(
            f"model {model}", "is not live", f"deploy a version first: `perennial deploy {model} VERSION`"
        )
    if leaving is not None and leaving.version and not current.live.package.is_same(leaving):
        return replace_fields(_nothing_moved(current, leaving.version), already=True)
    check_router(context)
    left = current.live
    target, warm = _target(context, current, settings, by)
    started = RollbackStarted(version=target.version, slot=target.slot, left=left.version, reason=reason)
    digest, left_digest = target.digest or None, left.digest or None
    context.record(replace_fields(started, digest=digest, left_digest=left_digest), model)
    start = time.monotonic()
    # Without `left` as a failover: it is being pulled, perhaps because its answers do harm.
    recovery.leave(context, current, Route(model, target))
    switch_s = time.monotonic() - start
    context.promote(model, target.version)
    result = Rollback(target.version, target.slot, left.version, round(switch_s, 3), reason, warm)
    rolled_back = RolledBack.read(result.as_dict())
    rolled_back = replace_fields(rolled_back, digest=digest, left_digest=left_digest)
    context.record(replace_fields(rolled_back, asked_by=context.asked_by or None), model)
    _end_left(context, model, left, settings)
    return result


def _end_left(context: RolloutContext, model: str, left: RoutedSlot, settings: Rollout) -> None:
    """Ends the slot that has no traffic any more. When that fails the rollback stays, and `reconcile` ends the slot."""
    try:
        context.empty_slot(model, left.slot, settings.drain_s)
    except Exception as error:
        logger.warning("%s %s: version %s still runs (%s); `reconcile` ends it", model, left.slot, left.version, error)


def _target(context: RolloutContext, current: Route, settings: Rollout, by: str) -> tuple[RoutedSlot, bool]:
    """(the slot to roll back to, whether it was warm), with version `by`; '' means the version that was live before.

    A version that is not warm is started in the idle slot. A warm one that runs with other settings is started again: it would
    answer with keys that were revoked. So is one by another image than the approved one.
    """
    warm = current.previous
    before = trusted_predecessor(context.ledger, current.model, current.live.package, by)
    if before is None:
        raise _no_predecessor(context, current)
    if warm is not None and warm.package.is_same(before) and answers(warm):
        outdated = settings_change.is_outdated(context, current.model, warm, settings)
        if not (outdated or approved_image.is_other(context, current.model, warm)):
            return warm, True
        renewed = settings_change.renew_predecessor(context, current, settings).previous
        assert renewed is not None
        return renewed, False
    folder = context.registry.deployable_package(current.model, before.version, before.digest)
    slot = other_slot(current.live.slot)
    return slots.fill(context, current.model, before.version, slot, folder, settings).routed, False


def _no_predecessor(context: RolloutContext, current: Route) -> RolloutError:
    model, live = current.model, current.live.version
    left = rolled_back_versions(context.ledger, model)
    pulled = [package.version for package in left if not package.is_same(current.live.package)]
    if not pulled:
        check = f"deploy another version: `perennial deploy {model} VERSION`"
        return RolloutError(f"model {model}", "has no predecessor to go back to", check)
    were = f"version {pulled[0]} was" if len(pulled) == 1 else f"versions {', '.join(pulled)} were"
    observed = f"has no predecessor to go back to: version {live} is live, and {were} rolled back before"
    check = f"to bring version {pulled[-1]} live all the same: `perennial deploy {model} {pulled[-1]}`"
    return RolloutError(f"model {model}", observed, check)
