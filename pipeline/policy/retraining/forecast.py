"""Retrains where the forecast saving is worth its cost even when the forecast is rather too high.

After UPF, the uncertainty-performance forecaster (Regol, Schwinn, Sprague, Coates and Markovich, "When to retrain a machine learning model",
ICML 2025): forecast how each decision would do over the windows ahead, with its uncertainty, and decide by a quantile of the difference. Here
what a retrain gains a window is a linear function of the age and of the live loss above the version's own first windows, learnt from the
gains of past retrains: a version and its successor on the same rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pipeline.policy.retraining.base import Decision, Known
from pipeline.policy.retraining.figures import figure

# A version counts as new in so many windows; a gain is the mean over so many windows after a retrain, and what is seen before one of so many.
FIRST, AHEAD, RECENT = 3, 4, 4


@dataclass(frozen=True)
class Gains:
    """What is learnt of past gains: the sums of squares of the two covariates, (2, 2), with the gain, (2,), and of the gain alone, over
    `looks` gains. A tuple of floats each, so that it is hashed and printed."""

    squares: tuple[float, float, float] = (0.0, 0.0, 0.0)
    products: tuple[float, float] = (0.0, 0.0)
    total: float = 0.0
    looks: float = 0.0

    def __add__(self, other: Gains) -> Gains:
        squares = [a + b for a, b in zip(self.squares, other.squares, strict=True)]
        products = [a + b for a, b in zip(self.products, other.products, strict=True)]
        return Gains(
            (squares[0], squares[1], squares[2]),
            (products[0], products[1]),
            self.total + other.total,
            self.looks + other.looks,
        )

    def worth(self, looks: float) -> Gains:
        """The same, counted as so many looks at most."""
        share = min(1.0, looks / self.looks) if self.looks else 0.0
        a, b, c = (share * value for value in self.squares)
        return Gains(
            (a, b, c), (share * self.products[0], share * self.products[1]), share * self.total, share * self.looks
        )

    def forecast(self, covariates: np.ndarray) -> tuple[float, float]:
        """The gain a window at these covariates, (2,), and its standard error, as far as the fit does not know it."""
        a, b, c = self.squares
        scale = np.array([[a, b], [b, c]])
        # A covariate that has not varied, as with no look at all, has nothing to say: the ridge keeps it at zero.
        ridge = np.diag(1e-3 * np.diag(scale) + 1e-12)
        inverse = np.linalg.inv(scale + ridge)
        slopes = inverse @ np.array(self.products)
        left = max(0.0, self.total - float(slopes @ np.array(self.products)))
        noise = left / max(1.0, self.looks - 2)
        return float(slopes @ covariates), math.sqrt(noise * float(covariates @ inverse @ covariates))


def gains_of(losses: np.ndarray, born: np.ndarray, delay: int, all_pairs: bool = False) -> Gains:
    """The gains of each version over the one before it, or of all pairs of a backtest. Shapes as in `Known`."""
    rows, gains = [], []
    for newer in range(1, len(born)):
        look = int(born[newer])
        for older in range(0 if all_pairs else newer - 1, newer):
            gap = (losses[older] - losses[newer])[look : look + AHEAD]
            gap = gap[~np.isnan(gap)]
            if len(gap):
                rows.append(_covariates(losses[older, : max(look - delay, 0)], int(born[older]), look))
                gains.append(float(gap.mean()))
    if not rows:
        return Gains()
    x, y = np.array(rows), np.array(gains)
    squares = x.T @ x
    return Gains(
        (float(squares[0, 0]), float(squares[0, 1]), float(squares[1, 1])),
        (float(x[:, 0] @ y), float(x[:, 1] @ y)),
        float(y @ y),
        len(y),
    )


def _covariates(losses: np.ndarray, born: int, look: int) -> np.ndarray:
    """The root of the age, and the live loss of the last windows above that of the first: 0 where too few have labels."""
    known = losses[born:][~np.isnan(losses[born:])]
    rise = known[-RECENT:].mean() - known[:FIRST].mean() if len(known) >= FIRST + 1 else 0.0
    return np.array([math.sqrt(look - born), rise])


@dataclass(frozen=True)
class Forecast:
    """`prior` are the gains of the backtest, worth at most `trusted` looks. The saving counts over `horizon` windows, and its quantile at
    `errors` standard errors below the forecast has to reach the cost. A longer horizon counts what the next retrain would have saved anyway."""

    prior: Gains = Gains()
    trusted: float = 50.0
    horizon: int = AHEAD
    errors: float = 0.5
    name: str = "forecast"

    def decide(self, known: Known) -> Decision:
        behind = known.now - len(known.labelled) - int(known.born[known.live])
        gains = self.prior.worth(self.trusted) + gains_of(known.losses, known.born, max(0, behind))
        covariates = _covariates(known.losses[known.live], int(known.born[known.live]), known.now)
        gain, error = gains.forecast(covariates)
        saving = self.horizon * gain
        low, high = saving - self.errors * self.horizon * error, saving + self.errors * self.horizon * error
        why = (
            f"{known.called(known.live)} is {known.age} windows old and loses {figure(float(covariates[1]))} a window more than when it was new: by "
            f"{gains.looks:.0f} past gains a retrain saves {figure(saving)} over {self.horizon} windows, {figure(low)} at the low end; "
            f"it costs {figure(known.cost)}"
        )
        if low >= known.cost:
            return Decision(
                "retrain", why, f"a cost over {figure(low)}", low, known.cost, None, saving, low, high, self.horizon
            )
        return Decision(
            "wait", why, f"a cost of {figure(low)} or less", low, known.cost, None, saving, low, high, self.horizon
        )
