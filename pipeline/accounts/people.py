"""What people cost: their minutes at the price of an engineer's hour.

    retrain_minutes    for each version that a run registered (no backfill), once however often the step is done: somebody reads
                       its report
    approval_minutes   for each approval or refusal by a person
    incident_minutes   for each rollback, and each rollout that failed

The minutes are of `models.NAME.economics`. Nobody measures them: they are yours, or a guess where nobody states them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from pipeline.accounts.lines import PEOPLE, Known, Line, Sum
from pipeline.ledger.events import VersionRegistered
from pipeline.ledger.rollout_events import RolledBack, RolloutFailed
from pipeline.ledger.rollup_parts import PEOPLE as WORK
from pipeline.ledger.rollups import rolled_up
from pipeline.ledger.store import Ledger
from pipeline.settings.accounts import Prices
from pipeline.settings.economics import Economics

APPROVALS = ("approved", "rejected")
MINUTES = {
    VersionRegistered.KIND: "retrain_minutes",
    **dict.fromkeys(APPROVALS, "approval_minutes"),
    **dict.fromkeys((RolledBack.KIND, RolloutFailed.KIND), "incident_minutes"),
}
# The alias that a backfill gives to what it archives begins so.
ARCHIVED = "asof-"


def people_lines(
    ledger: Ledger, prices: Prices, economics: Callable[[str], Economics], *, model: str = "", month: str = ""
) -> list[Line]:
    """A line for each run, month and kind of work, with the kind as its step; of `month` alone or of all ('')."""
    sums: dict[tuple[str, str, str, str], Sum] = defaultdict(Sum)
    seen: set[tuple[str, str, str]] = set()
    for name, at, kind, run, alias, version in rolled_up(ledger, WORK, model=model)[WORK]:
        if kind == VersionRegistered.KIND:
            if (name, run, version) in seen:
                continue
            seen.add((name, run, version))
        if alias.startswith(ARCHIVED) or month not in ("", at[:7]):
            continue
        work = MINUTES[kind]
        minutes = getattr(economics(name), work)
        sums[name, at[:7], run, work].add(minutes, prices.at(at).engineer_hour / 60)
    return [
        Line(PEOPLE, name, at, of.amount, of.quantity, run, work, _known(economics, name, work))
        for (name, at, run, work), of in sums.items()
    ]


def _known(economics: Callable[[str], Economics], model: str, work: str) -> Known:
    return "yours" if work in economics(model).model_fields_set else "guess"
