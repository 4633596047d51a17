"""The share of what all models use together: Airflow, MLflow and the router, on machines that run all day.

    cost = hours since the ledger's first event * services_hour

shared evenly by the models that did something in the month; where none did, by those of the month before.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Set

from pipeline.accounts.lines import SERVICES, Line, Sum, ms_of, spans
from pipeline.accounts.money import whole
from pipeline.settings.accounts import Prices


def services_lines(prices: Prices, start: int, until: int, busy: Mapping[str, Set[str]]) -> list[Line]:
    """A line for each model and month. `start` and `until` are in milliseconds since 1970, `busy` has the models by month."""
    if not any(each.services_hour for _, each in prices.periods):
        return []
    changes = [ms_of(since) for since, _ in prices.periods if since]
    sums: dict[str, Sum] = defaultdict(Sum)
    for span in spans(start, until, changes):
        sums[span.month].add(span.hours, span.prices(prices).services_hour)
    lines, sharing = [], sorted(set().union(*busy.values()))
    for month, of in sorted(sums.items()):
        sharing = sorted(busy.get(month, ())) or sharing
        known = prices.known("services_hour")
        lines += [
            Line(SERVICES, model, month, whole(of.value / len(sharing)), of.quantity / len(sharing), price=known)
            for model in sharing
        ]
    return lines
