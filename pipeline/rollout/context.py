"""The context of a rollout, and its side effects: each under the lease, with an event before and after it.

Every side effect is a method here, so that no caller can forget the lease or the events.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from pipeline.errors import RolloutError
from pipeline.ledger import lease
from pipeline.ledger.approval_events import SettingsChanged
from pipeline.ledger.chain import Head
from pipeline.ledger.lease import Lease
from pipeline.ledger.rollout_events import (
    CLOSINGS,
    Demoted,
    Demoting,
    Opening,
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
from pipeline.rollout import failpoints, probe, recorded
from pipeline.rollout.engines.base import SLOTS, Engine, EngineSettings, Running, SlotSpec
from pipeline.rollout.engines.select import Engines, LocalEngines
from pipeline.rollout.engines.serving_recipe import image_digest
from pipeline.rollout.routing import foreign_files, route_file
from pipeline.rollout.routing.route import Route, RoutedSlot
from pipeline.settings.addresses import Router
from pipeline.settings.environment import Environment
from pipeline.settings.models import Model
from pipeline.settings.rollout import Rollout

SWITCH_LIMIT_S = 10.0
logger = logging.getLogger(__name__)
R = TypeVar("R", bound=RolloutEvent)


@dataclass(frozen=True)
class RolloutContext:
    """What a rollout works with: this machine's state, registry, engines and router, the run or the person that asked for it, and
    its lease.

    `rate_limits` are requests a second for each client, by model, 0 for no limit; a model without one keeps its recorded limit.
    `columns` are the features and the key of each model's block. `approval` are the models whose versions a person approves, and
    `image_digest` tells what serves a runtime. Without `may_start` no slot is started, because nobody knows the
    model's settings.
    """

    home: Path
    ledger: Ledger
    registry: Registry
    engines: Engines
    router: Router
    run: str = ""
    asked_by: str = ""
    lease: Lease | None = None
    rate_limits: Mapping[str, int] = field(default_factory=dict)
    columns: Mapping[str, frozenset[str]] = field(default_factory=dict)
    may_start: bool = True
    # From a model whose versions a person approves to those who may; nobody by name where anybody but who asked may.
    approval: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    image_digest: Callable[[str], str] = lambda runtime: ""
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    # Judges a step, every `look_s` seconds; None is the judge of pipeline.rollout.step_watch.
    judge: Callable[..., Callable[[], Judgement]] | None = None
    look_s: float = 0.5

    @classmethod
    def of(
        cls,
        environment: Environment,
        ledger: Ledger,
        run: str = "",
        models: Mapping[str, Model] | None = None,
        asked_by: str = "",
    ) -> RolloutContext:
        """A context with the registry, the engines and the router of this environment, for the models of params.yaml."""
        registry, engines = Registry.of(environment), LocalEngines(EngineSettings.of(environment))
        context = cls(environment.home, ledger, registry, engines, environment.router_addresses, run, asked_by)
        return replace(
            context,
            rate_limits={name: model.rollout.serving.rate_limit for name, model in (models or {}).items()},
            columns={name: model.columns for name, model in (models or {}).items()},
            approval={name: m.approval_by for name, m in (models or {}).items() if m.approval == "required"},
            image_digest=partial(image_digest, EngineSettings.of(environment)),
        )

    @contextmanager
    def leased(self, model: str, wait_s: float = 0, *, recovering: bool = False) -> Iterator[RolloutContext]:
        """The same context with the model's lease: one rollout of a model at a time, on all machines that share the ledger.

        Waits at most `wait_s` seconds for another rollout to end, and longer for a recovery, which has `recovering`. Raises LeaseBusy
        when it has not ended.
        """
        token = route_file.token_of(self.home, model)
        with lease.held(self.ledger, model, wait_s, token, recovering=recovering) as held:
            yield replace(self, lease=held)

    def approvers(self, model: str) -> tuple[str, ...] | None:
        """Who may approve the model's versions, () for anybody but who asked; None where it wants no approval.

        For a block that cannot be read it is what the model was last used with: a slip in another key opens no way for a version.
        """
        if model in self.approval or model in self.columns:
            return self.approval.get(model)
        last = self.ledger.newest(SettingsChanged, models=[model])
        settings = last[-1].event.settings if last else {}
        return tuple(settings.get("approval_by") or ()) if settings.get("approval") == "required" else None

    def check_start(self, model: str) -> None:
        """Raises RolloutError when nobody knows with which settings a slot of the model has to start."""
        if not self.may_start:
            raise RolloutError(
                f"model {model}",
                "has no readable block in params.yaml and no recorded settings: a slot without them would take every request",
                f"correct its block or put it back, or end it: `perennial undeploy {model}`",
            )

    def settings_of_version(self, model: str, version: str, settings: Rollout) -> Rollout:
        """As `recorded.settings_of_version`."""
        columns = self.columns.get(model, frozenset())
        return recorded.settings_of_version(self.ledger, model, version, settings, columns)

    def check_lease(self) -> None:
        """Raises RolloutError when another rollout has overtaken this one."""
        if self.lease is not None:
            self.lease.check()

    def record(self, event: R, model: str) -> Entry[R]:
        """Writes an event with the lease's number. Raises RolloutError when another rollout has overtaken this one.

        The last event of a rollout is anchored in the tags of its version.
        """
        self.check_lease()
        event = replace(event, rollout=self.lease.token if self.lease else None)
        if isinstance(event, Opening):
            event = replace(event, asked_by=self.asked_by or None)
        with failpoints.around(f"note {event.KIND}"):
            entry = self.ledger.append(event, model, self.run, "roll_out")
        if isinstance(event, CLOSINGS):
            self._anchor(model, event.version, entry.head)
        return entry

    def _anchor(self, model: str, version: str, head: Head) -> None:
        """Writes the ledger's head into the version's tags. A rollout does not fail because that is not possible."""
        try:
            self.registry.anchor(model, version, head)
        except Exception as error:
            logger.warning("%s: the ledger's head is not in the tags of version %s (%s)", model, version, error)

    @property
    def token(self) -> int:
        return self.lease.token if self.lease else 0

    def move_route(self, to: Route) -> Route:
        """Writes the route, and waits until Traefik follows it. Returns it with its stamp.

        Raises RolloutError when a younger rollout has moved it already, or Traefik does not follow.
        """
        foreign_files.set_aside(self.home)
        to = replace(to, rate_limit=self.rate_limit(to.model))
        receiver = to.candidate or to.live
        percent = to.percent if to.candidate else 100
        moving = RouteMoving(
            to=receiver.version,
            percent=percent,
            mirror=to.mirror,
            live=to.live.version,
            previous=to.previous.version if to.previous else None,
        )
        head = self.record(moving, to.model).head
        start = time.monotonic()
        with failpoints.around("move route"):
            written = route_file.write(self.home, to, self.token, head)
        address = self.address(to.model)
        if not probe.wait_for_stamp(address, written.stamp, SWITCH_LIMIT_S):
            raise RolloutError(
                f"route {to.model}", f"{address} does not follow its file", "is Traefik up? look at its log"
            )
        switch_s = round(time.monotonic() - start, 3)
        self.record(RouteMoved(to=receiver.version, percent=percent, mirror=to.mirror, switch_s=switch_s), to.model)
        return written

    def rate_limit(self, model: str) -> int:
        """The block's; for a model whose block cannot be read, that with which it went live, or its route's."""
        if model in self.rate_limits:
            return self.rate_limits[model]
        known = recorded.recorded_settings(self.ledger, model)
        if known is not None:
            return known.serving.rate_limit
        try:
            current = route_file.read(self.home, model)
        except RolloutError:
            return 0
        return current.rate_limit if current is not None else 0

    def remove_route(self, model: str) -> None:
        """Takes the model off the router. Raises RolloutError when a younger rollout has moved its route."""
        foreign_files.set_aside(self.home)
        self.record(RouteRemoving(), model)
        with failpoints.around("remove route"):
            route_file.remove(self.home, model, self.token)
        self.record(RouteRemoved(), model)

    def address(self, model: str) -> str:
        """The URL at which users ask the model."""
        return f"{self.router.url}/{model}"

    def start_slot(self, engine: Engine, spec: SlotSpec, why: str) -> Running:
        """Starts a version in an empty slot and does not wait for it. `why` is the reason for this engine."""
        version, slot = spec.version, spec.slot
        self.record(SlotStarting(version=version, slot=slot, engine=engine.name, why=why), spec.model)
        with failpoints.around("start slot"):
            running = engine.start(spec)
        self.record(SlotStarted(version=version, slot=slot, address=running.address), spec.model)
        return running

    def empty_slot(self, model: str, slot: str, drain_s: float) -> None:
        """Ends what runs in a slot, in every engine, as `end_slot` does."""
        for engine in self.engines.all():
            self.end_slot(engine, model, slot, drain_s)

    def end_slot(self, engine: Engine, model: str, slot: str, drain_s: float) -> None:
        """Ends what one engine runs in a slot, once its requests are answered or `drain_s` seconds have passed.

        Two engines can have a server in the same slot: one was away while the other started its own. The event says how
        many requests were cut off.
        """
        running = engine.find(model, slot)
        if running is not None:
            self.record(SlotEnding(version=running.version, slot=slot, engine=engine.name), model)
        self.check_lease()
        with failpoints.around("empty slot"):
            cut_off = engine.stop(model, slot, drain_s)
        if running is not None:
            ended = SlotEnded(version=running.version, slot=slot, cut_off=cut_off, engine=engine.name)
            self.record(ended, model)

    def promote(self, model: str, version: str) -> None:
        """Makes the version the registry's champion."""
        head = self.record(Promoting(version=version), model).head
        with failpoints.around("promote"):
            self.registry.promote(model, version)
        self._anchor(model, version, head)
        self.record(Promoted(version=version), model)

    def demote(self, model: str) -> None:
        """Leaves the registry without a champion, as it was before a first rollout."""
        self.record(Demoting(), model)
        with failpoints.around("demote"):
            self.registry.demote(model)
        self.record(Demoted(), model)


def answers(routed: RoutedSlot) -> bool:
    """Whether the slot answers with the version that the route names."""
    return probe.answering_version(routed.address) == routed.version


def other_slot(slot: str) -> str:
    """blue for green, green for blue."""
    return SLOTS[1 - SLOTS.index(slot)]


def check_router(context: RolloutContext) -> None:
    """Raises RolloutError when Traefik does not answer."""
    import httpx

    url = context.router.url
    try:
        httpx.get(url, timeout=3, verify=probe.is_https(url))
    except httpx.HTTPError as error:
        raise RolloutError(
            f"router {url}", f"does not answer ({error})", "is Traefik up? `make up` starts it"
        ) from error
