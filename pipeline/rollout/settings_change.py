"""Brings changed settings of `rollout.serving` to every slot that can get traffic, and loses no request.

A slot reads its settings when it starts. So the live version is started in the other slot with the new ones, proven, and gets the
traffic; the old slot is drained and ended, and the predecessor is started there. From then on no slot that the route names
accepts a key that was revoked, or logs a column in clear that has become personal. The rate limit is in the route.
"""

from __future__ import annotations

import contextlib
import logging

from pipeline.errors import PerennialError, RolloutError
from pipeline.ledger.rollout_events import SettingsApplied
from pipeline.rollout import recorded, slots
from pipeline.rollout.context import RolloutContext, answers, other_slot
from pipeline.rollout.recorded import slot_settings
from pipeline.rollout.routing import route_file
from pipeline.rollout.routing.route import Route, RoutedSlot
from pipeline.settings.rollout import Rollout

logger = logging.getLogger(__name__)


def is_outdated(context: RolloutContext, model: str, routed: RoutedSlot, settings: Rollout) -> bool:
    """As `recorded.is_outdated`; False where nobody knows the model's settings."""
    columns = context.columns.get(model, frozenset())
    return context.may_start and recorded.is_outdated(context.ledger, model, routed, settings, columns)


def apply(
    context: RolloutContext, current: Route, settings: Rollout, actions: list[str], *, keep_warm: bool = True
) -> Route:
    """The route, whose slots all run with the settings; adds a line to `actions` for each thing that it did.

    Without `keep_warm` the predecessor is left alone or ended, because its slot is needed. Raises RolloutError when a version does
    not start with the settings: then it goes on with those that it has.
    """
    model, previous = current.model, current.previous
    if is_outdated(context, model, current.live, settings):
        current = _renew_live(context, current, settings, actions, keep_warm)
    elif keep_warm and previous is not None and is_outdated(context, model, previous, settings):
        current = _renewed_or_ended(context, current, previous, settings, actions)
    elif current.rate_limit != context.rate_limits.get(model, current.rate_limit):
        current = context.move_route(current)
        actions.append(f"{model}: the route has the changed rollout.serving.rate_limit, {current.rate_limit}")
    else:
        return current
    live = current.live
    applied = recorded.as_recorded(context.settings_of_version(model, live.version, settings))
    context.record(SettingsApplied(version=live.version, slot=live.slot, settings=applied), model)
    return current


def _renew_live(
    context: RolloutContext, current: Route, settings: Rollout, actions: list[str], keep_warm: bool
) -> Route:
    """Starts the live version again in the other slot and moves the traffic there; then the predecessor in the freed slot."""
    model, live, previous = current.model, current.live, current.previous
    was_warm = previous is not None and answers(previous)
    before = _end_predecessor(context, current, settings)
    try:
        renewed = _start(context, model, live, other_slot(live.slot), settings, goes_on=True)
    except PerennialError as error:
        _restore_predecessor(context, current, before)
        raise RolloutError(
            f"settings of {model}",
            f"version {live.version} does not start with the changed rollout.serving ({error}); it keeps those it has",
            f"correct rollout.serving in params.yaml, then `perennial deploy {model} {live.version}`",
        ) from error
    route = context.move_route(Route(model, renewed))
    context.empty_slot(model, live.slot, settings.drain_s)
    actions.append(f"{model} {renewed.slot}: version {live.version} runs with the changed rollout.serving")
    if previous is None or not (was_warm and keep_warm):
        return route
    try:
        warm = _start(context, model, previous, live.slot, settings)
    except PerennialError as error:
        logger.warning("%s: version %s does not start with the changed settings (%s)", model, previous.version, error)
        actions.append(f"{model}: version {previous.version} is no longer warm; a rollback has to start it")
        return route
    actions.append(f"{model} {warm.slot}: version {warm.version} runs with the changed rollout.serving")
    return context.move_route(Route(model, renewed, warm))


def _renewed_or_ended(
    context: RolloutContext, current: Route, previous: RoutedSlot, settings: Rollout, actions: list[str]
) -> Route:
    """The route with its predecessor renewed; without it where the image is gone that was approved with it: it must not go on with
    settings that were changed."""
    try:
        _check_start(context, current.model, previous, settings)
    except RolloutError as error:
        _end_predecessor(context, current, settings)
        actions.append(
            f"{current.model}: version {previous.version} is no longer warm ({error}); a rollback has to start it"
        )
        return route_file.read(context.home, current.model) or current
    renewed = renew_predecessor(context, current, settings)
    actions.append(f"{current.model} {previous.slot}: version {previous.version} runs with the changed rollout.serving")
    return renewed


def renew_predecessor(context: RolloutContext, current: Route, settings: Rollout) -> Route:
    """Starts the predecessor again in its slot, with the settings; returns the route.

    Raises RolloutError when it does not start: it then runs as before.
    """
    model, previous = current.model, current.previous
    assert previous is not None
    _check_start(context, model, previous, settings)
    before = _end_predecessor(context, current, settings)
    try:
        warm = _start(context, model, previous, previous.slot, settings)
    except PerennialError as error:
        _restore_predecessor(context, current, before)
        raise RolloutError(
            f"settings of {model}",
            f"its predecessor {previous.version} does not start with the changed rollout.serving ({error})",
            f"correct rollout.serving in params.yaml; version {current.live.version} is still live",
        ) from error
    return context.move_route(Route(model, current.live, warm))


def _check_start(context: RolloutContext, model: str, running: RoutedSlot, settings: Rollout) -> None:
    """Raises RolloutError where `_start` would refuse the version by its approval, before anything is ended."""
    folder = context.registry.deployable_package(model, running.version, running.digest)
    slots.check_image(context, model, running.version, folder, settings)


def _start(
    context: RolloutContext, model: str, running: RoutedSlot, slot: str, settings: Rollout, *, goes_on: bool = False
) -> RoutedSlot:
    """Starts the version of the slot `running`, from the same package, in `slot`."""
    folder = context.registry.deployable_package(model, running.version, running.digest)
    return slots.fill(context, model, running.version, slot, folder, settings, goes_on=goes_on).routed


def _end_predecessor(context: RolloutContext, current: Route, settings: Rollout) -> Rollout | None:
    """Ends the predecessor. Returns the settings that it had; None when it was not warm, or nobody knows them."""
    previous = current.previous
    if previous is None:
        return None
    before = slot_settings(context.ledger, current.model, previous) if answers(previous) else None
    # The route first: it must not fall back on a slot that has ended.
    context.move_route(Route(current.model, current.live))
    context.empty_slot(current.model, previous.slot, settings.drain_s)
    return before


def _restore_predecessor(context: RolloutContext, current: Route, before: Rollout | None) -> None:
    """Starts the predecessor as it ran before. When that fails too, a rollback has to start it."""
    previous = current.previous
    if previous is None or before is None:
        return
    with contextlib.suppress(PerennialError):
        warm = _start(context, current.model, previous, previous.slot, before)
        context.move_route(Route(current.model, current.live, warm))
