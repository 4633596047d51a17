"""What the bytes cost that lie outside the DVC remote: packages, artifacts, prediction logs, pages, logs, the ledger.

    cost = GB * months * storage_gb_month

From each look (event `bytes_stored`) to the next as many lie there as it found. Before the first look nothing is known, and there is no line.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from pipeline.accounts.lines import STORED, Line, Sum, iso, month_of, ms_of, spans_of
from pipeline.accounts.storage import GB
from pipeline.ledger.rollups import rolled_up
from pipeline.ledger.store import Ledger
from pipeline.ledger.used_parts import STORED as LOOKS
from pipeline.settings.accounts import Prices


def stored_lines(ledger: Ledger, prices: Prices, until: int, *, model: str = "", month: str = "") -> list[Line]:
    """A line for each model and month since its first look; of `month` alone or of all ('')."""
    changes = [ms_of(since) for since, _ in prices.periods if since]
    _, first, after = month_of(month) if month else ("", 0, until)
    sums: dict[tuple[str, str], Sum] = defaultdict(Sum)
    for name, looks in _by_model(ledger, model).items():
        ends = [at for at, _ in looks[1:]] + [until]
        for (at, places), end in zip(looks, ends, strict=True):
            if end <= first or at >= after:
                continue
            stored = sum(places.values()) / GB
            for span in spans_of(month, at, end, changes):
                sums[name, span.month].add(stored * span.months, span.prices(prices).storage_gb_month)
    known = prices.known("storage_gb_month")
    return [Line(STORED, name, at, of.amount, of.quantity, price=known) for (name, at), of in sums.items()]


def newest_places(ledger: Ledger, model: str = "") -> tuple[str, dict[str, int]]:
    """(the first look of the models, '' without one, and the bytes by place as of the newest looks)."""
    first, places = 0, dict[str, int]()
    for looks in _by_model(ledger, model).values():
        first = min(first or looks[0][0], looks[0][0])
        for place, size in looks[-1][1].items():
            places[place] = places.get(place, 0) + size
    return iso(first) if first else "", dict(sorted(places.items(), key=lambda each: -each[1]))


def _by_model(ledger: Ledger, model: str) -> Mapping[str, list[tuple[int, Mapping[str, int]]]]:
    found: dict[str, list[tuple[int, Mapping[str, int]]]] = defaultdict(list)
    for name, at, places in rolled_up(ledger, LOOKS, model=model)[LOOKS]:
        found[name].append((at, places))
    return found
