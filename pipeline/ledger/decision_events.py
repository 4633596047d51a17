"""The events of decisions to retrain, and of what they rest on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

from pipeline.ledger.events import NULL, Event


class Backtested(Event, kind="backtested"):
    """Policies were replayed on the past from `start` to `end`, `windows` windows of `window_days` days, and compared from `compared_from` on.

    `curve` is {"age", "excess", "pairs"} for each age in windows: how much more loss a version of that age had than a new one on the same
    rows. `staleness` is a pipeline.policy.retraining.staleness.Staleness fitted to it, and
    `gains` a forecast.Gains, as dicts. `economics` is a pipeline.policy.economics.Worth as a dict; `policies` have a name, `total`, `retrains` and what they save against
    never and against the tuned schedule, in its currency, the oracle among them. `best` is the cheapest; `tells` says whether the history
    proves it. `report` is a path. `training_windows` are {"window_days", "own", "whole", "loss", "saved", "proven", "reason"} where lengths of
    `source.window_days` were compared, and `training_window` is what that recommends. `covariates` has what each alarm has earned, a
    pipeline.policy.retraining.covariates.Covariate by its name.
    """

    start: str
    end: str
    window_days: float
    windows: int
    delay: int
    compared_from: str
    loss: str
    recommendation: str
    best: str
    tells: bool
    curve: Sequence[Mapping[str, Any]] = ()
    staleness: Mapping[str, float] = field(default_factory=dict)
    gains: Mapping[str, Any] = field(default_factory=dict)
    economics: Mapping[str, Any] = field(default_factory=dict)
    policies: Sequence[Mapping[str, Any]] = ()
    report: str | None = field(default=None, metadata=NULL)
    training_windows: Sequence[Mapping[str, Any]] = ()
    training_window: str = ""
    covariates: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def sentence(self) -> str:
        return f"backtest of {self.windows} windows from {self.start} to {self.end}: {self.recommendation}"


class BacktestDrawn(Event, kind="backtest_drawn"):
    """What the page of a backtest shows beside its event, so that it is drawn wherever the ledger is read. `start` to `end`, in windows of
    `window_days`, name the backtest, whose event comes right before.

    `losses` has the rows of the loss matrix, each from its own window on; None where a version has no loss. Of more windows than a
    picture can show, these are the newest. `saved` has for each policy what it had saved against never by the end of each window.
    """

    start: str
    end: str
    window_days: float
    window_starts: Sequence[str]
    losses: Sequence[Sequence[float | None]]
    saved: Mapping[str, Sequence[float]]
    untrained: Mapping[str, str] = field(default_factory=dict)
    windows_without_rows: Sequence[str] = ()
