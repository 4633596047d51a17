"""How much of the time that slots hold their processors these do nothing, and what that share of the slots costs.

    idle share = 1 - processor seconds / (seconds watched * cpus)

from the slots' own counters (event `slot_used`), with `rollout.serving.cpus` of the settings with which each started. The share is one of the
lines of slots, not a further cost. Hours in which nobody read the counters, as those before there were any, are not known: they are in no share.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pipeline.accounts.lines import SECOND_SLOT, SLOT, Line, ms_of, spans
from pipeline.accounts.money import as_float, whole
from pipeline.accounts.slots import SlotLife
from pipeline.ledger.rollups import rolled_up
from pipeline.ledger.store import Ledger
from pipeline.ledger.used_parts import MONTH, USED, together
from pipeline.settings.accounts import Prices


class Idle(NamedTuple):
    """Of the slots of a part (SLOT, SECOND_SLOT), a model and a month: of `watched` hours `idle` ones, as all their processors alike; these
    cost `amount`, in parts of the currency."""

    part: str
    model: str
    month: str
    watched: float
    idle: float
    amount: int


@dataclass(frozen=True)
class IdleShare:
    """A part's hours, how many of them were watched, and of these the idle share and what it costs: None where none was watched."""

    part: str
    hours: float
    watched: float
    share: float | None
    amount: int | None

    def as_dict(self) -> dict[str, Any]:
        return {
            "part": self.part,
            "hours": round(self.hours, 9),
            "watched_hours": round(self.watched, 9),
            "idle_share": None if self.share is None else round(self.share, 6),
            "idle_amount": None if self.amount is None else as_float(self.amount),
        }


def idle_hours(ledger: Ledger, lives: Sequence[SlotLife], prices: Prices, *, model: str = "", month: str = "") -> tuple[Idle, ...]:  # fmt: skip
    """One for each part, model and month in which slots were watched; of `model` and `month` alone or of all (''). Raises LedgerError."""
    changes = [ms_of(since) for since, _ in prices.periods if since]
    sums: dict[tuple[str, str, str], list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    rows = list(together(row for row in rolled_up(ledger, USED, model=model)[USED] if month in ("", row[MONTH])))
    of_slot: dict[tuple[str, str, str], list[SlotLife]] = defaultdict(list)
    for life in lives if rows else ():
        of_slot[life.model, life.slot, life.version].append(life)
    for name, slot, version, of_month, second, start, end, covered, busy in rows:
        found = _held(of_slot[name, slot, version], start, end, prices, changes)
        if found is None:
            continue
        cpus, hour = found
        watched = covered / 3_600_000
        idle = max(0.0, watched - busy / 3_600_000 / cpus)
        of = sums[SECOND_SLOT if second else SLOT, name, of_month]
        for place, more in enumerate((watched, idle, idle * hour)):
            of[place] += more
    return tuple(Idle(*key, watched, idle, whole(value)) for key, (watched, idle, value) in sorted(sums.items()))


def _held(lives: Sequence[SlotLife], start: int, end: int, prices: Prices, changes: Sequence[int]) -> tuple[float, float] | None:  # fmt: skip
    """(processors, what an hour costs) of a slot from `start` to `end`, on average over that time; None where it did not run."""
    if len(lives) == 1 and not changes:
        # As nearly always: of tens of thousands of rows the loop below takes a second.
        life = lives[0]
        ran = min(end, life.end) > max(start, life.start) and life.size.cpus > 0
        return (life.size.cpus, life.hour(prices)) if ran else None
    length, cpus, cost = 0, 0.0, 0.0
    for life in lives:
        for span in spans(max(start, life.start), min(end, life.end), changes):
            lasts = span.end - span.start
            length, cpus = length + lasts, cpus + lasts * life.size.cpus
            cost += lasts * life.hour(span.prices(prices))
    return (cpus / length, cost / length) if length and cpus else None


def idle_shares(lines: Iterable[Line], idle: Iterable[Idle]) -> list[IdleShare]:
    """Of each part of slots that the lines have; of more hours than the bill has none is watched."""
    hours: dict[str, float] = {}
    for line in lines:
        if line.part in (SLOT, SECOND_SLOT):
            hours[line.part] = hours.get(line.part, 0.0) + line.quantity
    of_part: dict[str, list[Idle]] = defaultdict(list)
    for each in idle:
        of_part[each.part].append(each)
    return [_share(part, hours[part], of_part[part]) for part in (SLOT, SECOND_SLOT) if part in hours]


def _share(part: str, hours: float, of: Sequence[Idle]) -> IdleShare:
    watched = sum(each.watched for each in of)
    if not watched:
        return IdleShare(part, hours, 0.0, None, None)
    share, fits = sum(each.idle for each in of) / watched, min(1.0, hours / watched)
    return IdleShare(part, hours, watched * fits, share, round(sum(each.amount for each in of) * fits))


def idle_of(lines: Iterable[Line], idle: Iterable[Idle], month: str) -> dict[str, Any]:
    """The idle share of a month's slots, live and second ones together, what it cost, and the share of their hours that was watched."""
    return _of_lines([line for line in lines if line.month == month], [each for each in idle if each.month == month])


def idle_by_model(lines: Iterable[Line], idle: Iterable[Idle]) -> dict[str, dict[str, Any]]:
    """The same of each model that has slots in the bill."""
    of_model: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        if line.part in (SLOT, SECOND_SLOT):
            of_model[line.model].append(line)
    own: dict[str, list[Idle]] = defaultdict(list)
    for each in idle:
        own[each.model].append(each)
    return {model: _of_lines(of, own[model]) for model, of in of_model.items()}


def _of_lines(lines: Sequence[Line], idle: Sequence[Idle]) -> dict[str, Any]:
    shares = idle_shares(lines, idle)
    known = [each for each in shares if each.share is not None and each.amount is not None]
    hours, watched = sum(each.hours for each in shares), sum(each.watched for each in known)
    if not watched:
        return {"idle_share": None, "idle_cost": None, "slots_watched": 0.0 if hours else None}
    return {
        "idle_share": round(sum((each.share or 0.0) * each.watched for each in known) / watched, 6),
        "idle_cost": as_float(sum(each.amount or 0 for each in known)),
        "slots_watched": round(watched / hours, 6),
    }
