"""The events of a budget of retrains that models share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field

from pipeline.ledger.events import NULL, Event


class BudgetLooked(Event, kind="budget_looked"):
    """At the look as of `as_of` the model `wants` a retrain out of the budgets under the settings keys `ceilings`, or does so no longer.
    `granted` says that it got it. `net` is what it is expected to save beyond its cost, in `currency`; `said` is the place it has."""

    as_of: str
    wants: bool
    granted: bool
    ceilings: Sequence[str] = ()
    net: float | None = field(default=None, metadata=NULL)
    currency: str = ""
    said: str = ""

    def sentence(self) -> str:
        if not self.wants:
            return f"as of {self.as_of[:10]} no retrain is wanted of the budget"
        return (
            f"a retrain as of {self.as_of[:10]} is {'within' if self.granted else 'not within'} the budget: {self.said}"
        )
