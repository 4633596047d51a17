"""Where rollouts happen, and the one way in which they write: under a lease, an event before and after each side effect.

Whatever changes the world is a method here, so that no caller can forget the lease or the events.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from pipeline.errors import RolloutError
from pipeline.ledger import lease
from pipeline.ledger.lease import Lease
from pipeline.ledger.rollout_events import (
    Demoted,
    Demoting,
    Promoted,
    Promoting,
    RolloutEvent,
    RouteMoved,
    RouteMoving,
    RouteRemoved,
    RouteRemoving,
    SlotEnded,
    SlotEnding,
    SlotStarted,
    SlotStarting,
)
from pipeline.ledger.store import Entry, Ledger
from pipeline.policy.canary import Judgement
from pipeline.registry.versions import Registry
from pipeline.rollout import failpoints, probe
from pipeline.rollout.engines.base import SLOTS, Engine, EngineSettings, Running, Wanted
from pipeline.rollout.engines.select import Engines, LocalEngines
from pipeline.rollout.routing import route_file
from pipeline.rollout.routing.route import Route, Share
from pipeline.settings.addresses import Router
from pipeline.settings.environment import Environment

SWITCH_LIMIT_S = 10.0
R = TypeVar("R", bound=RolloutEvent)


@dataclass(frozen=True)
class RolloutContext:
    """This machine's state, what a rollout works with, which run asks, the lease that it holds, and how many requests a
    second a model's clients get through, where that is limited."""

    home: Path
    ledger: Ledger
    registry: Registry
    engines: Engines
    router: Router
    run: str = ""
    lease: Lease | None = None
    rate_limits: Mapping[str, int] = field(default_factory=dict)
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    # Who judges a step, and how often it looks; see pipeline.rollout.step_watch.
    judge: Callable[..., Callable[[], Judgement]] | None = None
    look_s: float = 0.5

    @classmethod
    def of(
        cls, environment: Environment, ledger: Ledger, run: str = "", rate_limits: Mapping[str, int] | None = None
    ) -> RolloutContext:
        """With the registry, the engines and the router of this environment."""
        registry, engines = Registry.of(environment), LocalEngines(EngineSettings.of(environment))
        return cls(
            environment.home, ledger, registry, engines, environment.router_addresses, run, None, rate_limits or {}
        )

    @contextmanager
    def alone(self, model: str, wait_s: float = 0) -> Iterator[RolloutContext]:
        """One rollout of a model at a time, on all machines that share the ledger: the same context, with the lease.

        Another rollout is waited for at most `wait_s`. Raises RolloutError when it has not ended by then.
        """
        with lease.held(self.ledger, model, wait_s, route_file.token_of(self.home, model)) as taken:
            yield replace(self, lease=taken)

    def check(self) -> None:
        """Raises RolloutError when another rollout has overtaken this one."""
        if self.lease is not None:
            self.lease.check()

    def record(self, event: R, model: str) -> Entry[R]:
        """Writes an event, which comes before and after each side effect. Raises RolloutError when overtaken."""
        self.check()
        event = replace(event, rollout=self.lease.token if self.lease else None)
        with failpoints.around(f"note {event.KIND}"):
            return self.ledger.append(event, model, self.run, "roll_out")

    @property
    def token(self) -> int:
        return self.lease.token if self.lease else 0

    def move(self, to: Route) -> Route:
        """Replaces the route, unless a younger rollout has moved it already, and waits until Traefik follows it."""
        to = replace(to, rate_limit=self.rate_limits.get(to.model, 0))
        gains = to.candidate or to.live
        percent = to.percent if to.candidate else 100
        moving = RouteMoving(
            to=gains.version,
            percent=percent,
            mirror=to.mirror,
            live=to.live.version,
            previous=to.previous.version if to.previous else None,
        )
        self.record(moving, to.model)
        start = time.monotonic()
        with failpoints.around("move route"):
            written = route_file.write(self.home, to, self.token)
        address = self.address(to.model)
        if not probe.wait_for_stamp(address, written.stamp, SWITCH_LIMIT_S):
            raise RolloutError(
                f"route {to.model}", f"{address} does not follow its file", "is Traefik up? look at its log"
            )
        switch_s = round(time.monotonic() - start, 3)
        self.record(RouteMoved(to=gains.version, percent=percent, mirror=to.mirror, switch_s=switch_s), to.model)
        return written

    def unroute(self, model: str) -> None:
        """Takes the model off the router, unless a younger rollout has moved its route."""
        self.record(RouteRemoving(), model)
        with failpoints.around("remove route"):
            route_file.remove(self.home, model, self.token)
        self.record(RouteRemoved(), model)

    def address(self, model: str) -> str:
        """Where the model's users ask."""
        return f"{self.router.url}/{model}"

    def start(self, engine: Engine, wanted: Wanted, why: str) -> Running:
        """Starts a version in an empty slot; `why` this engine. Does not wait for it."""
        version, slot = wanted.version, wanted.slot
        self.record(SlotStarting(version=version, slot=slot, engine=engine.name, why=why), wanted.model)
        with failpoints.around("start slot"):
            running = engine.start(wanted)
        self.record(SlotStarted(version=version, slot=slot, address=running.address), wanted.model)
        return running

    def empty(self, model: str, slot: str, drain_s: float) -> None:
        """Ends what runs in a slot once it has finished what it has; tells the ledger what was cut off."""
        for engine in self.engines.all():
            self.end(engine, model, slot, drain_s)

    def end(self, engine: Engine, model: str, slot: str, drain_s: float) -> None:
        """The same for one engine: two have something in one slot when one of them was away while the other started."""
        running = engine.find(model, slot)
        if running is not None:
            self.record(SlotEnding(version=running.version, slot=slot, engine=engine.name), model)
        self.check()
        with failpoints.around("empty slot"):
            cut_off = engine.stop(model, slot, drain_s)
        if running is not None:
            ended = SlotEnded(version=running.version, slot=slot, cut_off=cut_off, engine=engine.name)
            self.record(ended, model)

    def promote(self, model: str, version: str) -> None:
        """Makes the version the registry's champion."""
        self.record(Promoting(version=version), model)
        with failpoints.around("promote"):
            self.registry.promote(model, version)
        self.record(Promoted(version=version), model)

    def demote(self, model: str) -> None:
        """Leaves the registry without a champion, as it was before a first rollout."""
        self.record(Demoting(), model)
        with failpoints.around("demote"):
            self.registry.demote(model)
        self.record(Demoted(), model)


def answers(share: Share) -> bool:
    """Whether the slot answers, with the version that the route says."""
    return probe.answering_version(share.address) == share.version


def other(slot: str) -> str:
    return SLOTS[1 - SLOTS.index(slot)]


def check_router(context: RolloutContext) -> None:
    """Raises RolloutError when Traefik does not answer."""
    import httpx

    url = context.router.url
    try:
        httpx.get(url, timeout=3, verify=probe.certified(url))
    except httpx.HTTPError as error:
        raise RolloutError(
            f"router {url}", f"does not answer ({error})", "is Traefik up? `make up` starts it"
        ) from error
