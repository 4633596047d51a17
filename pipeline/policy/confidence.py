"""Encloses a share of yes-or-no observations, valid however often one looks.

A confidence sequence holds at all looks at once, not only at one that was fixed in advance: the beta-binomial mixture of
Robbins (Statistical methods related to the law of the iterated logarithm, 1970), with the prior of Jeffreys. Of n observations
with s hits a share p is still possible while B(s + 1/2, n - s + 1/2) / B(1/2, 1/2) < p^s (1 - p)^(n - s) / alpha; by Ville's
inequality the true share is ever excluded with a probability of at most alpha.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

TINY, NEAR, CLOSE = 1e-15, 1e-6, 1e-6


@dataclass(frozen=True)
class Counted:
    """`hits` of `of` observations."""

    hits: int
    of: int

    @property
    def share(self) -> float:
        return self.hits / self.of if self.of else 0.0


def interval(counted: Counted, alpha: float) -> tuple[float, float]:
    """(low, high): they enclose the true share at all looks with a probability of at least 1 - alpha."""
    if counted.of == 0:
        return 0.0, 1.0
    s, f = counted.hits, counted.of - counted.hits
    mixture = _log_beta(s + 0.5, f + 0.5) - _log_beta(0.5, 0.5)

    def excluded(p: float) -> bool:
        return mixture - (s * math.log(p) if s else 0.0) - (f * math.log1p(-p) if f else 0.0) >= -math.log(alpha)

    best = counted.share
    low = _edge(excluded, best, 0.0) if s else 0.0
    high = _edge(excluded, best, 1.0) if f else 1.0
    return low, high


def _edge(excluded: Any, inside: float, outside: float) -> float:
    """The border between a possible share `inside` and an impossible one `outside`, by halving; errs towards `outside`."""
    for _ in range(16):
        middle = (inside + outside) / 2
        if excluded(middle):
            outside = middle
        else:
            inside = middle
    return outside


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def difference(candidate: Counted, champion: Counted, alpha: float) -> tuple[float, float]:
    """(low, high): they enclose the candidate's true share minus the champion's at all looks, as `interval` does.

    A difference is impossible when even the two shares that explain it best are 1 / alpha times less likely than the
    mixture (universal inference: Wasserman, Ramdas & Balakrishnan, 2020).
    """
    if candidate.of == 0 or champion.of == 0:
        return -1.0, 1.0
    mixture = sum(_log_beta(c.hits + 0.5, c.of - c.hits + 0.5) - _log_beta(0.5, 0.5) for c in (candidate, champion))
    share = champion.share

    def excluded(by: float) -> bool:
        nonlocal share
        likelihood, share = _best_likelihood(candidate, champion, by, share)
        return mixture - likelihood >= -math.log(alpha)

    best = candidate.share - champion.share
    return _edge(excluded, best, -1.0), _edge(excluded, best, 1.0)


def _best_likelihood(candidate: Counted, champion: Counted, by: float, p: float) -> tuple[float, float]:
    """(the largest log likelihood of the shares p + by and p, that p); the search begins at the given p.

    The likelihood is concave in p: Newton's steps find where its slope is zero.
    """
    low, high = max(0.0, -by), min(1.0, 1.0 - by)
    if high <= low:
        return -math.inf, p
    parts = ((candidate.hits, candidate.of - candidate.hits, by), (champion.hits, champion.of - champion.hits, 0.0))

    (s1, f1, _), (s2, f2, _) = parts

    def slopes(p: float) -> tuple[float, float]:
        """(the slope at p, how fast it falls there)."""
        # A share close to a border rounds to zero or one.
        y1, n1, y2, n2 = max(p + by, TINY), max(1 - p - by, TINY), max(p, TINY), max(1 - p, TINY)
        return s1 / y1 - f1 / n1 + (s2 / y2 - f2 / n2), s1 / y1**2 + f1 / n1**2 + (s2 / y2**2 + f2 / n2**2)

    # Not at a border: the first steps there are so short that the search would end at once.
    p = min(max(p, low + NEAR), high - NEAR)
    # The maximum is at a border only when every observation is possible there.
    if (s2 if by >= 0 else s1) == 0 and slopes(low)[0] <= 0:
        p, high = low, low
    elif (f1 if by >= 0 else f2) == 0 and slopes(high)[0] >= 0:
        p, low = high, high
    for _ in range(100):
        if high - low <= TINY:
            break
        p = p if low < p < high else (low + high) / 2
        slope, fall = slopes(p)
        low, high = (p, high) if slope > 0 else (low, p)
        if abs(slope / fall) < CLOSE * min(p + TINY, 1 - p, p + by + TINY, 1 - p - by):
            break
        p += slope / fall
    return sum(s * math.log(max(p + d, TINY)) + f * math.log(max(1 - p - d, TINY)) for s, f, d in parts), p


def at_least(counted: Counted, p: float) -> float:
    """The probability of so many hits or more, each with probability `p` < counted.share."""
    n, total, term = counted.of, 0.0, 1.0
    for hits in range(counted.hits, n + 1):
        choose = math.lgamma(n + 1) - math.lgamma(hits + 1) - math.lgamma(n - hits + 1)
        term = (
            math.exp(choose + hits * math.log(p) + ((n - hits) * math.log1p(-p) if hits < n else 0.0)) if p < 1 else 1.0
        )
        total += term
        if term < TINY * total:
            break
    return min(1.0, total)
