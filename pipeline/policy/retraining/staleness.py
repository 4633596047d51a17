"""How much more a version loses a window the older it is: g(age) = b * (1 - exp(-age / slow)), in the model's unit of loss.

Two versions that are scored on the same rows differ by their ages alone, so the weather of the window drops out:
loss(i, w) - loss(j, w) = g(w - born i) - g(w - born j), and noise. `b` is fitted to these differences by least squares for each `slow` of a
grid, each pair weighed by one over the time between its versions, as its noise grows with it. Its error is by blocks of one newest version
each, for those share that version's luck. It is shrunk to a prior, each by its error. How fast versions age changes with the season and the
world, so what is seen later is forgotten as it gets old: a pair counts a factor of e less each MEMORY windows.

A power of the age, b * age ** p, has no end, and on real streams the excess has one: an old version has lost what there was to lose, and
a returning season gives some of it back. So what one retrain can save is bounded by b * slow, and where it costs more, none is due.

With g, renewal reward gives when to retrain (age replacement, Barlow and Hunter 1960; for models, the staleness cost of CARA, Mahadevan and
Mathioudakis, Knowledge-Based Systems 293, 2024): the mean cost a window, (C + sum of g) / T, is least where T * g(T) - sum of g(a) for
a < T reaches the cost C.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

# In windows; with the longest the curve is a line for any age that matters.
SLOW = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
MEMORY = 8.0


@dataclass(frozen=True)
class Staleness:
    """`b` and `slow` (windows) of g; `error` is the standard error of `b`, and `blocks` how many newest versions it was learnt from.

    `alarmed` is how many times g a version has lost after an alarm of the inputs.
    """

    b: float
    slow: float
    error: float
    blocks: int = 0
    alarmed: float = 1.0

    def excess(self, age: np.ndarray) -> np.ndarray:
        """g at these ages, in windows."""
        return self.b * _growth(age, self.slow)

    def regret(self, age: int) -> float:
        """What the wait since the version was new has cost against renewal at the best time: age * g(age) - sum of g(a) for a < age."""
        grown = self.excess(np.arange(age + 1))
        return float(age * grown[-1] - grown[:-1].sum())

    def period(self, cost: float, most: int) -> int:
        """The age at which the regret reaches the cost; `most` where it does not before."""
        grown = self.excess(np.arange(most + 1))
        regret = np.arange(most + 1) * grown - np.concatenate([[0.0], np.cumsum(grown)[:-1]])
        due = np.flatnonzero(regret[1:] >= cost)
        return int(due[0]) + 1 if len(due) else most

    def saving(self, age: int, windows: int) -> float:
        """What a version trained now saves over the next `windows` against one of this age."""
        ahead = np.arange(windows)
        return float((self.excess(age + ahead) - self.excess(ahead)).sum())


# Of a model that nobody has looked back on: it does not age until its own versions show it.
NOTHING_KNOWN = Staleness(0.0, 8.0, 0.0)


def _growth(age: np.ndarray, slow: float) -> np.ndarray:
    return -np.expm1(-np.maximum(age, 0) / slow)


@dataclass(frozen=True)
class Pairs:
    """Differences of two versions on one window, all (pairs,): `older` and `newer` are their ages, `gap` what the older one lost more,
    `window` its number."""

    older: np.ndarray
    newer: np.ndarray
    gap: np.ndarray
    window: np.ndarray

    def only(self, chosen: np.ndarray) -> Pairs:
        return Pairs(self.older[chosen], self.newer[chosen], self.gap[chosen], self.window[chosen])


def pairs_of(losses: np.ndarray, born: np.ndarray) -> Pairs:
    """The pairs of each window's newest known version with all older ones. Shapes as in `Known`."""
    there = ~np.isnan(losses)
    places = np.arange(len(losses))[:, None]
    newest = np.where(there, places, -1).max(axis=0, initial=-1)
    older, window = np.nonzero(there & (places < newest))
    newer = newest[window]
    gap = losses[older, window] - losses[newer, window]
    return Pairs((window - born[older]).astype(float), (window - born[newer]).astype(float), gap, window)


def fitted(pairs: Pairs, slow: float | None = None, counts: np.ndarray | None = None) -> Staleness | None:
    """g by the pairs alone, with `slow` from the grid where it is not given; None without pairs. `counts` (pairs,) is how much each counts."""
    if not len(pairs.gap):
        return None
    weight = (1.0 if counts is None else counts) / (pairs.older - pairs.newer)
    grid = SLOW if slow is None else (slow,)
    growths = [_growth(pairs.older, one) - _growth(pairs.newer, one) for one in grid]
    slopes = [float((weight * growth * pairs.gap).sum() / (weight * growth**2).sum()) for growth in growths]
    misses = [(weight * (pairs.gap - b * growth) ** 2).sum() for b, growth in zip(slopes, growths, strict=True)]
    best = int(np.argmin(misses))
    b, growth = slopes[best], growths[best]
    blocks, place = np.unique(pairs.window - pairs.newer, return_inverse=True)
    # One block has no spread of its own: its whole size is what is not known of it.
    left = pairs.gap - b * growth if len(blocks) > 1 else pairs.gap
    by_block = np.bincount(place, weight * growth * left)
    spread = np.sqrt((by_block**2).sum() * len(blocks) / max(len(blocks) - 1, 1))
    known = np.bincount(place, weight * growth**2)
    # Of the few blocks that are not forgotten the spread says little: versions differ from each other by about as much as they age.
    few = 0.0 if counts is None else b * np.sqrt((known**2).sum())
    return Staleness(b, grid[best], float(np.hypot(spread, few) / known.sum()), len(blocks))


def backtested(losses: np.ndarray, drifted: np.ndarray) -> Staleness:
    """The curve of a loss matrix as in `History`, with what an alarm since a version's birth has added, as far as it is proven."""
    usable = np.flatnonzero(~np.isnan(np.diag(losses)))
    pairs = pairs_of(losses[usable], usable)
    curve = fitted(pairs)
    if curve is None:
        return NOTHING_KNOWN
    alarms = np.concatenate([[0], np.cumsum(drifted[: len(losses)])])
    ends = pairs.window + 1
    after = alarms[ends.astype(int)] > alarms[(ends - pairs.older).astype(int)]
    alarmed = fitted(pairs.only(after), curve.slow)
    if alarmed is None or alarmed.blocks < 2 or curve.b <= 0:
        return curve
    more, error = alarmed.b / curve.b - 1, alarmed.error / curve.b
    # The part of the difference that its own error does not explain (James and Stein's positive part).
    proven = max(0.0, 1 - (error / more) ** 2) if more else 0.0
    return replace(curve, alarmed=max(0.0, 1 + proven * more))


def updated(prior: Staleness, pairs: Pairs, changeable: float, now: int | None = None) -> Staleness:
    """The prior and what the pairs say, each weighed by one over its variance; `slow` stays.

    `changeable` is by what share of itself the prior's b may have changed since, one standard deviation. With the window `now`, the pairs
    are forgotten as they get old.
    """
    counts = None if now is None else np.exp((pairs.window - now) / MEMORY)
    seen = fitted(pairs, prior.slow, counts)
    variance = prior.error**2 + (changeable * prior.b) ** 2
    if seen is None or variance + seen.error**2 == 0:
        return replace(prior, error=float(np.sqrt(variance)))
    share = variance / (variance + seen.error**2)
    b = prior.b + share * (seen.b - prior.b)
    return replace(prior, b=b, error=float(np.sqrt(share) * seen.error), blocks=prior.blocks + seen.blocks)
