"""Carries a rollout out: start, prove, move, watch, promote; and back again. Decides nothing.

Each side effect has an event in the ledger before and after it. Until the route has moved, whatever goes
wrong leaves the live slot as it was; after that, the route moves back to it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline import package, registry
from pipeline.errors import PerennialError, RolloutError
from pipeline.ledger import lease
from pipeline.ledger.lease import Lease
from pipeline.ledger.table import Event, Ledger
from pipeline.ledger.timeline import live_at
from pipeline.params import Rollout
from pipeline.rollout import probe, route
from pipeline.rollout.engine import SLOTS, Engine, Running, engine_named, engines
from pipeline.rollout.route import Route, Share

SWITCH_LIMIT_S = 10.0
# What was killed in mid-rollout holds its lease a little longer; reconcile is what mends after it.
RECONCILE_WAIT_S = 2 * lease.HELD_S
STRATEGIES = ("all-at-once",)


@dataclass(frozen=True)
class Site:
    """Where rollouts happen: this machine's state, its project, its ledger, and which run asks."""

    home: Path
    project: Path
    ledger: Ledger
    run: str = ""
    lease: Lease | None = None

    def note(self, kind: str, model: str, **body: Any) -> None:
        """Writes an event, which comes before and after each side effect. Raises RolloutError when overtaken."""
        if self.lease is not None:
            self.lease.check()
        self.ledger.append(Event(kind, model, self.run, "roll_out", body))

    def move(self, to: Route) -> None:
        """Replaces the route, unless a younger rollout has moved it already."""
        route.write(self.home, to, self.lease.token if self.lease else 0)


def deploy(
    site: Site,
    model: str,
    version: str,
    settings: Rollout,
    reason: str = "by hand",
    strategy: str | None = None,
    wait_s: float = 0,
) -> dict[str, Any]:
    """Brings a registered version live. Returns {"version", "slot", "previous", "switch_s", …}.

    `strategy` None means the one of `settings`; all-at-once is the one there is. Another rollout of the model is
    waited for at most `wait_s`.

    Raises RolloutError (or RegistryError) with the live version untouched or restored.
    """
    strategy = strategy or settings.strategy
    if strategy not in STRATEGIES:
        raise RolloutError(f"strategy {strategy}", "is not known", f"use {', '.join(STRATEGIES)}")
    with _alone(site, model, wait_s) as site:
        started = time.monotonic()
        _check_router(site)
        folder = registry.deployable_package(site.home, model, version)
        package.verified_manifest(folder)
        current = route.read(site.home, model)
        if current is not None and current.live.version == version and _answers(current.live):
            return _finish_live(site, model, current.live)
        engine, why = engine_named(settings.engine, site.home, site.project)
        slot = SLOTS[0] if current is None else _other(current.live.slot)
        try:
            running, ready_s = _prove(site, engine, why, model, slot, version, folder, settings)
            switch_s, moved = _switch(site, model, current, running, settings)
        except PerennialError as error:
            site.note("rollout_failed", model, version=version, slot=slot, error=str(error))
            raise
        registry.promote(site.home, model, version)
        told = {
            "version": version,
            "slot": slot,
            "engine": engine.name,
            "engine_reason": why,
            "strategy": strategy,
            "reason": reason,
            "previous": current.live.version if current else None,
            "ready_s": round(ready_s, 3),
            "switch_s": round(switch_s, 3),
            "to_traffic_s": round(moved - started, 3),
        }
        site.note("rollout_ended", model, **told)
        return told


def _finish_live(site: Site, model: str, live: Share) -> dict[str, Any]:
    """The route names the version already: does what a rollout that was cut off after its move had left to do."""
    registry.promote(site.home, model, live.version)
    told = {"version": live.version, "slot": live.slot, "already_live": True, "switch_s": 0.0}
    if (live_at(site.ledger, model) or {}).get("version") != live.version:
        site.note("rollout_ended", model, **told)
    return told


def _prove(
    site: Site, engine: Engine, why: str, model: str, slot: str, version: str, folder: Path, settings: Rollout
) -> tuple[Running, float]:
    """Starts the version in the idle slot and asks it what evaluation asked. Empties the slot on failure."""
    _empty(site, model, slot)
    site.note("slot_starting", model, version=version, slot=slot, engine=engine.name, why=why)
    try:
        running = engine.start(model, slot, version, folder)
        ready_s = probe.wait_ready(engine, running, settings.ready_timeout_s)
        count = probe.golden(running, folder, settings.golden_tolerance)
    except BaseException:
        engine.stop(model, slot)
        raise
    site.note(
        "slot_ready",
        model,
        version=version,
        slot=slot,
        address=running.address,
        golden=count,
        ready_s=round(ready_s, 3),
    )
    return running, ready_s


def _switch(site: Site, model: str, current: Route | None, running: Running, settings: Rollout) -> tuple[float, float]:
    """Moves the route to `running`, sees it answer there, and watches it; moves back when it does not.

    Returns (seconds of the switch, monotonic time at which the new version had all traffic).
    """
    new = Share(running.slot, running.version, running.address)
    previous = current.live if current is not None and _answers(current.live) else None
    site.note("route_moving", model, to=running.version, before=current.live.version if current else None)
    start = time.monotonic()
    site.move(Route(model, new, previous))
    address = f"{route.router_url(site.home)}/{model}"
    try:
        if probe.wait_for_version(address, running.version, SWITCH_LIMIT_S) is None:
            raise RolloutError(
                f"route {model}", f"{address} did not answer with version {running.version}", "look at Traefik's log"
            )
        moved = time.monotonic()
        switch_s = moved - start
        site.note("route_moved", model, to=running.version, switch_s=round(switch_s, 3))
        _bake(running, settings.bake_s)
    except BaseException:
        _move_back(site, model, current, running)
        raise
    return switch_s, moved


