"""The bill so far for pages, which are asked for often: months that are over are added up once a day, the present one each time.

Of a month that is over, steps, slots, storage and people stay what they are. Only what a killed attempt costs is a mean of all attempts, which
moves a little with each one; so the sum is made anew each day, and whenever the settings, the ledger's past or the month change. Each line here
is a sum of lines, exact as they are: the total is that of `statement` to the last digit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from pipeline.accounts.lines import Known, Line, total
from pipeline.accounts.statement import Statement, Terms, statement
from pipeline.ledger.store import EVENTS, Ledger, now

# So many bills are kept in a process, each of some hundred lines.
MOST_KEPT = 500


@dataclass(frozen=True)
class _Closed:
    """The lines of the months before `month`, as of the event `seq` with `hash` and of `day`."""

    day: str
    month: str
    seq: int
    hash: str
    lines: tuple[Line, ...]


_KEPT: dict[tuple[str, str, str, bool], _Closed] = {}


def bill_so_far(ledger: Ledger, terms: Terms, settings: str, *, model: str = "", by_month: bool = False) -> Statement:
    """The account of `model`, '' for all, up to now, with a line for each part and model, and each month with `by_month`. `settings` names
    what `terms` were read from, as a digest of params.yaml does. Raises LedgerError."""
    until = now()
    month, key = until[:7], (ledger.url, settings, model, by_month)
    closed = _KEPT.get(key)
    if closed is None or closed.day != until[:10] or not _still_right(ledger, closed):
        head = ledger.rows(sa.select(EVENTS.c.seq, EVENTS.c.hash).order_by(EVENTS.c.seq.desc()).limit(1))
        seq, digest = (head[0].seq, head[0].hash) if head else (0, "")
        whole = statement(ledger, terms, model=model, until=until)
        before = (line for line in whole.lines if line.month < month)
        closed = _Closed(until[:10], month, seq, digest, _summed(before, by_month))
        while len(_KEPT) >= MOST_KEPT:
            _KEPT.pop(next(iter(_KEPT)), None)
        _KEPT[key] = closed
        present = [line for line in whole.lines if line.month >= month]
    else:
        present = list(statement(ledger, terms, model=model, month=month, until=until).lines)
    lines = _summed([*closed.lines, *present], by_month)
    return Statement(terms.prices.currency, until, lines, (), (), model)


def _still_right(ledger: Ledger, closed: _Closed) -> bool:
    """Whether the ledger is the same one, and nothing was added to the months that are over."""
    of = {row.seq: row.hash for row in ledger.rows(sa.select(EVENTS.c.seq, EVENTS.c.hash).where(EVENTS.c.seq == closed.seq))}  # fmt: skip
    late = sa.select(EVENTS.c.seq).where(EVENTS.c.seq > closed.seq, EVENTS.c.at < closed.month).limit(1)
    return of.get(closed.seq, "") == closed.hash and not ledger.rows(late)


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
