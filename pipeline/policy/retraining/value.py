"""The default: retrains when what has been lost to age reaches what a retrain costs and a retrain is expected to win it back, and takes the
best past version again.

Two views of the same sum are weighed together, in the cost's unit. By the curve: age * g(age) - sum of g(a) for a < age (staleness.py), which
reaches the cost where renewal reward says that a retrain is due. By the live loss: how much more was lost than in the first windows after the
retrain, cut at zero as it is summed (CUSUM: Page, Continuous inspection schemes, 1954). Stopping to rent when the rent paid reaches the price
is at most twice the best in hindsight (ski rental, Karlin, Manasse, Rudolph and Sleator 1988); where g is a line both views are the same.
Without labels the curve stands alone.

What was lost says that a retrain would have paid. That it will is another question: where it cannot save its cost within so many windows, or
a version that is kept would save as much for nothing, it waits or goes back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pipeline.policy.retraining.base import Decision, Known
from pipeline.policy.retraining.figures import figure
from pipeline.policy.retraining.past_best import PastBest, past_best
from pipeline.policy.retraining.spell import since_retrain
from pipeline.policy.retraining.staleness import NOTHING_KNOWN, Staleness, pairs_of, updated

# A saving is told over the time to the next retrain by the curve, and at most over so many windows. Within these a retrain has to pay.
HORIZON, HALF_A_YEAR = 26, 182.5


def horizon_of(window_days: float, due_after_days: float = 0.0) -> int:
    """Half a year of windows of so many days, HORIZON at least, and no less than the days after which a retrain is stated to be due: by a
    curve that reaches the cost at an age, a retrain at that age saves its cost within as long again."""
    return max(HORIZON, round(HALF_A_YEAR / window_days), math.ceil(due_after_days / window_days))


@dataclass(frozen=True)
class _Lost:
    """By the live loss since the last retrain: the `total` above what was lost when new, by Page's cumulative sum, the mean `excess` a window
    of the `last` ones, which are summed, and what is `expected` of one to come, with its `error`."""

    total: float
    excess: float
    expected: float
    error: float
    last: int
    windows: int


@dataclass(frozen=True)
class Value:
    """`prior` is the curve by the backtest, whose b may have changed by the share `changeable` of itself since (one standard deviation).

    `by_curve` and `by_loss` weigh the two views. `first` are the windows in which a version counts as new. A past version is taken again when
    over the last `recent` windows, `least` at least, its paired gain is `sure` standard errors above zero. A retrain has to save its cost within
    `horizon` windows.
    """

    prior: Staleness = NOTHING_KNOWN
    by_curve: float = 0.3
    by_loss: float = 0.7
    first: int = 3
    changeable: float = 1.0
    recent: int = 4
    least: int = 3
    sure: float = 1.0
    horizon: int = HORIZON
    name: str = "value"

    def decide(self, known: Known) -> Decision:
        curve = updated(self.prior, pairs_of(known.losses, known.born), self.changeable, known.now)
        # A version that was taken again is as stale as the last one trained, which it has beaten since.
        age = known.now - int(known.born.max())
        lost = self._lost(known)
        regret = max(0.0, curve.regret(age)) * self._alarmed(known, curve)
        score = regret if lost is None else self.by_curve * regret + self.by_loss * lost.total
        ahead = curve.period(known.cost, self.horizon)
        saving, error = self._saving(curve, age, lost, ahead)
        at_most, _ = self._saving(curve, age, lost, self.horizon)
        due = score >= known.cost and at_most >= known.cost
        best = past_best(known, self.recent, self.least, curve, self.by_loss)
        if best is not None and best.proven(self.sure) and not (due and ahead * best.gain < saving):
            return self._back(known, best, score)
        why = self._why(known, curve, age, regret, lost, score)
        low, high = saving - 1.96 * error, saving + 1.96 * error
        if due:
            flips = f"a retrain that costs over {figure(min(score, at_most))}"
            return Decision("retrain", why, flips, score, known.cost, None, saving, low, high, ahead)
        if score >= known.cost:
            why = f"{why}; but within {self.horizon} windows it would save {figure(at_most)}"
            flips = f"a retrain that costs {figure(at_most)} or less"
        else:
            flips = (
                f"a retrain that costs {figure(min(score, at_most))} or less, or {figure(known.cost - score)} more lost"
            )
        return Decision("wait", why, flips, score, known.cost, None, saving, low, high, ahead)

    def expected(self, known: Known) -> tuple[float, float, float, int]:
        """(what a retrain now is expected to save, the ends of its interval of 95 %, in the cost's unit; over so many windows ahead)."""
        curve = updated(self.prior, pairs_of(known.losses, known.born), self.changeable, known.now)
        ahead = curve.period(known.cost, self.horizon)
        age = known.now - int(known.born.max())
        saving, error = self._saving(curve, age, self._lost(known), ahead)
        return saving, saving - 1.96 * error, saving + 1.96 * error, ahead

    def _lost(self, known: Known) -> _Lost | None:
        """None where nothing is known of the version but when it was new, or not even that."""
        spell = since_retrain(known)
        if len(spell.losses) <= self.first:
            return None
        above = spell.losses - self._when_new(known, spell.served)
        sums = np.cumsum(spell.weights * above)
        # Cut at zero as it is summed: what was gained before is not set against what is lost now, nor does it say what will be.
        cut = int(np.flatnonzero(sums == sums.min())[-1]) + 1 if sums.min() < 0.0 else 0
        total = float(sums[-1] - min(0.0, sums.min()))
        summed = above[max(cut, self.first) :]
        summed = summed if len(summed) else above[self.first :]
        # Where the sum began to rise was chosen for that, so a few windows say too much: they are drawn to zero by as many as show what is new.
        trust = len(summed) / (len(summed) + self.first)
        # Neighbouring windows differ by noise alone, whatever the trend.
        noise = math.sqrt(float((np.diff(spell.losses) ** 2).mean()) / 2)
        error = trust * noise * math.sqrt(1 / len(summed) + 1 / self.first)
        excess = float(summed.mean())
        return _Lost(total, excess, trust * excess, error, len(summed), len(spell.losses))

    def _when_new(self, known: Known, served: np.ndarray) -> np.ndarray:
        """The mean loss of what `served` in each window in its own first windows that are known, also of one that was taken again; (n,) float64."""
        of = {
            each: known.losses[each, ~np.isnan(known.losses[each])][: self.first].mean() for each in np.unique(served)
        }
        return np.array([of[each] for each in served])

    def _alarmed(self, known: Known, curve: Staleness) -> float:
        """Labels say more than an alarm; without them it counts for what it has earned in the backtest."""
        alarm = known.drifted[int(known.born.max()) + 1 : known.now + 1].any()
        return curve.alarmed if alarm and not len(known.labelled) else 1.0

    def _saving(self, curve: Staleness, age: int, lost: _Lost | None, windows: int) -> tuple[float, float]:
        """What a retrain now saves over the windows until the next one is due, before its cost, and its standard error."""
        by_curve = max(0.0, curve.saving(age, windows))
        error = Staleness(1.0, curve.slow, 0.0).saving(age, windows) * curve.error
        if lost is None:
            return by_curve, error
        saving = self.by_curve * by_curve + self.by_loss * windows * max(0.0, lost.expected)
        return saving, math.hypot(self.by_curve * error, self.by_loss * windows * lost.error)

    def _why(self, known: Known, curve: Staleness, age: int, regret: float, lost: _Lost | None, score: float) -> str:
        cost = f"a retrain costs {figure(known.cost)}"
        by_age = float(curve.excess(np.array(age)))
        excess = f"{figure(abs(by_age))} a window {'more' if by_age >= 0 else 'less'}"
        by_curve = f"versions {age} windows after a retrain lose {excess} than new ones by the curve"
        if lost is None:
            alarms = self._alarmed(known, curve)
            drift = f", {alarms:.2f} times that after {known.alarm}" if alarms != 1.0 else ""
            labels = "no labels" if not len(known.labelled) else "labels only of when it was new"
            return f"{known.called(known.live)} is {known.age} windows old and has {labels}: {by_curve}{drift}, {figure(regret)} lost since; {cost}"
        more = f"{figure(abs(lost.excess))} a window {'more' if lost.excess >= 0 else 'less'}"
        return (
            f"{known.called(known.live)} is {known.age} windows old and loses {more} than when it was new in the last {lost.last} of "
            f"{lost.windows} labelled windows, {figure(lost.total)} in all; {by_curve}, {figure(regret)} lost since: {figure(score)} together, {cost}"
        )

    def _back(self, known: Known, best: PastBest, score: float) -> Decision:
        low, high = best.gain - self.sure * best.error, best.gain + self.sure * best.error
        why = (
            f"{known.called(best.version)} would have lost {figure(best.gain)} a window less than {known.called(known.live)} on the last {best.windows} "
            f"labelled windows ({figure(low)} to {figure(high)}); going back costs no training"
        )
        flips = f"an advantage under {figure(self.sure * best.error)} a window"
        return Decision("go back", why, flips, score, known.cost, best.version, best.gain, low, high, 1)
