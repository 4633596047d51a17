"""The bill so far for pages, which are asked for often: months that are over are added up once a day, the present one when some seconds are over.

Of a month that is over, steps, slots, storage and people stay what they are. Only what a killed attempt costs is a mean of all attempts, which
moves a little with each one; so the sum is made anew each day, and whenever the settings, the ledger's past or the month change. Each line here
is a sum of lines, exact as they are: the total is that of `statement` to the last digit, as of the bill's `until`, but for the killed attempts of
months that are over, which are those of the day's first look.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace

import sqlalchemy as sa

from pipeline.accounts.idle import idle_hours
from pipeline.accounts.lines import Known, Line, ms_of, total
from pipeline.accounts.statement import Statement, Terms, statement
from pipeline.ledger.store import EVENTS, Ledger, now

# So many bills are kept in a process, each of some hundred lines.
MOST_KEPT = 500
# So long a bill is shown again as it is, with the time that it is of.
FRESH_MS = 60_000


@dataclass(frozen=True)
class _Kept:
    """The lines of the months before `month`, as of the event `seq` with `hash` and of `day`, and the newest bill."""

    day: str
    month: str
    seq: int
    hash: str
    closed: tuple[Line, ...]
    bill: Statement


_KEPT: dict[tuple[str, str, str, bool], _Kept] = {}


def bill_so_far(
    ledger: Ledger, terms: Terms, settings: str, *, model: str = "", by_month: bool = False, fresh_ms: int = 0
) -> Statement:
    """The account of `model`, '' for all, up to its `until`, `fresh_ms` ago at most (0: FRESH_MS); a line for each part and model, and each month with
    `by_month`. `settings` names what `terms` were read from, as a digest of params.yaml does. Raises LedgerError."""
    until, key = now(), (ledger.url, settings, model, by_month)
    kept = _KEPT.get(key)
    if kept is None or kept.day != until[:10] or not _still_right(ledger, kept):
        kept = _made(ledger, terms, model, until, by_month)
        while len(_KEPT) >= MOST_KEPT:
            _KEPT.pop(next(iter(_KEPT)), None)
    elif not 0 <= ms_of(until) - ms_of(kept.bill.until) < (fresh_ms or FRESH_MS):
        present = statement(ledger, terms, model=model, month=kept.month, until=until)
        # A month that is over has no line in common with the present one.
        lines = (
            (*kept.closed, *_summed(present.lines, True))
            if by_month
            else _summed([*kept.closed, *present.lines], False)
        )
        # What slots took on a month's last day is known after its end.
        idle = idle_hours(ledger, present.lives, terms.prices, model=model)
        kept = replace(kept, bill=replace(kept.bill, until=until, lines=lines, idle=idle))
    _KEPT[key] = kept
    return kept.bill


def _made(ledger: Ledger, terms: Terms, model: str, until: str, by_month: bool) -> _Kept:
    head = ledger.rows(sa.select(EVENTS.c.seq, EVENTS.c.hash).order_by(EVENTS.c.seq.desc()).limit(1))
    seq, digest = (head[0].seq, head[0].hash) if head else (0, "")
    month, whole = until[:7], statement(ledger, terms, model=model, until=until)
    closed = _summed((line for line in whole.lines if line.month < month), by_month)
    present = [line for line in whole.lines if line.month >= month]
    bill = Statement(whole.currency, until, _summed([*closed, *present], by_month), (), (), model, idle=whole.idle)
    return _Kept(until[:10], month, seq, digest, closed, bill)


def _still_right(ledger: Ledger, kept: _Kept) -> bool:
    """Whether the ledger is the same one, and nothing was added to the months that are over."""
    of = {row.seq: row.hash for row in ledger.rows(sa.select(EVENTS.c.seq, EVENTS.c.hash).where(EVENTS.c.seq == kept.seq))}  # fmt: skip
    late = sa.select(EVENTS.c.seq).where(EVENTS.c.seq > kept.seq, EVENTS.c.at < kept.month).limit(1)
    return of.get(kept.seq, "") == kept.hash and not ledger.rows(late)


def _summed(lines: Iterable[Line], by_month: bool) -> tuple[Line, ...]:
    of: dict[tuple[str, str, str, Known, Known], list[Line]] = defaultdict(list)
    for line in lines:
        of[line.part, line.model, line.month if by_month else "", line.counted, line.price].append(line)
    return tuple(
        Line(
            part,
            model,
            month,
            total(each),
            sum(line.quantity for line in each),
            counted=counted,
            price=price,
            attempts=sum(line.attempts for line in each),
        )
        for (part, model, month, counted, price), each in of.items()
    )
