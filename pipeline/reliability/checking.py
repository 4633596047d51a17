"""One round of checks: each live model is asked through the router, and its slots for what they counted.

A check is up when the model's address answers 200: what a client would get, whichever version answers. A 429 is the rate limit of the
client that asks from this machine, and says nothing of the model: it is no check. Neither is a time in which nobody checked.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import DataError, RolloutError
from pipeline.policy.service_levels import Counted
from pipeline.reliability.asking import Asked, ask_all
from pipeline.reliability.counts import COUNTERS_KEPT_S, MINUTE_S, Cell, Counts
from pipeline.reliability.slot_page import SlotTotals
from pipeline.rollout.routing import route_file
from pipeline.rollout.routing.route import Route, RoutedSlot
from pipeline.rollout.routing.traefik import READY

# Traefik tries again for some seconds what a dying slot broke off.
TIMEOUT_S = 5.0
LIMITED = 429
# The router is up so soon after this service.
STARTING_S = 60.0
# So many models' slots are asked in one round; with more, each model's in its turn.
SLOTS_OF = 70
# After a pause of so long a slot that is not known may have counted for long; within it, it is new, and all that it counted is.
SEEN_S = 120
# While the file cannot be written, so many minutes of versions are kept in memory.
MOST_UNWRITTEN = 5000
FOLD_S = 600
# The row of `counters` that says when the last round was.
ROUND = ""


@dataclass
class Routes:
    """The routes of this machine's router, read again when their file has changed."""

    home: Path
    _known: dict[str, tuple[tuple[int, int], Route | None]] = field(default_factory=dict)

    def read(self) -> list[Route]:
        """Those that can be read; `reconcile` writes the others again."""
        names = route_file.routed_models(self.home)
        self._known = {name: self._one(name) for name in names}
        return [route for _, route in self._known.values() if route is not None]

    def _one(self, name: str) -> tuple[tuple[int, int], Route | None]:
        try:
            status = route_file.route_file(self.home, name).stat()
            seen = (status.st_mtime_ns, status.st_ino)
            known = self._known.get(name)
            return known if known is not None and known[0] == seen else (seen, route_file.read(self.home, name))
        except (RolloutError, OSError):
            return (0, 0), None


