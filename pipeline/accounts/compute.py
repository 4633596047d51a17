"""What steps cost: those that did their work, those that failed, and those that were killed.

    cost of an attempt = cpu_s / 3600 * cpu_core_hour + peak_mb / 1024 * wall_s / 3600 * memory_gb_hour

at the prices of the day on which it ended. The database adds up the metered seconds, so that a ledger of years answers at once. A step
that was killed has no end and no measure: it counts as much as that step of that model costs on average, which is a guess.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from pipeline.accounts.lines import ENERGY, FAILED, KILLED, STEPS, Line, iso, ms_of
from pipeline.accounts.money import whole
from pipeline.ledger import rollup_parts
from pipeline.ledger.columns import CPU_PARTS, ENERGY_PARTS, MEMORY_PARTS, MONTH, usage
from pipeline.ledger.events import RunSettled, StepEnded, StepStarted
from pipeline.ledger.rollups import rolled_up
from pipeline.ledger.store import EVENTS, Ledger
from pipeline.settings.accounts import Prices

# What began so long ago and has no end does not run any more.
STILL_RUNNING = timedelta(hours=48)

# The lines that were made of what was used, by ledger and prices and then by model, step and month: at the next request of a page few are others.
_MADE: dict[tuple[str, str], dict[tuple[str, str, str], tuple[list[int], list[Line]]]] = {}
# Of so many ledgers and prices in one process.
PLACES = 4


def compute_lines(
    ledger: Ledger, prices: Prices, *, model: str = "", runs: Collection[str] | None = None, month: str = ""
) -> list[Line]:
    """A line for each model, month, step and outcome, of `month` alone or of all; with `runs` only of these, and for each run."""
    if runs is not None:
        return _metered(ledger, prices, model, runs, ())
    # In a month in which prices change its sums are parted by the day, which no roll-up has.
    parted = {since[:7] for since, _ in prices.periods if since and not since[7:].startswith("-01T00:00:00.000")}
    wanted = sorted(each for each in parted if month in ("", each))
    # A piece of the roll-up has each key once.
    sums: dict[tuple[str, str, str], list[int]] = {}
    for row in rolled_up(ledger, rollup_parts.STEPS, model=model)[rollup_parts.STEPS]:
        at = row[2]
        if month in ("", at) and at not in parted:
            key, used = (row[0], row[1], at), row[3:]
            before = sums.get(key)
            sums[key] = used if before is None else [a + b for a, b in zip(before, used, strict=True)]
    of = {at: prices.at(f"{at}-01T00:00:00.000Z") for at in {key[2] for key in sums}}
    if (place := (ledger.url, prices.model_dump_json())) not in _MADE and len(_MADE) >= PLACES:
        _MADE.clear()
    made = _MADE.setdefault(place, {})
    lines: list[Line] = []
    for key, used in sums.items():
        known = made.get(key)
        if known is None or known[0] != used:
            name, step, at = key
            known = made[key] = (used, _lines((name, "", step, at), used, of[at]))
        lines += known[1]
    return lines + (_metered(ledger, prices, model, None, wanted) if wanted else [])


def _metered(
    ledger: Ledger, prices: Prices, model: str, runs: Collection[str] | None, months: Sequence[str]
) -> list[Line]:
    """As the events have it, at the price of each day; of those months alone, () for all."""
    # The period of prices by its number; without changes the database need not compare.
    begins = [since for since, _ in prices.periods]
    later = [(EVENTS.c.at >= since, i) for i, since in reversed(list(enumerate(begins))) if i]
    period = sa.case(*later, else_=0) if later else sa.literal_column("0")
    run = sa.literal_column("''") if runs is None else EVENTS.c.run
    keys = [EVENTS.c.model, run.label("run"), EVENTS.c.step, MONTH.label("month"), period.label("period")]
    query = (
        sa.select(*keys, *usage(ledger))
        .where(_of(StepEnded.KIND, model, runs), *([MONTH.in_(list(months))] if months else []))
        # By place: SQLite would compute an expression again that it does not know to be the same. The second is '' without runs.
        .group_by(*(sa.literal_column(str(place)) for place in range(1, 6) if place != 2 or runs is not None))
    )
    return [
        line
        for row in ledger.rows(query)
        for line in _lines(row[:4], [int(value or 0) for value in row[5:]], prices.periods[row.period][1])
    ]


def _of(kind: str, model: str, runs: Collection[str] | None) -> Any:
    if runs is not None:
        # SQLite would take the index of kinds or of models, and read all steps for a few runs: it has no index of these expressions.
        of_runs = sa.and_(EVENTS.c.run.in_(list(runs)), EVENTS.c.kind.concat("") == kind)
        return sa.and_(of_runs, EVENTS.c.model.concat("") == model) if model else of_runs
    return sa.and_(EVENTS.c.kind == kind, EVENTS.c.model == model) if model else EVENTS.c.kind == kind


def _lines(key: Sequence[str], used: Sequence[int], prices: Prices) -> list[Line]:
    """The lines of a (model, run, step, month), with what was used as `columns.usage` adds it up."""
    attempts, cpu, memory, failed, lost_cpu, lost_memory, energy = used
    found = []
    if failed:
        found.append(_line(FAILED, key, prices, failed, lost_cpu, lost_memory))
    if attempts > failed:
        found.append(_line(STEPS, key, prices, attempts - failed, cpu - lost_cpu, memory - lost_memory))
    if energy:
        kwh, known = energy / ENERGY_PARTS / 3_600_000, prices.known("kwh")
        model, run, step, month = key
        found.append(
            Line(ENERGY, model, month, whole(kwh * prices.kwh), kwh, run, step, price=known, attempts=attempts)
        )
    return found


def _line(part: str, key: Sequence[str], prices: Prices, attempts: int, cpu: int, memory: int) -> Line:
    """The line of so many attempts, which took `cpu` CPU_PARTS of a second and `memory` MEMORY_PARTS of a MiB second."""
    model, run, step, month = key
    hours, gb_hours = cpu / CPU_PARTS / 3600, memory / MEMORY_PARTS / 1024 / 3600
    amount = whole(hours * prices.cpu_core_hour + gb_hours * prices.memory_gb_hour)
    return Line(part, model, month, amount, hours, run, step, "measured", "yours", attempts)


def killed_lines(
    ledger: Ledger,
    ended: Callable[[set[str]], Sequence[Line]],
    until: str,
    *,
    model: str = "",
    month: str = "",
    runs: Collection[str] | None = None,
) -> list[Line]:
    """A line for each run and step that began more often than it ended, without what may still run at `until`; of `month` alone or of all,
    and with `runs` only of these.

    `ended` gives the lines by which an attempt of these models is priced.
    """
    more: dict[tuple[str, str, str], int] = defaultdict(int)
    for name, run, step, count in rolled_up(ledger, rollup_parts.OPEN, model=model)[rollup_parts.OPEN]:
        if runs is None or run in runs:
            more[name, run, step] += count
    open_steps = {key for key, count in more.items() if count > 0}
    rows = [row for row in _attempts(ledger, sorted({run for _, run, _ in open_steps})) if tuple(row[:3]) in open_steps]
    rows = [row for row in rows if month in ("", row.at[:7])]
    over = _settled(ledger, {row.run for row in rows})
    mean = _means(ended({row.model for row in rows}), {(row.model, row.step) for row in rows})
    recent = iso(ms_of(until) - round(STILL_RUNNING.total_seconds() * 1000))
    found = []
    for row in rows:
        running = row.at > recent and row.run not in over
        killed = row.killed - (1 if running else 0)
        if killed > 0:
            amount = round(killed * mean.get((row.model, row.step), 0.0))
            found.append(
                Line(KILLED, row.model, row.at[:7], amount, float(killed), row.run, row.step, "guess", attempts=killed)
            )
    return found


def _attempts(ledger: Ledger, runs: Sequence[str]) -> list[Any]:
    """(model, run, step, how much more often it began than it ended, its newest time) of those runs."""
    balance = sa.func.sum(sa.case((EVENTS.c.kind == StepStarted.KIND, 1), else_=-1))
    keys = (EVENTS.c.model, EVENTS.c.run, EVENTS.c.step)
    kinds = EVENTS.c.kind.concat("").in_([StepStarted.KIND, StepEnded.KIND])
    query = sa.select(*keys, balance.label("killed"), sa.func.max(EVENTS.c.at).label("at"))
    # A database takes so many values in one query.
    batches = [runs[start : start + 500] for start in range(0, len(runs), 500)]
    return [
        row
        for batch in batches
        for row in ledger.rows(query.where(kinds, EVENTS.c.run.in_(batch)).group_by(*keys).having(balance > 0))
    ]


def _settled(ledger: Ledger, runs: Collection[str]) -> set[str]:
    if not runs:
        return set()
    query = sa.select(EVENTS.c.run).where(EVENTS.c.kind.concat("") == RunSettled.KIND)
    names = sorted(runs)
    batches = [names[start : start + 500] for start in range(0, len(names), 500)]
    return {row.run for batch in batches for row in ledger.rows(query.where(EVENTS.c.run.in_(batch)))}


def _means(ended: Sequence[Line], wanted: Collection[tuple[str, str]]) -> dict[tuple[str, str], float]:
    """What an attempt of a step costs on average, by model and step, of those that are wanted."""
    sums = {key: [0, 0] for key in wanted}
    for line in ended:
        of = sums.get((line.model, line.step)) if line.part in (STEPS, FAILED) else None
        if of is not None:
            of[0] += line.amount
            of[1] += line.attempts
    return {key: amount / attempts for key, (amount, attempts) in sums.items() if attempts}
