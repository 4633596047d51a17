"""How fast a model's versions age where nobody knows it yet: a guess in days, which a backtest or two versions on the same rows replace.

The guess is when a retrain is due, not a loss: a loss has another size in each model, and the days can be stated by a person. The curve is
the one at which the regret (staleness.py) reaches the cost of a retrain after these days. Its error is as large as itself, so that the first
versions that are scored on the same rows say more than it does.
"""

from __future__ import annotations

import math

from pipeline.policy.retraining.staleness import Staleness

# How long the guessed excess goes on rising.
SLOW_DAYS = 56.0
# So that the regret reaches the cost, and does not miss it by a rounding.
OVER = 1 + 1e-9


def guessed(cost: float, window_days: float, due_after_days: float) -> Staleness:
    """The curve, in windows of so many days, by which a retrain of that cost is due after so many days."""
    slow = SLOW_DAYS / window_days
    windows = max(1, math.ceil(due_after_days / window_days))
    b = OVER * cost / Staleness(1.0, slow, 0.0).regret(windows)
    return Staleness(b, slow, b)
