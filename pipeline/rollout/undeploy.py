"""Takes a model off the router and ends its slots: the route first, so that no user asks a slot that has ended.

It needs no block in params.yaml. Versions, events and prediction log stay, so a later deploy brings a version live again.
"""

from __future__ import annotations

import contextlib
import time

import httpx

from pipeline.errors import RolloutError
from pipeline.ledger.rollout_events import Undeployed, UndeployStarted
from pipeline.ledger.timeline import live_version
from pipeline.rollout import probe
from pipeline.rollout.context import SWITCH_LIMIT_S, RolloutContext
from pipeline.rollout.engines.base import SLOTS
from pipeline.rollout.results import Undeployment
from pipeline.rollout.routing import route_file
from pipeline.rollout.routing.traefik import READY, STAMP
from pipeline.settings.models import MODEL_NAME


def undeploy(context: RolloutContext, model: str, drain_s: float, reason: str = "by hand") -> Undeployment:
    """Ends all that is live of the model, whatever its rollouts have left.

    Raises RolloutError when nothing of it is live, LeaseBusy when a rollout is going on, and RegistryError when the slots have
    ended but the alias champion could not be removed: then it may be called again.
    """
    if not MODEL_NAME.fullmatch(model):
        # It would be another place in the folder of routes, and no name for MLflow.
        raise _not_live(model)
    with context.leased(model) as context:
        version = live_version(context.ledger, model)
        routed = route_file.route_file(context.home, model).is_file()
        if not (version or routed or _running(context, model) or context.registry.champion(model)):
            raise _not_live(model)
        context.record(UndeployStarted(version=version, reason=reason), model)
        return take_down(context, model, drain_s, reason)


def _not_live(model: str) -> RolloutError:
    return RolloutError(f"model {model}", "is not live", "`perennial status` lists what is")


def take_down(context: RolloutContext, model: str, drain_s: float, reason: str) -> Undeployment:
    """The rest of an undeploy that has begun; done again it comes to the same."""
    version = live_version(context.ledger, model)
    if route_file.route_file(context.home, model).is_file():
        context.remove_route(model)
    _wait_until_gone(context, model)
    ended = _running(context, model)
    for slot in SLOTS:
        context.empty_slot(model, slot, drain_s)
    context.record(Undeployed(version=version, slots=ended, reason=reason), model)
    for engine in context.engines.all():
        with contextlib.suppress(Exception):
            engine.prune(model, set())
    if context.registry.champion(model):
        context.demote(model)
    return Undeployment(version, ended, reason)


def _running(context: RolloutContext, model: str) -> list[str]:
    slots = [running for engine in context.engines.all() for running in engine.all() if running.model == model]
    return [f"{running.slot}: {running.version}" for running in slots]


def _wait_until_gone(context: RolloutContext, model: str) -> None:
    """Returns once the router no longer answers by a route of the model. Raises RolloutError when it goes on doing so."""
    address, start = context.address(model), time.monotonic()
    with httpx.Client(timeout=2.0, verify=probe.is_https(address)) as client:
        while time.monotonic() - start < SWITCH_LIMIT_S:
            try:
                if STAMP not in client.get(f"{address}{READY}").headers:
                    return
            except httpx.ConnectError:
                return  # without a router nobody is asked
            except httpx.HTTPError:
                pass
            time.sleep(0.02)
    raise RolloutError(f"route {model}", f"{address} still answers by it", "is Traefik up? then run undeploy again")
