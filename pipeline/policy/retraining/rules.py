"""The policies that a backtest replays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from pipeline.policy.retraining.base import History, Policy
from pipeline.policy.retraining.drift import Drift
from pipeline.policy.retraining.forecast import Forecast, gains_of
from pipeline.policy.retraining.held import Held, Spans
from pipeline.policy.retraining.metric import Metric
from pipeline.policy.retraining.replay import replay
from pipeline.policy.retraining.schedule import ALWAYS, NEVER, Schedule
from pipeline.policy.retraining.staleness import backtested
from pipeline.policy.retraining.value import Value, horizon_of

TUNED = "tuned schedule"
WEEKLY = Spans()


@dataclass(frozen=True)
class Tuned(Schedule):
    """The schedule that was cheapest on a first part of the history."""

    @property
    def name(self) -> str:
        return TUNED


def tuned(before: History, cost: float) -> Tuned:
    """The schedule that was cheapest on `before`; the rarer one of equals."""
    schedules = [Tuned(None), *(Tuned(windows) for windows in range(before.windows - 1, 0, -1))]
    return min(schedules, key=lambda schedule: replay(before, schedule, cost).total)


def policies(before: History, cost: float, spans: Spans = WEEKLY) -> list[Policy]:
    """Those to replay on what comes after `before`, from which each takes its numbers, with what its looks ask of it; a retrain comes to `cost`.
    Of equal ones the first is recommended: none, then the one that goes on looking whether it pays."""
    curve = backtested(before.losses, before.drifted)
    gains = gains_of(before.losses, np.arange(before.windows), before.delay, all_pairs=True)
    by_losses = (Value(curve, horizon=horizon_of(spans.window)), Metric(), Forecast(gains))
    value, metric, forecast = (Held(rule, curve, spans) for rule in by_losses)
    return [NEVER, value, ALWAYS, tuned(before, cost), Drift(), metric, forecast]


def of_spans(spans: Spans) -> Callable[[History, float], Sequence[Policy]]:
    """`policies` of a model with these."""
    return partial(policies, spans=spans)