class Checker:
    """`check` is called every CHECK_S seconds, for ever."""

    def __init__(self, home: Path, router_url: str) -> None:
        self.counts = Counts(home)
        self._url, self._routes = router_url, Routes(home)
        self._open: dict[Cell, Counted] = {}
        self._totals: dict[str, SlotTotals] = {}
        self._written: dict[str, tuple[SlotTotals, int]] = {}
        self._seen: dict[str, int] = {}
        self._router_seen, self._started = False, 0.0
        # The slots of the last round's routes, and those that came since and were not asked yet.
        self._routed: set[str] | None = None
        # Of the last round: all slots of all routes, as (model, slot, version), and the pages of those that were asked and answered.
        self.slots: set[tuple[str, str, str]] = set()
        self.pages: dict[tuple[str, str, str], str] = {}
        self._new: set[str] = set()
        self._began, self._turn, self._folded = False, 0, 0

    def check(self, now: float | None = None) -> list[Route]:
        """One round; returns the routes that were checked. `now` is in seconds since 1970. Raises DataError when it could not be kept."""
        now = time.time() if now is None else now
        if not self._began:
            self._started = now
            self._begin(int(now))
        routes = self._routes.read()
        self._note_new(routes)
        asked_for = self._in_turn(routes)
        checks = {f"check {r.model}": f"{self._url}/{r.model}{READY}" for r in routes}
        pages = {f"page {_key(r, s)}": f"{s.address}/metrics" for r in asked_for for s in _slots(r)}
        answers = asyncio.run(ask_all(checks | pages, TIMEOUT_S))
        checked = {route.model: answers[f"check {route.model}"] for route in routes}
        if self._router_is_there(checked.values(), now):
            for route in routes:
                self._count_check(route, checked[route.model], now)
        self.slots, self.pages = {(r.model, s.slot, s.version) for r in routes for s in _slots(r)}, {}
        for route in asked_for:
            for slot in _slots(route):
                self._count_answers(route, slot, answers[f"page {_key(route, slot)}"], now)
        self._write(now)
        return routes

    def _begin(self, now: int) -> None:
        """Goes on where an earlier process ended."""
        texts, last = self.counts.totals()
        self._totals = {slot: SlotTotals.read(text) for slot, text in texts.items() if slot != ROUND}
        self._seen = dict.fromkeys(self._totals, now)
        self._routed = set(self._totals) if now - last <= SEEN_S else None
        self._open = self.counts.cells(now // MINUTE_S * MINUTE_S)
        self._began = True

    def _note_new(self, routes: list[Route]) -> None:
        """Notes which slots came since the last round. At a first round nobody knows, and what slots counted by then is left out."""
        keys = {_key(route, slot) for route in routes for slot in _slots(route)}
        if self._routed is not None:
            self._new |= keys - self._routed
        self._routed = keys

    def _router_is_there(self, answers: Iterable[Asked], now: float) -> bool:
        """False while the machine's services start: this one may be up before the router is, and nobody checks in that time."""
        if not self._router_seen and (any(not answer.away for answer in answers) or now - self._started >= STARTING_S):
            self._router_seen = True
        return self._router_seen

    def _in_turn(self, routes: list[Route]) -> list[Route]:
        groups = max(1, -(-len(routes) // SLOTS_OF))
        self._turn = (self._turn + 1) % groups
        return routes[self._turn :: groups]

    def _count_check(self, route: Route, answer: Asked, now: float) -> None:
        if answer.code == LIMITED:
            return
        version = answer.headers.get("x-model-version") or route.live.version
        self._add(route.model, version, now, Counted(checks=1, up=int(answer.code == 200), away=int(answer.away)))

    def _count_answers(self, route: Route, slot: RoutedSlot, answer: Asked, now: float) -> None:
        """What the slot answered since it was last asked. Of a shadow no user has the answers."""
        page = answer.body.decode("utf-8", "replace")
        try:
            totals = SlotTotals.of_page(page) if answer.code == 200 else None
        except ValueError:
            totals = None
        if totals is None:
            return
        self.pages[route.model, slot.slot, slot.version] = page
        key = _key(route, slot)
        before = self._totals.get(key)
        if before is None and key in self._new:
            before = SlotTotals()
        self._new.discard(key)
        self._totals[key], self._seen[key] = totals, int(now)
        if before is not None and slot in route.answering:
            more = totals.since(before)
            if more != Counted():
                self._add(route.model, slot.version, now, more)

    def _add(self, model: str, version: str, now: float, more: Counted) -> None:
        cell = Cell(model, version, int(now) // MINUTE_S * MINUTE_S)
        self._open[cell] = self._open.get(cell, Counted()) + more

    def _write(self, now: float) -> None:
        at = int(now)
        due = {
            key: self._totals[key].as_text() for key, seen in self._seen.items() if seen == at and self._is_due(key, at)
        }
        try:
            self.counts.write(self._open, due | {ROUND: ""}, at)
            if at - self._folded >= FOLD_S:
                self.counts.fold(at)
        except DataError:
            for cell in sorted(self._open, key=lambda cell: cell.start)[:-MOST_UNWRITTEN]:
                del self._open[cell]
            raise
        self._written |= {key: (self._totals[key], at) for key in due}
        this_minute = at // MINUTE_S * MINUTE_S
        self._open = {cell: counted for cell, counted in self._open.items() if cell.start >= this_minute}
        if at - self._folded >= FOLD_S:
            self._folded = at
            for key in [key for key, seen in self._seen.items() if at - seen > COUNTERS_KEPT_S]:
                for known in (self._seen, self._totals, self._written):
                    known.pop(key, None)  # type: ignore[attr-defined]

    def _is_due(self, key: str, at: int) -> bool:
        """Whether a slot's totals are to be written: when they changed, and now and then, so that the file keeps them."""
        totals, written = self._written.get(key, (None, 0))
        return totals != self._totals[key] or at - written > COUNTERS_KEPT_S // 4


def _key(route: Route, slot: RoutedSlot) -> str:
    return f"{route.model} {slot.slot} v{slot.version} {slot.address}"


def _slots(route: Route) -> Iterable[RoutedSlot]:
    return [slot for slot in (route.live, route.previous, route.candidate) if slot is not None]
