"""Rounds of checks, each followed by what they say of the models' budgets. On one machine a service of its own, on a server a thread."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from pipeline.errors import PerennialError
from pipeline.ledger.store import Ledger
from pipeline.reliability.checking import Checker
from pipeline.reliability.judging import Judge, burnt_version, told_held
from pipeline.reliability.stored_bytes import Places, StoredBytes
from pipeline.reliability.used_slots import UsedSlots
from pipeline.rollout.opened import open_rollout
from pipeline.rollout.routing.route import Route
from pipeline.settings.environment import Environment
from pipeline.settings.models import Model
from pipeline.settings.read_again import ReadAgain

log = logging.getLogger(__name__)

# A model's alerts are judged so often, its budgets over the whole window so often, and a rollback is asked for again after so long.
JUDGE_S, BUDGET_S, AGAIN_S = 30.0, 600.0, 60.0


@dataclass
class Watcher:
    """`act` is called with a model whose live version is to be rolled back; it may be called again for the same one."""

    environment: Environment
    ledger: Ledger
    act: Callable[[str], None]
    clock: Callable[[], float] = time.time
    # What lies on no disk of this machine, in bytes.
    elsewhere: Callable[[], Places] | None = None
    _due: dict[tuple[str, str], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        home = self.environment.home
        self._checker = Checker(home, self.environment.router_addresses.url)
        self._used = UsedSlots(home, self.ledger)
        self._stored = StoredBytes(home, self.environment.project, self.ledger, self.elsewhere)
        self._judge = Judge(self.ledger, self._checker.counts)
        self._settings = ReadAgain(self.environment.project, self.environment.params_read)

    def look(self) -> None:
        """One round. A model that cannot be judged holds up no other. Raises DataError when nothing could be kept of the round."""
        routes = self._checker.check(self.clock())
        try:
            self._used.look(self._checker.pages, self._checker.slots, self.clock())
        except PerennialError as error:
            log.warning("the processor time of slots is not in the ledger yet: %s", error)
        params = self._settings.read()
        try:
            self._stored.look({*params.models, *params.broken}, self.clock())
        except PerennialError as error:
            log.warning("the bytes that lie outside the DVC remote are not in the ledger yet: %s", error)
        for route in routes:
            if self._is_due("judge", route.model, JUDGE_S):
                try:
                    model = params.models.get(route.model)
                    if model is not None and model.slo is not None:
                        self._look_at(route, model)
                except PerennialError as error:
                    log.warning("%s: its service levels are not judged: %s", route.model, error)
                except Exception:
                    log.exception("%s: its service levels are not judged", route.model)

    def _look_at(self, route: Route, model: Model) -> None:
        name, version, now = route.model, route.live.version, self.clock()
        assert model.slo is not None
        self._judge.look(name, model.slo, version, now)
        if self._is_due("budget", name, BUDGET_S):
            self._judge.look_at_budgets(name, model.slo, version, now)
        predecessor = route.previous.version if route.previous is not None and route.candidate is None else ""
        burnt = burnt_version(self.ledger, self._checker.counts, name, model, predecessor, now)
        if burnt is None or open_rollout(self.ledger, name) is not None:
            return
        self._judge.tell(name, burnt.alert, version)
        if burnt.held:
            told_held(self.ledger, burnt)
        elif self._is_due("act", name, AGAIN_S):
            log.warning("%s: version %s is rolled back: %s", name, burnt.version, burnt.reason)
            self.act(name)

    def _is_due(self, what: str, model: str, every_s: float) -> bool:
        now = time.monotonic()
        if now < self._due.get((what, model), 0.0):
            return False
        self._due[what, model] = now + every_s - 1
        return True
