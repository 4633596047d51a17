"""The predecessor's slot is the candidate's too: it makes room for a candidate, and is warm again when that did not go live."""

from __future__ import annotations

import logging
from dataclasses import replace

from pipeline.errors import PerennialError
from pipeline.ledger.package_of_version import PackageOfVersion
from pipeline.ledger.rollout_events import OPENINGS, RolloutEnded, RolloutStarted
from pipeline.ledger.store import Ledger
from pipeline.rollout import slots
from pipeline.rollout.context import RolloutContext, answers, other_slot
from pipeline.rollout.routing import route_file
from pipeline.rollout.routing.route import Route, RoutedSlot
from pipeline.settings.rollout import Rollout

logger = logging.getLogger(__name__)


def warm(current: Route | None) -> RoutedSlot | None:
    """The predecessor of the route, while it answers."""
    return current.previous if current is not None and current.previous and answers(current.previous) else None


def make_room(context: RolloutContext, current: Route | None) -> None:
    """Takes the predecessor out of the route, which must not fall back on a slot that a candidate is about to get.

    The route stays where the live slot does not answer: nothing could confirm it, and until its slot ends the predecessor answers.
    """
    if current is not None and current.previous is not None and answers(current.live):
        context.move_route(Route(current.model, current.live))


def bring_back(context: RolloutContext, current: Route, settings: Rollout, actions: list[str]) -> Route:
    """The route with the predecessor that made room for a rollout which did not go live; adds a line to `actions`.

    Where it cannot be started, a rollback has to do it: that is a line too.
    """
    opened = _last_rollout_in_vain(context.ledger, current.model)
    if opened is None or not opened.warm or opened.before != current.live.version or current.previous is not None:
        return current
    return _start(context, current, PackageOfVersion(opened.warm, opened.warm_digest or ""), settings, actions)


def start_again(
    context: RolloutContext, current: Route, before: RoutedSlot | None, settings: Rollout, actions: list[str]
) -> Route:
    """The route with the predecessor `before` that it named, which is started where it does not answer; adds a line to `actions`.

    Its slot may have ended with the machine's services: the live version alone would leave a rollback waiting.
    """
    if (
        before is None
        or not context.may_start
        or warm(current) is not None
        or before.package.is_same(current.live.package)
    ):
        return current
    make_room(context, current)
    return _start(context, replace(current, previous=None), before.package, settings, actions)


def _start(
    context: RolloutContext, current: Route, package: PackageOfVersion, settings: Rollout, actions: list[str]
) -> Route:
    model, version, slot = current.model, package.version, other_slot(current.live.slot)
    try:
        folder = context.registry.deployable_package(model, version, package.digest)
        routed = slots.fill(context, model, version, slot, folder, settings).routed
        current = context.move_route(Route(model, current.live, routed))
    except PerennialError as error:
        context.check_lease()
        actions.append(f"{model}: version {version} is no longer warm ({error}); a rollback has to start it")
        return current
    actions.append(f"{model} {slot}: version {version} is warm again")
    return current


def bring_back_after(context: RolloutContext, model: str, settings: Rollout) -> None:
    """As `bring_back`, at the end of the rollout itself; raises nothing, because the rollout has ended."""
    actions: list[str] = []
    try:
        current = route_file.read(context.home, model)
        if current is not None and current.candidate is None:
            bring_back(context, current, settings, actions)
    except PerennialError as error:
        logger.warning("%s: its predecessor is not warm again (%s)", model, error)
    for line in actions:
        logger.info("%s", line)


def _last_rollout_in_vain(ledger: Ledger, model: str) -> RolloutStarted | None:
    """The last rollout, when it did not go live and no rollback or undeploy came after it."""
    openings = ledger.events(*OPENINGS, model=model)
    if not openings or ledger.events(RolloutEnded, model=model, after=openings[-1].seq):
        return None
    last = openings[-1].event
    return last if isinstance(last, RolloutStarted) else None
