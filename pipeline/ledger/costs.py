"""What the steps of runs cost, attempt by attempt; pipeline.accounts has the whole bill.

cost of a step = cpu_s / 3600 * cpu_core_hour + peak_mb / 1024 * wall_s / 3600 * memory_gb_hour
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from pipeline.ledger.events import Event, StepEnded, StepStarted
from pipeline.ledger.in_parts import in_parts, parts_of
from pipeline.ledger.store import EVENTS, Entry, Ledger
from pipeline.settings.accounts import Prices

NO_END = "no end recorded"
RUNS_AT_ONCE, LOOKED_AT = 20, 2000


@dataclass(frozen=True)
class StepCost:
    """One attempt of a step: wall and processor seconds, peak memory in MiB, `cost` in `currency`.

    The measures are None while the ledger has no end of the attempt.
    """

    step: str
    state: str
    wall_s: float | None = None
    cpu_s: float | None = None
    peak_mb: float | None = None
    cost: float | None = None
    currency: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Its fields; an attempt without an end has no measures."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class RunCosts:
    """One run with its steps. The totals count the attempts that ended: sums, and the largest of `peak_mb`."""

    run: str
    model: str
    started_at: str
    steps: tuple[StepCost, ...]
    wall_s: float
    cpu_s: float
    peak_mb: float
    cost: float
    currency: str

    def as_dict(self) -> dict[str, Any]:
        return {**vars(self), "steps": [step.as_dict() for step in self.steps]}


def step_cost(step: StepEnded, prices: Prices) -> float:
    """Price of one metered step, in `prices.currency`; `prices` are those of the day on which it ended."""
    processor = step.cpu_s / 3600 * prices.cpu_core_hour
    memory = step.peak_mb / 1024 * step.wall_s / 3600 * prices.memory_gb_hour
    return processor + memory


def run_costs(ledger: Ledger, prices: Prices, *, run: str = "", model: str = "", since: str = "") -> list[RunCosts]:
    """The costs of each run, oldest first. Attempts of a step stand together; one without an end is listed as such.

    With `since` (ISO 8601) only steps from then on are read.
    """
    entries_of: dict[str, list[Entry[Event]]] = {}
    for entry in ledger.events(StepStarted, StepEnded, run=run, model=model, since=since):
        entries_of.setdefault(entry.run, []).append(entry)
    return [costs_of_run(entries, prices) for entries in entries_of.values()]


def run_costs_in_parts(ledger: Ledger, prices: Prices, since: str) -> Iterator[RunCosts]:
    """The same of all models from `since` on, some runs at a time."""
    kinds = EVENTS.c.kind.concat("").in_([StepStarted.KIND, StepEnded.KIND])
    for part in parts_of(_runs_since(ledger, kinds, since), RUNS_AT_ONCE):
        entries_of: dict[str, list[Entry[Any]]] = {run: [] for run in part}
        for entry in in_parts(ledger, sa.and_(EVENTS.c.run.in_(part), kinds, EVENTS.c.at >= since)):
            entries_of[entry.run].append(entry)
        yield from (costs_of_run(entries, prices) for entries in entries_of.values())


def _runs_since(ledger: Ledger, kinds: Any, since: str) -> list[str]:
    """The runs with a step from `since` on, oldest first: read from the newest event back until LOOKED_AT events of steps are all older, so
    that a clock that was set back for less than those hides none."""
    first: dict[str, int] = {}
    before = sa.true()
    while True:
        # By their numbers: half of a ledger are steps, and SQLite would sort all of them for an index of kinds.
        query = sa.select(EVENTS.c.seq, EVENTS.c.run, EVENTS.c.at).where(kinds, before).order_by(EVENTS.c.seq.desc())
        rows = ledger.rows(query.limit(LOOKED_AT))
        first |= {row.run: row.seq for row in rows if row.at >= since}
        if len(rows) < LOOKED_AT or all(row.at < since for row in rows):
            return sorted(first, key=first.__getitem__)
        before = EVENTS.c.seq < rows[-1].seq


def costs_of_run(entries: Sequence[Entry[Event]], prices: Prices) -> RunCosts:
    """The costs of one run, of its events StepStarted and StepEnded; there must be one."""
    attempts_of: dict[str, list[StepCost]] = {}
    for entry in entries:
        attempts = attempts_of.setdefault(entry.step, [])
        if not isinstance(entry.event, StepEnded):
            attempts.append(StepCost(entry.step, NO_END))
        elif attempts and attempts[-1].state == NO_END:
            attempts[-1] = _ended(entry.step, entry.event, prices.at(entry.at))
        else:
            attempts.append(_ended(entry.step, entry.event, prices.at(entry.at)))
    steps = tuple(attempt for attempts in attempts_of.values() for attempt in attempts)
    return RunCosts(
        run=entries[0].run,
        model=entries[0].model,
        started_at=entries[0].at,
        steps=steps,
        wall_s=round(sum(s.wall_s for s in steps if s.wall_s is not None), 3),
        cpu_s=round(sum(s.cpu_s for s in steps if s.cpu_s is not None), 3),
        peak_mb=max((s.peak_mb for s in steps if s.peak_mb is not None), default=0.0),
        cost=sum(s.cost for s in steps if s.cost is not None),
        currency=prices.currency,
    )


def _ended(name: str, step: StepEnded, prices: Prices) -> StepCost:
    cost = step_cost(step, prices)
    return StepCost(name, step.state, step.wall_s, step.cpu_s, step.peak_mb, cost, prices.currency)
