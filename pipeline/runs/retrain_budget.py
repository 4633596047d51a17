"""The budget of retrains that models share, as a look finds it: what is spent and who wants one is read from the ledger.

A look that is taken again sees what it saw the first time: only what stood in the ledger before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pipeline.context import Context
from pipeline.ledger.budget_events import BudgetLooked
from pipeline.ledger.store import Entry
from pipeline.policy.freeze import frozen
from pipeline.policy.guards import A_MONTH
from pipeline.policy.retraining.base import Decision
from pipeline.policy.retraining.budget import Budget, Ceiling, Claim
from pipeline.runs.looks_by_hand import counted
from pipeline.settings.models import time_of

# While a look reads what is spent and writes what it spends, no other one does.
LEASE, WAIT_S = "budget of retrains", 30.0
OF_ALL = "budget.retrains_a_month"


def ceilings(context: Context, run: str, name: str, as_of: datetime) -> list[Ceiling]:
    """Those that hold for the model: its team's, and that of all."""
    looks = _before(context, run, name, as_of)
    return [Ceiling(key, most, *_used(context, name, as_of, key, looks)) for key, most in _limits(context, name)]


def note(
    context: Context, run: str, name: str, as_of: datetime, budget: Budget, said: Decision | None, granted: bool
) -> None:
    """Writes down that the model wants a retrain, or wants none any more; `said` is what `value` says, None for nothing."""
    looks = [entry.event for entry in counted(context.ledger.events(BudgetLooked, model=name), run)]
    if any(look.as_of == as_of.isoformat() for look in looks):
        return
    keys = [ceiling.key for ceiling in budget.ceilings]
    if said is not None:
        places = "; ".join(each.said(budget.currency) for each in budget.places(said))
        event = BudgetLooked(
            as_of=as_of.isoformat(),
            wants=True,
            granted=granted,
            ceilings=keys,
            net=budget.net(said),
            currency=budget.currency,
            said=places,
        )
        context.ledger.append(event, name, run)
    elif looks and looks[-1].wants:
        context.ledger.append(
            BudgetLooked(as_of=as_of.isoformat(), wants=False, granted=False, ceilings=keys), name, run
        )


def _limits(context: Context, name: str) -> list[tuple[str, int]]:
    team = context.params.model(name).team
    of_team = context.params.teams.right[team].retrains_a_month if team is not None else None
    found = [(f"teams.{team}.retrains_a_month", of_team), (OF_ALL, context.params.budget.retrains_a_month)]
    return [(key, most) for key, most in found if most is not None]


def _before(context: Context, run: str, name: str, as_of: datetime) -> list[Entry[BudgetLooked]]:
    """The looks of all models in the ledger; for a look that is taken again, those that were there before it."""
    looks = counted(context.ledger.events(BudgetLooked), run)
    own = next((e.seq for e in looks if e.model == name and time_of(e.event.as_of) == as_of), None)
    return [e for e in looks if own is None or e.seq < own]


def _used(
    context: Context, name: str, as_of: datetime, key: str, looks: Sequence[Entry[BudgetLooked]]
) -> tuple[int, tuple[Claim, ...]]:
    """(the retrains that were granted in the 30 days up to `as_of`, what other models want now) under the ceiling."""
    within = [e for e in looks if key in e.event.ceilings and as_of - A_MONTH < time_of(e.event.as_of) <= as_of]
    spent = sum(e.event.granted for e in within)
    newest = {e.model: e.event for e in within if e.model != name}
    claims = [
        Claim(model, event.net)
        for model, event in newest.items()
        if event.wants and not event.granted and event.net is not None and _can(context, model, as_of)
    ]
    return spent, tuple(sorted(claims, key=lambda claim: claim.model))


def _can(context: Context, model: str, as_of: datetime) -> bool:
    """Whether the model could use a retrain: one whose block is gone or broken, or that is frozen, keeps none from others."""
    models = context.params.models
    return model in models and not frozen(context.ledger, models, model, as_of)
