"""What a look without labels goes by beside the age: at which looks the signal that has earned it in the backtest had its alarm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from pipeline.ledger.events import DriftChecked
from pipeline.ledger.store import Ledger
from pipeline.policy.retraining.covariates import ANSWERS, ESTIMATE, Covariate
from pipeline.runs.window_losses import alarms_at
from pipeline.training.tasks import METRICS

if TYPE_CHECKING:
    from pipeline.policy.retraining.base import Known
    from pipeline.runs.window_losses import LiveHistory


def seen(ledger: Ledger, name: str, known: Known, history: LiveHistory, as_of: datetime, by: Covariate | None) -> Known:
    """`known` with the alarms of that signal in place of the inputs' own, which it has for those rules that go by them."""
    if by is None or by.limit is None:
        return known
    alarming = {ANSWERS: _answers, ESTIMATE: _estimate}[by.name](by.limit)
    return replace(known, drifted=alarms_at(ledger, name, history.starts, as_of, alarming), alarm=by.words)


def _answers(limit: float) -> Callable[[DriftChecked], bool]:
    """Whether the answers are further from those to the held-out rows than they moved from window to window in the backtest."""
    return lambda look: bool(look.answers) and float((look.answers or {})["jensen_shannon"]) > limit


def _estimate(limit: float) -> Callable[[DriftChecked], bool]:
    """Whether the estimate is worse than the held-out metric by more than it moved from window to window in the backtest."""

    def alarming(look: DriftChecked) -> bool:
        estimated, held_out = look.estimated, (look.live_quality or {}).get("held_out")
        if not estimated or held_out is None:
            return False
        worse = (
            held_out - estimated["value"]
            if METRICS[estimated["metric"]].higher_is_better
            else estimated["value"] - held_out
        )
        return bool(worse > limit)

    return alarming