def _bake(running: Running, seconds: float) -> None:
    """Watches the new slot after the move. Raises RolloutError at the first check it misses."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if probe.answering_version(running.address) != running.version:
            raise RolloutError(
                f"slot {running.model} {running.slot}", "stopped answering during its bake", "its output is in slots/"
            )
        time.sleep(0.1)


def _move_back(site: Site, model: str, current: Route | None, running: Running) -> None:
    if current is None:
        (route.routes_folder(site.home) / f"{model}.yaml").unlink(missing_ok=True)
    else:
        address, back = f"{route.router_url(site.home)}/{model}", current.live.version
        if probe.answering_version(running.address) is None:
            # Requests that are being retried keep the configuration they began with, and its health checks end when the
            # file changes: Traefik must have found the slot dead before that, or they are retried against it to the end.
            probe.wait_for_version(address, back, SWITCH_LIMIT_S)
        site.move(current)
        probe.wait_for_version(address, back, SWITCH_LIMIT_S)
        site.note(
            "rolled_back",
            model,
            version=current.live.version,
            slot=current.live.slot,
            engine=None,
            reason=f"version {running.version} failed after the switch",
        )
    _empty(site, model, running.slot)


def rollback(site: Site, model: str, reason: str = "by hand") -> dict[str, Any]:
    """Moves the route back to the warm predecessor. Raises RolloutError when there is none."""
    with _alone(site, model) as site:
        current = route.read(site.home, model)
        if current is None:
            raise RolloutError(
                f"model {model}", "is not live", f"deploy a version first: `python -m pipeline deploy {model} VERSION`"
            )
        _check_router(site)
        if current.previous is None or not _answers(current.previous):
            raise RolloutError(
                f"model {model}",
                "has no predecessor that still answers",
                f"deploy an older version: `python -m pipeline deploy {model} VERSION`",
            )
        back, left = current.previous, current.live
        site.note("route_moving", model, to=back.version, before=left.version)
        start = time.monotonic()
        site.move(Route(model, back, left))
        if probe.wait_for_version(f"{route.router_url(site.home)}/{model}", back.version, SWITCH_LIMIT_S) is None:
            site.move(current)
            raise RolloutError(f"route {model}", "did not move back", "look at Traefik's log")
        switch_s = time.monotonic() - start
        registry.promote(site.home, model, back.version)
        told = {
            "version": back.version,
            "slot": back.slot,
            "left": left.version,
            "reason": reason,
            "switch_s": round(switch_s, 3),
        }
        site.note("rolled_back", model, **told)
        return told


def reconcile(site: Site, settings: dict[str, Rollout]) -> list[str]:
    """Makes what runs agree with the route files; returns what it did, one line each.

    A live slot that does not answer is started again from its package; a slot that no route names is ended.
    """
    done = []
    for current in route.all_routes(site.home):
        with _alone(site, current.model, RECONCILE_WAIT_S) as alone:
            if not _answers(current.live):
                done.append(_revive(alone, current, settings.get(current.model, Rollout())))
    named = {(r.model, s.slot) for r in route.all_routes(site.home) for s in (r.live, r.previous) if s is not None}
    for engine in engines(site.home, site.project):
        for running in engine.all():
            if (running.model, running.slot) not in named:
                engine.stop(running.model, running.slot)
                done.append(f"{running.model} {running.slot}: ended version {running.version}, which no route names")
    return done


def _revive(site: Site, current: Route, settings: Rollout) -> str:
    model, live = current.model, current.live
    folder = registry.package_folder(site.home, model, live.version)
    engine, why = engine_named(settings.engine, site.home, site.project)
    running, _ = _prove(site, engine, why, model, live.slot, live.version, folder, settings)
    previous = current.previous if current.previous is not None and _answers(current.previous) else None
    site.move(Route(model, Share(live.slot, live.version, running.address), previous))
    if probe.wait_for_version(f"{route.router_url(site.home)}/{model}", live.version, SWITCH_LIMIT_S) is None:
        raise RolloutError(
            f"route {model}", f"does not answer with version {live.version}", "is Traefik up? `make up` starts it"
        )
    site.note("slot_revived", model, version=live.version, slot=live.slot, engine=engine.name)
    return f"{model} {live.slot}: started version {live.version} again ({why})"


def stop_all(home: Path, project: Path) -> list[Running]:
    """Ends every slot of this home, in every engine. The routes stay: `reconcile` starts their live slots again."""
    ended = []
    for engine in engines(home, project):
        for running in engine.all():
            engine.stop(running.model, running.slot)
            ended.append(running)
    return ended


def _empty(site: Site, model: str, slot: str) -> None:
    for engine in engines(site.home, site.project):
        engine.stop(model, slot)


def _answers(share: Share) -> bool:
    return probe.answering_version(share.address) == share.version


def _other(slot: str) -> str:
    return SLOTS[1 - SLOTS.index(slot)]


def _check_router(site: Site) -> None:
    import httpx

    url = route.router_url(site.home)
    try:
        httpx.get(url, timeout=3)
    except httpx.HTTPError as error:
        raise RolloutError(
            f"router {url}", f"does not answer ({error})", "is Traefik up? `make up` starts it"
        ) from error


@contextmanager
def _alone(site: Site, model: str, wait_s: float = 0) -> Iterator[Site]:
    """One rollout of a model at a time, on all machines that share the ledger: the same site, with the lease.

    Another rollout is waited for at most `wait_s`.
    """
    with lease.held(site.ledger, model, wait_s, route.token_of(site.home, model)) as taken:
        yield replace(site, lease=taken)
