"""What the counts say of a model's budgets: which burn, which are spent, and whether the live version is to go back for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from pipeline.ledger.rollout_events import MOVES
from pipeline.ledger.slo_events import BudgetBurning, BudgetCalm, BudgetRestored, BudgetSpent, BurnRollbackHeld
from pipeline.ledger.store import Entry, Ledger
from pipeline.ledger.timeline import live_at
from pipeline.policy.service_levels import (
    SHORT_PART,
    Burning,
    Objective,
    Span,
    burning,
    objectives,
    of_the_version,
    spent,
)
from pipeline.reliability.counts import Counts
from pipeline.settings.models import Model
from pipeline.settings.slo import SEVERITIES, Slo

RUN = "slo"
# An alert that holds again within so many seconds is the same matter.
QUIET_S = 600.0
DAY_S = 86_400

Read = Callable[[float, float], Span]


@dataclass(frozen=True)
class BurntVersion:
    """The live `version` of the model burns a budget within the keep time of its rollout; `alert` says which. `held` is why it stays all
    the same, '' when it goes back to `predecessor`."""

    model: str
    version: str
    predecessor: str
    alert: Burning
    held: str = ""

    @property
    def reason(self) -> str:
        return str(self.alert)


def all_burning(counts: Counts, model: str, slo: Slo, now: float) -> list[Burning]:
    """The alerts that hold for the model now, the most severe of each objective."""
    return _burning(slo, now, lambda since, until: counts.span(model, since, until))


def _burning(slo: Slo, now: float, read: Read, since: float = 0.0) -> list[Burning]:
    """The alerts that hold by what `read` gives of times not before `since`."""
    found: dict[str, Burning] = {}
    # The short window is read first: most of the time nothing in it is wrong, and the long one is not read.
    for burn in slo.burn:
        short = read(max(since, now - burn.hours * 3600 / SHORT_PART), now)
        wrong = [o for o in objectives(slo) if o.name not in found and o.wrong(short.counted)[0] > 0]
        long = read(max(since, now - burn.hours * 3600), now) if wrong else short
        for objective in wrong:
            alert = burning(objective, burn, long, short)
            if alert is not None:
                found[objective.name] = alert
    return list(found.values())


def budget_left(counts: Counts, model: str, objective: Objective, slo: Slo, now: float) -> float:
    """The share of the window's budget that is left, below 0 when it is overdrawn."""
    window_s = slo.window_days * DAY_S
    return 1 - spent(objective, counts.span(model, now - window_s, now), window_s)


class Judge:
    """Writes to the ledger when a model's budget begins and ends to burn, once for each time."""

    def __init__(self, ledger: Ledger, counts: Counts) -> None:
        self._ledger, self._counts = ledger, counts
        # From (model, objective) to the severity that was written last.
        self._told: dict[tuple[str, str], str] | None = None
        self._spent: set[tuple[str, str]] = set()
        self._quiet_since: dict[tuple[str, str], float] = {}

    def look(self, name: str, slo: Slo, version: str, now: float | None = None) -> list[Burning]:
        """The alerts that hold for the model. Raises LedgerError and DataError."""
        now = time.time() if now is None else now
        if self._told is None:
            self._read_before()
        assert self._told is not None
        found = {alert.objective: alert for alert in all_burning(self._counts, name, slo, now)}
        for alert in found.values():
            self.tell(name, alert, version)
        for key in [key for key in self._told if key[0] == name]:
            if key[1] in found:
                self._quiet_since.pop(key, None)
            elif now - self._quiet_since.setdefault(key, now) >= QUIET_S:
                self._ledger.append(BudgetCalm(objective=key[1]), name, RUN, "slo")
                del self._told[key], self._quiet_since[key]
        return list(found.values())

    def tell(self, name: str, alert: Burning, version: str) -> None:
        """Writes that the budget burns, unless that was written, as severe as it is."""
        if self._told is None:
            self._read_before()
        assert self._told is not None
        before = self._told.get((name, alert.objective), "")
        if before and SEVERITIES.index(alert.severity) <= SEVERITIES.index(before):
            return
        event = BudgetBurning(
            objective=alert.objective,
            severity=alert.severity,
            rate=round(alert.rate, 2),
            hours=alert.hours,
            reason=str(alert),
            version=version,
        )
        self._ledger.append(event, name, RUN, "slo")
        self._told[name, alert.objective] = alert.severity

    def look_at_budgets(self, name: str, slo: Slo, version: str, now: float | None = None) -> None:
        """Writes which budgets of the model are spent, and which no longer; reads the whole window, so less often."""
        now = time.time() if now is None else now
        if self._told is None:
            self._read_before()
        for objective in objectives(slo):
            left, key = budget_left(self._counts, name, objective, slo, now), (name, objective.name)
            if left <= 0 and key not in self._spent:
                reason = f"slo.{objective.name} has used {1 - left:.0%} of the error budget of {slo.window_days:g} days"
                event = BudgetSpent(
                    objective=objective.name, window_days=slo.window_days, reason=reason, version=version
                )
                self._ledger.append(event, name, RUN, "slo")
                self._spent.add(key)
            elif left > 0.05 and key in self._spent:
                self._ledger.append(BudgetRestored(objective=objective.name), name, RUN, "slo")
                self._spent.discard(key)

    def _read_before(self) -> None:
        """What an earlier process wrote and did not end."""
        told: dict[tuple[str, str], str] = {}
        entries: list[Entry[BudgetBurning | BudgetCalm | BudgetSpent | BudgetRestored]]
        entries = self._ledger.events(BudgetBurning, BudgetCalm, BudgetSpent, BudgetRestored)
        for entry in entries:
            event, key = entry.event, (entry.model, entry.event.objective)
            if isinstance(event, BudgetBurning):
                told[key] = event.severity
            elif isinstance(event, BudgetCalm):
                told.pop(key, None)
            elif isinstance(event, BudgetSpent):
                self._spent.add(key)
            else:
                self._spent.discard(key)
        self._told = told


