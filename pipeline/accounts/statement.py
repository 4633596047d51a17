"""The account of all models or of one: every line of it, its sums by part, month, model, step and run, and the idle share of its slots.

The lines are exact and do not overlap, so each of these sums adds up to the same total.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import sqlalchemy as sa

from pipeline.accounts.compute import compute_lines, killed_lines
from pipeline.accounts.idle import Idle, idle_hours, idle_shares
from pipeline.accounts.lines import ENERGY, FAILED, PEOPLE, STEPS, UNITS, Line, month_of, ms_of, total
from pipeline.accounts.money import as_float
from pipeline.accounts.pauses import without_pauses
from pipeline.accounts.people import people_lines
from pipeline.accounts.services import services_lines
from pipeline.accounts.slots import Size, SlotLife, slot_lines, slot_lives
from pipeline.accounts.storage import storage_lines
from pipeline.accounts.stored import newest_places, stored_lines
from pipeline.ledger.events import StepEnded
from pipeline.ledger.rollup_parts import STEPS as STEP_SUMS
from pipeline.ledger.rollups import rolled_up
from pipeline.ledger.store import EVENTS, Ledger, now
from pipeline.settings.accounts import Prices
from pipeline.settings.economics import Economics
from pipeline.settings.models import Params
from pipeline.settings.rollout import Serving

# So many runs are shown by themselves, the newest; the others in one sum.
RUNS = 20
# Among so many of the newest attempts they are looked for.
ATTEMPTS = 2000
# The parts that runs alone have.
OF_RUNS = (STEPS, FAILED, ENERGY)
EARLIER, NO_RUN = "earlier runs", "no run"
# What no look can find.
ELSEWHERE = "what lies on other machines' disks, as on a server Airflow's database and the task logs of workers"
MOVED = "bytes moved in other ways than to and from the DVC remote and to MLflow with a version: packages fetched from MLflow, images, answers"


@dataclass(frozen=True)
class Terms:
    """What an account goes by, of params.yaml: prices, and of each model its economics, the size of its slots and the name of its loss,
    '' where nobody knows it."""

    prices: Prices
    economics: Callable[[str], Economics] = field(default=lambda model: Economics())
    size: Callable[[str], Size] = field(default=lambda model: Size())
    loss: Callable[[str], str] = field(default=lambda model: "")

    @classmethod
    def of(cls, params: Params) -> Terms:
        """Where a block is broken elsewhere, what it says of these counts; what is wrong itself, or not stated, is as usual."""

        def economics(name: str) -> Economics:
            return params.section_of(name, Economics, "economics")

        def size(name: str) -> Size:
            serving = params.section_of(name, Serving, "rollout", "serving")
            return Size(serving.cpus, serving.memory_mb)

        def loss(name: str) -> str:
            return params.models[name].loss if name in params.models else ""

        return cls(params.prices, functools.cache(economics), functools.cache(size), functools.cache(loss))


@dataclass(frozen=True)
class Statement:
    """`lines` up to `until`; `shown_runs` are those that stand by themselves, the newest first. `model` and `month` are '' for all."""

    currency: str
    until: str
    lines: tuple[Line, ...]
    shown_runs: tuple[str, ...]
    lives: tuple[SlotLife, ...] = ()
    model: str = ""
    month: str = ""
    idle: tuple[Idle, ...] = ()
    # The time of the first look at other storage, '' for none, and the bytes by place as of the newest looks.
    looked_since: str = ""
    places: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def total(self) -> int:
        return total(self.lines)

    def by(self, key: Callable[[Line], str]) -> dict[str, int]:
        """Sums of the lines by what `key` gives, in its order."""
        sums: dict[str, int] = defaultdict(int)
        for line in self.lines:
            sums[key(line)] += line.amount
        return dict(sorted(sums.items()))

    def by_part(self) -> dict[str, list[Line]]:
        """The lines of each part that has some, in the order of UNITS."""
        of: dict[str, list[Line]] = {}
        for line in self.lines:
            of.setdefault(line.part, []).append(line)
        return {part: of[part] for part in UNITS if part in of}

    def _sums(self) -> list[dict[str, int]]:
        """By model, month and step, in one look at each line: a bill of years has 100,000 of them."""
        models: dict[str, int] = defaultdict(int)
        months: dict[str, int] = defaultdict(int)
        steps: dict[str, int] = defaultdict(int)
        for part, model, month, amount, _, _, step, _, _, _ in self.lines:
            models[model] += amount
            months[month] += amount
            steps[step if step and part != PEOPLE else part] += amount
        return [dict(sorted(sums.items())) for sums in (models, months, steps)]

    def by_run(self) -> dict[str, int]:
        """The newest runs that have a line, what all earlier ones came to, and what belongs to no run."""
        order = [*self.shown_runs, EARLIER, NO_RUN]
        sums: dict[str, int] = {}
        for line in self.lines:
            shown = line.run in self.shown_runs
            place = line.run if shown else EARLIER if line.run or line.part in OF_RUNS else NO_RUN
            sums[place] = sums.get(place, 0) + line.amount
        return {place: sums[place] for place in order if place in sums}

    def as_dict(self) -> dict[str, Any]:
        models, months, steps = self._sums()
        return {
            "model": self.model or None,
            "month": self.month or None,
            "until": self.until,
            "currency": self.currency,
            "total": as_float(self.total),
            "by_part": [_part(part, lines) for part, lines in self.by_part().items()],
            "by_model": _rows("model", models),
            "by_month": _rows("month", months),
            "by_step": _rows("step", steps),
            "by_run": _rows("run", self.by_run()),
            "idle": [share.as_dict() for share in idle_shares(self.lines, self.idle)],
            "places": dict(self.places),
            "not_measured": self.not_measured,
        }

    @property
    def not_measured(self) -> list[str]:
        """What is in no sum, as nobody knows it."""
        before = f"before {self.looked_since[:16]}Z" if self.looked_since else "of any time: nobody looked yet"
        return [f"bytes outside the DVC remote {before}", ELSEWHERE, MOVED]


def _part(part: str, lines: Sequence[Line]) -> dict[str, Any]:
    known = "guess" if any(line.known == "guess" for line in lines) else lines[0].known
    return {
        "part": part,
        "amount": as_float(total(lines)),
        "quantity": round(sum(line.quantity for line in lines), 9),
        "unit": UNITS[part],
        "known": known,
        "counted": lines[0].counted if len({line.counted for line in lines}) == 1 else "guess",
        "price": lines[0].price,
    }


def _rows(name: str, sums: Mapping[str, int]) -> list[dict[str, Any]]:
    return [{name: key, "amount": as_float(amount)} for key, amount in sums.items()]


@without_pauses()
def statement(
    ledger: Ledger, terms: Terms, *, model: str = "", month: str = "", run: str = "", until: str = ""
) -> Statement:
    """The account of `model`, `month` (2026-03) or `run`, '' for all, up to `until`, which is now by default. Raises LedgerError."""
    until = until or now()
    end, prices = ms_of(until), terms.prices
    shown = (run,) if run else newest_runs(ledger, model)
    single = compute_lines(ledger, prices, model=model, runs=shown) if shown else []
    single = [line for line in single if month in ("", line.month)]
    # After the single runs: a step that ends meanwhile is in the sums then.
    ended = compute_lines(ledger, prices, model=model, month=month)

    def all_ended(models: set[str]) -> Sequence[Line]:
        """Of all months: what an attempt costs on average does not depend on the month that is asked for."""
        if not month:
            return ended
        return [line for line in compute_lines(ledger, prices, model=model) if line.model in models] if models else []

    begins = month_of(month)[1] if month else 0
    # Of all models: they share the services, whichever of them is asked for.
    lives = slot_lives(ledger, terms.size, end)
    bill = [
        *_with_runs(ended, single),
        *killed_lines(ledger, all_ended, until, model=model, month=month),
        *storage_lines(ledger, prices, end, model=model, month=month),
        *stored_lines(ledger, prices, end, model=model, month=month),
        *slot_lines([life for life in lives if model in ("", life.model) and life.end > begins], prices, month),
        *people_lines(ledger, prices, terms.economics, model=model, month=month),
        *_services(ledger, prices, end, lives, model),
    ]
    lines = [line for line in bill if month in ("", line.month) and run in ("", line.run)]
    kept = tuple(life for life in lives if model in ("", life.model))
    idle = () if run else idle_hours(ledger, lives, prices, model=model, month=month)
    since, places = newest_places(ledger, model)
    return Statement(
        prices.currency, until, tuple(lines), shown, kept, model, month, idle, since, {} if run else places
    )


def _services(ledger: Ledger, prices: Prices, end: int, lives: Sequence[SlotLife], model: str) -> list[Line]:
    """The share of `model`, '' for all, in what runs for all of them."""
    first = ledger.rows(sa.select(EVENTS.c.at).order_by(EVENTS.c.seq).limit(1))
    if not first or not any(each.services_hour for _, each in prices.periods):
        return []
    busy: dict[str, set[str]] = defaultdict(set)
    for name, _, month, *_ in rolled_up(ledger, STEP_SUMS)[STEP_SUMS]:
        busy[month].add(name)
    for line in slot_lines(lives, prices):
        busy[line.month].add(line.model)
    shared = services_lines(prices, ms_of(first[0].at), end, busy) if busy else []
    return [line for line in shared if model in ("", line.model)]


def newest_runs(ledger: Ledger, model: str = "", count: int = RUNS) -> tuple[str, ...]:
    """The runs of the newest attempts, the newest first."""
    query = sa.select(EVENTS.c.run).where(EVENTS.c.kind == StepEnded.KIND)
    query = query.where(EVENTS.c.model == model) if model else query
    rows = ledger.rows(query.order_by(EVENTS.c.seq.desc()).limit(ATTEMPTS))
    return tuple(dict.fromkeys(row.run for row in rows if row.run))[:count]


def _with_runs(ended: Sequence[Line], single: Sequence[Line]) -> list[Line]:
    """The lines of single runs in place of their share of the sums over all runs."""
    rest: dict[tuple[str, ...], Line] = {}
    months = {line.month for line in single}
    others = [line for line in ended if line.month not in months]
    for line in ended:
        if line.month not in months:
            continue
        before = rest.get(_key(line))
        rest[_key(line)] = _changed(line, before, 1) if before is not None else line
    for line in single:
        rest[_key(line)] = _changed(rest[_key(line)], line, -1)
    return [*others, *(line for line in rest.values() if line.attempts), *single]


def _changed(line: Line, by: Line, sign: int) -> Line:
    return line._replace(
        amount=line.amount + sign * by.amount,
        quantity=line.quantity + sign * by.quantity,
        attempts=line.attempts + sign * by.attempts,
    )


def _key(line: Line) -> tuple[str, ...]:
    return line.part, line.model, line.month, line.step
