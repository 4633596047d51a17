"""What steps cost: those that did their work, those that failed, and those that were killed.

    cost of an attempt = cpu_s / 3600 * cpu_core_hour + peak_mb / 1024 * wall_s / 3600 * memory_gb_hour

at the prices of the day on which it ended. The database adds up the metered seconds, so that a ledger of years answers at once. A step
that was killed has no end and no measure: it counts as much as that step of that model costs on average, which is a guess.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from pipeline.accounts.lines import ENERGY, FAILED, KILLED, STEPS, Line, iso, ms_of, total
from pipeline.accounts.money import whole
from pipeline.ledger.columns import MONTH, number, text
from pipeline.ledger.events import RunSettled, StepEnded, StepStarted
from pipeline.ledger.store import EVENTS, Ledger
from pipeline.settings.accounts import Prices

# What began so long ago and has no end does not run any more.
STILL_RUNNING = timedelta(hours=48)


def compute_lines(
    ledger: Ledger, prices: Prices, *, model: str = "", runs: Collection[str] | None = None
) -> list[Line]:
    """A line for each model, month, step and outcome; with `runs` only of these, and for each run."""
    # The period of prices by its number; without changes the database need not compare.
    begins = [since for since, _ in prices.periods]
    later = [(EVENTS.c.at >= since, i) for i, since in reversed(list(enumerate(begins))) if i]
    period = sa.case(*later, else_=0) if later else sa.literal_column("0")
    run = sa.literal_column("''") if runs is None else EVENTS.c.run
    keys = [EVENTS.c.model, run.label("run"), EVENTS.c.step, MONTH.label("month"), period.label("period")]
    query = (
        sa.select(*keys, *_measures(ledger))
        .where(_of(StepEnded.KIND, model, runs))
        # By place: SQLite would compute an expression again that it does not know to be the same. The second is '' without runs.
        .group_by(*(sa.literal_column(str(place)) for place in range(1, 6) if place != 2 or runs is not None))
    )
    return [line for row in ledger.rows(query) for line in _lines(row, prices.periods[row.period][1])]


def _measures(ledger: Ledger) -> list[Any]:
    """Attempts, processor seconds and MiB times seconds, of all and of those that failed; and joules. To sort by the state as well
    takes longer than to add up twice."""
    failed = text(ledger, "state") == "failed"
    one: Any = sa.literal_column("1")
    cpu = number(ledger, "cpu_s")
    mb_s = number(ledger, "peak_mb") * number(ledger, "wall_s")
    measures = {"attempts": one, "cpu_s": cpu, "mb_s": mb_s}
    return [
        *(sa.func.sum(of).label(name) for name, of in measures.items()),
        *(sa.func.sum(sa.case((failed, of), else_=0)).label(f"failed_{name}") for name, of in measures.items()),
        sa.func.sum(number(ledger, "energy_j")).label("energy_j"),
    ]


def _of(kind: str, model: str, runs: Collection[str] | None) -> Any:
    if runs is not None:
        # SQLite would take the index of kinds, and read all steps for a few runs: it has no index of this expression.
        return sa.and_(EVENTS.c.run.in_(list(runs)), EVENTS.c.kind.concat("") == kind)
    return sa.and_(EVENTS.c.kind == kind, EVENTS.c.model == model) if model else EVENTS.c.kind == kind


def _lines(row: Any, prices: Prices) -> list[Line]:
    failed, cpu_s, mb_s = row.failed_attempts, row.cpu_s or 0.0, row.mb_s or 0.0
    found = []
    if failed:
        lost_cpu_s, lost_mb_s = row.failed_cpu_s or 0.0, row.failed_mb_s or 0.0
        found.append(_line(FAILED, row, prices, failed, lost_cpu_s, lost_mb_s))
        cpu_s, mb_s = cpu_s - lost_cpu_s, mb_s - lost_mb_s
    if row.attempts > failed:
        found.append(_line(STEPS, row, prices, row.attempts - failed, cpu_s, mb_s))
    if row.energy_j:
        kwh, known = row.energy_j / 3_600_000, prices.known("kwh")
        amount = whole(kwh * prices.kwh)
        found.append(
            Line(ENERGY, row.model, row.month, amount, kwh, row.run, row.step, price=known, attempts=row.attempts)
        )
    return found


def _line(part: str, row: Any, prices: Prices, attempts: int, cpu_s: float, mb_s: float) -> Line:
    """The line of so many attempts, which took `cpu_s` processor seconds and `mb_s` MiB times seconds."""
    hours, gb_hours = cpu_s / 3600, mb_s / 1024 / 3600
    amount = whole(hours * prices.cpu_core_hour + gb_hours * prices.memory_gb_hour)
    return Line(part, row.model, row.month, amount, hours, row.run, row.step, attempts=attempts)


def killed_lines(ledger: Ledger, ended: Sequence[Line], until: str, *, model: str = "") -> list[Line]:
    """A line for each run and step that began more often than it ended, without what may still run at `until`."""
    kinds = EVENTS.c.kind.in_([StepStarted.KIND, StepEnded.KIND])
    counts = sa.select(EVENTS.c.model, EVENTS.c.kind, sa.func.count().label("rows")).where(kinds)
    begun: dict[str, int] = defaultdict(int)
    for row in ledger.rows(counts.group_by(EVENTS.c.model, EVENTS.c.kind)):
        begun[row.model] += row.rows if row.kind == StepStarted.KIND else -row.rows
    models = [name for name, more in begun.items() if more > 0 and model in ("", name)]
    if not models:
        return []
    balance = sa.func.sum(sa.case((EVENTS.c.kind == StepStarted.KIND, 1), else_=-1))
    query = (
        sa.select(
            EVENTS.c.model, EVENTS.c.run, EVENTS.c.step, balance.label("killed"), sa.func.max(EVENTS.c.at).label("at")
        )
        .where(kinds, EVENTS.c.model.in_(models))
        .group_by(EVENTS.c.model, EVENTS.c.run, EVENTS.c.step)
        .having(balance > 0)
    )
    rows = ledger.rows(query)
    over = _settled(ledger, {row.run for row in rows})
    mean = _means(ended)
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


def _settled(ledger: Ledger, runs: Collection[str]) -> set[str]:
    query = sa.select(EVENTS.c.run).where(EVENTS.c.kind == RunSettled.KIND, EVENTS.c.run.in_(list(runs)))
    return {row.run for row in ledger.rows(query)}


def _means(ended: Sequence[Line]) -> dict[tuple[str, str], float]:
    """What an attempt of a step costs on average, by model and step."""
    lines: dict[tuple[str, str], list[Line]] = defaultdict(list)
    for line in ended:
        if line.part in (STEPS, FAILED):
            lines[line.model, line.step].append(line)
    return {key: total(of) / sum(line.attempts for line in of) for key, of in lines.items()}
