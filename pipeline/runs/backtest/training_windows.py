"""Which `source.window_days` would have lost least: the same past with versions that learnt from shorter and longer windows of rows.

Each length has its own loss matrix, and the policy that the backtest found cheapest is replayed on it. What one length saves against the
model's own is judged window by window, on the same rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import PerennialError, SettingsError
from pipeline.policy.retraining import rules
from pipeline.policy.retraining.comparison import Comparison, Saved, compare, saving
from pipeline.policy.retraining.held import Spans
from pipeline.runs.backtest import past as pasts
from pipeline.runs.backtest.matrix import LossMatrix, build
from pipeline.runs.backtest.past import Past, Span
from pipeline.settings.models import Model
from pipeline.settings.times import LONGEST_DAYS

ALL = "all"
USUAL = ("30", "90", "365", ALL)


@dataclass(frozen=True)
class TrainingWindow:
    """The mean loss a row under the policy, of versions that learn from `days` days; None where there are none, for the `reason`. `saved` is
    against the model's own window, whose own it is not; in units of loss times windows. `whole` says that it is all of the source."""

    days: float
    own: bool = False
    whole: bool = False
    loss: float | None = None
    saved: Saved | None = None
    reason: str = ""

    @property
    def proven(self) -> bool:
        """Whether the history proves that it loses less than the model's own."""
        return self.saved is not None and self.saved.low > 0

    @property
    def name(self) -> str:
        return f"all, {self.days:g}" if self.whole else f"{self.days:g}"


@dataclass(frozen=True)
class TrainingWindows:
    """The windows from the shortest to the longest, under the policy that the backtest found cheapest."""

    policy: str
    each: tuple[TrainingWindow, ...]
    trained: int

    @property
    def own(self) -> TrainingWindow:
        return next(window for window in self.each if window.own)

    @property
    def best(self) -> TrainingWindow:
        """That which lost least; of equal ones the shortest."""
        return min((window for window in self.each if window.loss is not None), key=lambda window: window.loss or 0.0)

    @property
    def recommendation(self) -> str:
        best, own = self.best, self.own
        if best.own or best.saved is None:
            return f"keep source.window_days: {own.days:g}: no other window lost less under {self.policy}"
        # What decisions earn is a loss below zero.
        share = f"{(own.loss - (best.loss or 0.0)) / abs(own.loss):.1%} less" if own.loss else "less"
        if not best.proven:
            return (
                f"keep source.window_days: {own.days:g}: {best.name} days lost {share} under {self.policy}, and history cannot "
                "tell these two apart"
            )
        return f"use source.window_days: {best.days:g}: it lost {share} than {own.days:g} under {self.policy}"

    def as_dicts(self, unit: float) -> list[dict[str, Any]]:
        """What is saved in money, of which a unit of loss times windows is worth `unit`."""
        return [
            {
                "window_days": window.days,
                "own": window.own,
                "whole": window.whole,
                "loss": window.loss,
                "saved": None
                if window.saved is None
                else {name: value * unit for name, value in vars(window.saved).items()},
                "proven": window.proven,
                "reason": window.reason,
            }
            for window in self.each
        ]


def lengths_of(asked: Sequence[str], model: Model, span: Span, first: Any) -> dict[float, bool]:
    """The lengths in days, each once, the model's own among them; the values say which is all of the source, whose first row is at `first`.
    Raises SettingsError for text that is none."""
    whole = float(max(1, math.ceil((span.end - first) / timedelta(days=1))))
    found: dict[float, bool] = {}
    for text in (*asked, f"{model.source.window_days:g}"):
        try:
            days = whole if text.strip() == ALL else float(text)
        except ValueError:
            days = math.nan
        if not 0 < days <= LONGEST_DAYS:
            line = f"{text!r} is no number of days, and not {ALL}"
            raise SettingsError("--windows", line, f"write them like {','.join(USUAL)}")
        # What is longer than the source has the same rows as all of it.
        own = days == model.source.window_days
        days = days if own else min(days, whole)
        found[days] = found.get(days, False) or days >= whole
    return dict(sorted(found.items()))


def compared(
    name: str,
    model: Model,
    root: Path,
    folder: Path,
    past: Past,
    own: LossMatrix,
    comparison: Comparison,
    lengths: dict[float, bool],
    processes: int | None = None,
) -> TrainingWindows:
    """`own` is the matrix of the model's own window, on which the `comparison` was made. What is made is kept in `folder`."""
    policy = comparison.best.policy
    found, trained = [], 0
    for days, whole in lengths.items():
        if days == model.source.window_days:
            loss = comparison.best.outcome.loss / own.history.weights[comparison.first :].sum()
            found.append(TrainingWindow(days, own=True, whole=whole, loss=float(loss)))
            continue
        window = TrainingWindow(days, whole=whole)
        if days <= model.evaluation.holdout_days:
            reason = f"not longer than evaluation.holdout_days: {model.evaluation.holdout_days:g}"
            found.append(replace(window, reason=reason))
            continue
        source = model.source.model_copy(update={"window_days": days})
        try:
            other = build(
                name, model.model_copy(update={"source": source}), root, folder, past.span, processes, past=past
            )
        except PerennialError as error:
            found.append(replace(window, reason=error.observation))
            continue
        trained += other.trained
        spans = Spans(past.span.days, days, model.policy.due_after_days)
        found.append(_beside(window, own, other, comparison, spans))
    return TrainingWindows(policy, tuple(found), trained)


def _beside(
    window: TrainingWindow, own: LossMatrix, other: LossMatrix, comparison: Comparison, spans: Spans
) -> TrainingWindow:
    """On the windows that both were compared on: both matrices end with the same one."""
    policy, cost = comparison.best.policy, comparison.cost
    there = compare(_in_unit(other, own), cost, rules.of_spans(spans)).of(policy)
    both = min(len(there.costs), len(comparison.best.costs))
    saved = saving(there.costs[-both:], comparison.best.costs[-both:])
    loss = there.outcome.by_window.sum() / own.history.weights[-len(there.costs) :].sum()
    return replace(window, loss=float(loss), saved=saved)


def _in_unit(other: LossMatrix, own: LossMatrix) -> Any:
    """Its history with weights that count a row as the own one's do."""
    a_row = own.history.weights[-1] / own.rows[-1]
    return replace(other.history, weights=np.asarray(other.rows) * a_row)


def first_row(name: str, model: Model, root: Path, span: Span) -> Any:
    """The event time of the first labelled row that a version of the span could learn from."""
    return pasts.reach(name, model, root, None, span.end)[0]
