"""The weeks after the retrain: their flights are asked, land, and say by their labels what it was worth."""

from __future__ import annotations

import time
from datetime import datetime

from pipeline.context import Context
from pipeline.ledger.receipt_events import DecisionSettled
from pipeline.ledger.timeline import live_at
from pipeline.runs import decision_settlement, retrain_decision, window_losses

# The log is written twice a second; what was asked last is in it then.
LOGGED_S = 2.0


def settle(context: Context, name: str, as_of: datetime) -> list[DecisionSettled]:
    """Scores the weeks that have their labels as of `as_of`, as each look of the monitor does, and settles the decisions before them."""
    time.sleep(LOGGED_S)
    live = live_at(context.ledger, name)
    if live is None:
        return []
    run = f"demo/{name}"
    history = window_losses.live_history(context, run, name, live, as_of)
    return decision_settlement.settle(context, run, name, history, retrain_decision.worth_of(context, name, history))
