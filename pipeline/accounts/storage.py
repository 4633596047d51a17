"""What bytes cost: those that were moved to the DVC remote and to MLflow, and those that lie in the remote since.

    cost = GB moved * transfer_gb + GB * months stored * storage_gb_month

A GB has 10^9 bytes. Only new bytes are pushed (pipeline.workspaces), and they count as stored until a prune says that the remote no longer
has them. What lies elsewhere, as in MLflow, is in stored.py.
"""

from __future__ import annotations

from collections import defaultdict

from pipeline.accounts.lines import STORAGE, TRANSFER, Line, Sum, month_of, ms_of, spans_of
from pipeline.ledger.rollup_parts import BYTES
from pipeline.ledger.rollups import rolled_up
from pipeline.ledger.store import Ledger
from pipeline.settings.accounts import Prices

GB = 10**9


def storage_lines(ledger: Ledger, prices: Prices, until: int, *, model: str = "", month: str = "") -> list[Line]:
    """A line of transfer for each run, and one of storage for each model and month; of `month` alone or of all ('')."""
    moved: dict[tuple[str, str, str], Sum] = defaultdict(Sum)
    landed: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for name, at, run, sent, more in rolled_up(ledger, BYTES, model=model)[BYTES]:
        if sent and month in ("", at[:7]):
            moved[name, at[:7], run].add(sent / GB, prices.at(at).transfer_gb)
        if more:
            landed[name].append((ms_of(at), int(more)))
    known = prices.known("transfer_gb")
    lines = [
        Line(TRANSFER, name, at, of.amount, of.quantity, run, price=known) for (name, at, run), of in moved.items()
    ]
    return lines + [line for name, steps in landed.items() for line in _stored(name, steps, prices, until, month)]


def _stored(model: str, landed: list[tuple[int, int]], prices: Prices, until: int, month: str) -> list[Line]:
    """From one landing or prune to the next as many bytes lie there as have landed so far and were not removed."""
    changes = [ms_of(since) for since, _ in prices.periods if since]
    first, after = month_of(month)[1:] if month else (0, until)
    sums: dict[str, Sum] = defaultdict(Sum)
    stored = 0
    ends = [at for at, _ in landed[1:]] + [until]
    for (start, more), end in zip(landed, ends, strict=True):
        # A ledger that began after the remote knows less of what was sent than of what was removed.
        stored = max(stored + more, 0)
        if not stored or end <= first or start >= after:
            continue
        for span in spans_of(month, start, end, changes):
            sums[span.month].add(stored / GB * span.months, span.prices(prices).storage_gb_month)
    known = prices.known("storage_gb_month")
    return [Line(STORAGE, model, at, of.amount, of.quantity, price=known) for at, of in sums.items()]
