"""What the rule `value` goes by at a look, in words: a backtest, the model's own versions, or a guess; and what labels and signals say."""

from __future__ import annotations

import numpy as np

from pipeline.ledger.decision_events import Backtested
from pipeline.policy.retraining.base import Known
from pipeline.policy.retraining.staleness import pairs_of

# The settings key below the model's name that would replace the guess.
GUESS = "policy.due_after_days"


def own_versions(known: Known) -> int:
    """How many versions are scored beside an older one on the same rows."""
    pairs = pairs_of(known.losses, known.born)
    return len(np.unique(pairs.window - pairs.newer))


def basis(name: str, due_after_days: float, known: Known, backtest: Backtested | None, alarms: str) -> str:
    """`backtest` is one that has a curve, None where a guess stands for it; `alarms` says what alarms count for, without labels."""
    own = own_versions(known)
    of_own = f"{own} of its own versions beside older ones on the same rows"
    if backtest is not None:
        said = f"how its versions age is known by the backtest of {backtest.windows} windows to {backtest.end[:10]}"
        said += f" and by {of_own}" if own else ""
    else:
        said = f"how its versions age is a guess: that a retrain is due after {due_after_days:g} days (models.{name}.{GUESS})"
        said += f", corrected by {of_own}" if own else f"; `perennial backtest {name}` would measure it"
    if len(known.labelled):
        return said
    return f"{said}; without labels that alone decides{f', and {alarms}' if alarms else ''}"
