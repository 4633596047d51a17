"""What alarms are worth to a model without labels: how many times more its versions have lost after one, in its own backtest.

Three figures may alarm: the inputs, as the monitor looks at them; the answers, whose distribution is no longer that of when the version
was new; and the quality that the answers' own probabilities lead to expect. An alarm of the last two is a figure above all that it came to
from one window to the next. On most models none of them says anything of the loss, so each counts by what it has earned: the excess after
its alarm beside the excess of the same age, without the part that its own error explains.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pipeline.ledger.decision_events import Backtested
from pipeline.policy.retraining.staleness import backtested, fitted, pairs_of

INPUTS, ANSWERS, ESTIMATE = "inputs", "answers", "estimate"
WORDS = {
    INPUTS: "an alarm of the inputs",
    ANSWERS: "a shift of the answers",
    ESTIMATE: "a drop of the estimated quality",
}


@dataclass(frozen=True)
class Covariate:
    """After an alarm a version has lost `alarmed` times what its age says. Above `limit` the figure is an alarm; None where the monitor says so."""

    name: str
    alarmed: float
    limit: float | None = None

    @property
    def words(self) -> str:
        return WORDS[self.name]


def measured(losses: np.ndarray, drifted: np.ndarray, figures: Mapping[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    """Of each signal of a backtest what it has earned, as dicts by name. `losses` and `drifted` are as in `History`; each of `figures`,
    (windows, windows) float64, has what the version of a row came to in the window of a column, 0 in its own, NaN where nobody knows."""
    found = [Covariate(INPUTS, backtested(losses, drifted).alarmed)]
    for name, figure in figures.items():
        steps = np.diag(figure, 1)
        if np.isfinite(steps).sum() >= 2:
            limit = float(np.nanmax(steps))
            found.append(Covariate(name, _after(losses, np.nan_to_num(figure, nan=-np.inf) > limit), limit))
    return {each.name: {k: v for k, v in asdict(each).items() if k != "name"} for each in found}


def _after(losses: np.ndarray, alarm: np.ndarray) -> float:
    """How many times g a version has lost in windows after its figure's first alarm, as far as that is proven."""
    usable = np.flatnonzero(~np.isnan(np.diag(losses)))
    pairs = pairs_of(losses[usable], usable)
    curve = fitted(pairs)
    if curve is None or curve.b <= 0:
        return 1.0
    # What a look at the begin of a window knew.
    before = np.zeros_like(alarm)
    before[:, 1:] = np.logical_or.accumulate(alarm, axis=1)[:, :-1]
    after = fitted(pairs.only(before[(pairs.window - pairs.older).astype(int), pairs.window]), curve.slow)
    if after is None or after.blocks < 2:
        return 1.0
    more, error = after.b / curve.b - 1, after.error / curve.b
    proven = max(0.0, 1 - (error / more) ** 2) if more else 0.0
    return max(0.0, 1 + proven * more)


def earned(backtest: Backtested | None) -> Covariate | None:
    """The signal that tells most of a loss, by the model's backtest; None where none does. One of before has measured the inputs alone."""
    if backtest is None or not backtest.staleness:
        return None
    known = backtest.covariates or {INPUTS: {"alarmed": backtest.staleness["alarmed"]}}
    found = [Covariate(name, of["alarmed"], of.get("limit")) for name, of in known.items() if name in WORDS]
    best = max(found, key=lambda each: each.alarmed, default=None)
    return best if best is not None and best.alarmed > 1 else None


def said(backtest: Backtested | None) -> str:
    """Of a model without labels: which alarm counts, and why no other one."""
    if backtest is None:
        return "no backtest has shown that an alarm tells of a loss, so none counts"
    best = earned(backtest)
    if best is None:
        return "no alarm counts: in the backtest none told of a loss"
    return f"of the alarms {best.words} alone counts: in the backtest versions lost {best.alarmed:.2f} times as much after one"
