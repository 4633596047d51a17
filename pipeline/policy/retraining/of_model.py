"""The policies of one model, with the numbers of its settings and of its last backtest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pipeline.ledger.decision_events import Backtested
from pipeline.policy.retraining.base import Policy
from pipeline.policy.retraining.covariates import earned
from pipeline.policy.retraining.drift import Drift
from pipeline.policy.retraining.forecast import Forecast, Gains
from pipeline.policy.retraining.guess import guessed
from pipeline.policy.retraining.metric import Metric
from pipeline.policy.retraining.schedule import NEVER, Schedule
from pipeline.policy.retraining.staleness import Staleness
from pipeline.policy.retraining.value import Value, horizon_of
from pipeline.settings.policy import Policy as Settings


def policies(settings: Settings, backtest: Backtested | None, cost: float) -> Mapping[str, Policy]:
    """By the name that `policy.rule` has; a retrain comes to `cost`, as in `Known`. Without a backtest a guess stands for how the versions
    age, until past ones are scored."""
    every = max(1, round(settings.every_days / settings.window_days))
    return {
        "value": value(settings, backtest, cost),
        "metric": Metric(),
        "forecast": Forecast(gains_seen(backtest, settings.window_days)),
        "schedule": Schedule(every),
        "drift": Drift(),
        "never": NEVER,
    }


def value(settings: Settings, backtest: Backtested | None, cost: float) -> Value:
    """The default rule, with the backtest's curve or a guess."""
    curve, within = curve_of(backtest, settings.window_days), 0.0
    if curve is None:
        curve = guessed(cost, settings.window_days, settings.due_after_days)
        # What is due after a stated year does not pay within half of one.
        within = settings.due_after_days if "due_after_days" in settings.model_fields_set else 0.0
    else:
        best = earned(backtest)
        curve = replace(curve, alarmed=best.alarmed if best is not None else 1.0)
    return Value(curve, horizon=horizon_of(settings.window_days, within))


def curve_of(backtest: Backtested | None, window_days: float) -> Staleness | None:
    """The curve of loss by age that the backtest found, in windows of so many days; None where it found none."""
    if backtest is None or not backtest.staleness or not backtest.staleness["blocks"]:
        return None
    known = backtest.staleness
    # In windows of another length an age is another number, and the loss of a row the same.
    slow = known["slow"] * backtest.window_days / window_days
    return Staleness(known["b"], slow, known["error"], int(known["blocks"]), known["alarmed"])


def gains_seen(backtest: Backtested | None, window_days: float) -> Gains:
    """The gains of retrains in the backtest; none where its windows are of another length."""
    if backtest is None or not backtest.gains or backtest.window_days != window_days:
        return Gains()
    known = backtest.gains
    (a, b, c), (d, e) = known["squares"], known["products"]
    return Gains((a, b, c), (d, e), known["total"], known["looks"])