def burning_now(ledger: Ledger) -> dict[str, str]:
    """By model which of its error budgets burn too fast, as the ledger has it."""
    found: dict[str, dict[str, str]] = {}
    entries: list[Entry[BudgetBurning | BudgetCalm]] = ledger.events(BudgetBurning, BudgetCalm)
    for entry in entries:
        of_model = found.setdefault(entry.model, {})
        if isinstance(entry.event, BudgetBurning):
            of_model[entry.event.objective] = f"{entry.event.severity}: slo.{entry.event.objective}"
        else:
            of_model.pop(entry.event.objective, None)
    return {
        model: f"error budget burns too fast ({', '.join(burning.values())}); `perennial slo {model}`"
        for model, burning in found.items()
        if burning
    }


def burnt_version(
    ledger: Ledger, counts: Counts, name: str, model: Model, predecessor: str, now: float | None = None
) -> BurntVersion | None:
    """The live version when its own budget burns within keep_hours of its rollout while `predecessor` is warm; else None.

    Only what was counted of this version since then counts, and no check at which the router itself was away. A predecessor whose budget
    burnt as fast before would burn again: then the version is held.
    """
    slo, now = model.slo, time.time() if now is None else now
    live = live_at(ledger, name)
    if slo is None or not slo.rollback_on_burn or live is None or not predecessor:
        return None
    since = datetime.fromisoformat(live.since).timestamp()
    if now - since > model.rollout.keep_hours * 3600 or _came_back(ledger, name):
        return None
    critical = slo.model_copy(update={"burn": tuple(burn for burn in slo.burn if burn.severity == "critical")})
    alerts = _burning(critical, now, lambda start, end: _own(counts, name, live.version, start, end), since)
    if not alerts:
        return None
    worst = max(alerts, key=lambda alert: alert.rate)
    burnt = BurntVersion(name, live.version, predecessor, worst)
    return replace(burnt, held=_predecessor_burnt(counts, critical, name, predecessor, since, worst))


def _came_back(ledger: Ledger, name: str) -> bool:
    """Whether the version is live by a rollback: what it replaced is no better."""
    moves = ledger.newest(*MOVES, models=[name])
    return bool(moves) and moves[-1].kind == "rolled_back"


def _own(counts: Counts, name: str, version: str, since: float, until: float) -> Span:
    span = counts.span(name, since, until, version)
    return Span(of_the_version(span.counted), span.seconds)


def _predecessor_burnt(counts: Counts, slo: Slo, name: str, predecessor: str, since: float, worst: Burning) -> str:
    """That the predecessor's budget of the same objective burnt too fast in its own last hours; '' when it did not, or nobody counted."""
    objective = next(o for o in objectives(slo) if o.name == worst.objective)
    for burn in slo.burn:
        long = _own(counts, name, predecessor, since - burn.hours * 3600, since)
        alert = burning(objective, burn, long, long)
        if alert is not None:
            return f"its predecessor, version {predecessor}, burnt it too: {alert}"
    return ""


def told_held(ledger: Ledger, burnt: BurntVersion) -> None:
    """Writes once for each rollout that the version is kept."""
    moves = ledger.newest(*MOVES, models=[burnt.model])
    held = ledger.newest(BurnRollbackHeld, models=[burnt.model])
    if moves and held and held[-1].seq > moves[-1].seq:
        return
    event = BurnRollbackHeld(version=burnt.version, reason=f"{burnt.reason}; {burnt.held}")
    ledger.append(event, burnt.model, RUN, "slo")
