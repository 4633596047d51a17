"""Is the new version fit to get more traffic? Promote, abort or hold, however often one looks.

Every figure is a share of yes-or-no observations: answers that failed, requests that were refused, answers slower than the
limit, predictions that changed sides. Each share is enclosed by a confidence sequence, which holds at all looks at once and not only at one
fixed in advance: the beta-binomial mixture of Robbins (Statistical methods related to the law of the iterated
logarithm, 1970), with the prior of Jeffreys. Of n observations with s hits a share p is still possible while
B(s + 1/2, n - s + 1/2) / B(1/2, 1/2) < p^s (1 - p)^(n - s) / alpha; by Ville's inequality the true share is ever
excluded with a probability of at most alpha.

A look aborts when a share is proven over its bound, promotes when all are proven within, and holds otherwise; of fewer
requests than are wanted it does neither. alpha is divided by the number of figures: an equal version is aborted with a probability of at most alpha, all looks of a step
together.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from pipeline.settings.models import RolloutLimits

TINY, NEAR, CLOSE = 1e-15, 1e-6, 1e-6
SLOW_SHARE = 0.01  # a p99 is kept while at most this share is slower
Verdict = Literal["promote", "abort", "hold"]


@dataclass(frozen=True)
class Counted:
    """`hits` of `of` observations."""

    hits: int
    of: int

    @property
    def share(self) -> float:
        return self.hits / self.of if self.of else 0.0


@dataclass(frozen=True)
class Paired:
    """Two versions asked the same: `up` of `of` went from no to yes with the candidate, `down` from yes to no."""

    up: int
    down: int
    of: int


@dataclass(frozen=True)
class Evidence:
    """What was seen of a candidate; None is what could not be had.

    `failed` are 5xx, `refused` 4xx. What is the `champion`'s is None too where it had no traffic: limits are absolute then;
    with `past` it is what the champion did before all traffic moved.
    `distinct_rows` of the compared ones differ from each other: one row asked again and again says little of a model.
    """

    failed: Counted | None = None
    champion_failed: Counted | None = None
    slow: Counted | None = None
    champion_slow: Counted | None = None
    sides: Paired | None = None
    distribution: tuple[Paired, ...] = ()
    distinct_rows: int = 0
    refused: Counted | None = None
    champion_refused: Counted | None = None
    past: bool = False
    missing: str = ""
    not_compared: str = ""


@dataclass(frozen=True)
class Look:
    """One figure at one look: the enclosure [`low`, `high`] of its true value against `limit`."""

    figure: str
    observed: float | None
    low: float
    high: float
    limit: float
    of: int
    verdict: Verdict
    reason: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Judgement:
    """The verdict with its reason, and every figure behind it."""

    verdict: Verdict
    reason: str
    looks: tuple[Look, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return {"verdict": self.verdict, "reason": self.reason, "looks": [look.as_dict() for look in self.looks]}


def judge(seen: Evidence, limits: RolloutLimits) -> Judgement:
    """Judges all that was seen since the step began."""
    requests = seen.failed.of if seen.failed is not None else 0
    if seen.past and (seen.champion_failed is None or seen.champion_failed.of < limits.min_requests):
        seen = replace(seen, champion_failed=None, champion_slow=None, champion_refused=None)
    figures = ("error_rate", "refusal_rate", "p99_ms", "prediction_rate", "churn", "drift")
    alpha = limits.alpha / len(figures)
    looks: tuple[Look, ...] = (
        _errors(seen, limits, alpha),
        _refusals(seen, limits, alpha),
        _latency(seen, limits, alpha),
    )
    if not seen.not_compared:
        compared = (
            _prediction_rate(seen.sides, limits, alpha),
            _churn(seen.sides, limits, alpha),
            _drift(seen.distribution, limits, alpha),
        )
        looks += tuple(_varied(look, seen.distinct_rows, limits.min_requests) for look in compared)
    bad = [look for look in looks if look.verdict == "abort"]
    if bad and requests >= limits.min_requests:
        return Judgement("abort", "; ".join(look.reason for look in bad), looks)
    if seen.missing:
        return Judgement("hold", seen.missing, looks)
    if requests < limits.min_requests:
        return Judgement("hold", f"{requests} requests, at least {limits.min_requests} wanted", looks)
    open_ = [look for look in looks if look.verdict == "hold"]
    if open_:
        return Judgement("hold", "; ".join(look.reason for look in open_), looks)
    reasons = [look.reason for look in looks] + ([seen.not_compared] if seen.not_compared else [])
    return Judgement("promote", "; ".join(reasons), looks)


def interval(counted: Counted, alpha: float) -> tuple[float, float]:
    """The (low, high) that enclose the true share at all looks with a probability of at least 1 - alpha."""
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
    """Where between a possible and an impossible share the border is, by halving; errs towards the outside."""
    for _ in range(16):
        middle = (inside + outside) / 2
        if excluded(middle):
            outside = middle
        else:
            inside = middle
    return outside


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def difference(one: Counted, other: Counted, alpha: float) -> tuple[float, float]:
    """The (low, high) that enclose one's true share minus the other's, at all looks, like `interval`.

    A difference is impossible when even the two shares that explain it best are 1 / alpha times less likely than the
    mixture (universal inference: Wasserman, Ramdas & Balakrishnan, 2020).
    """
    if one.of == 0 or other.of == 0:
        return -1.0, 1.0
    mixture = sum(_log_beta(c.hits + 0.5, c.of - c.hits + 0.5) - _log_beta(0.5, 0.5) for c in (one, other))

    share = other.share

    def excluded(by: float) -> bool:
        nonlocal share
        likelihood, share = _best_likelihood(one, other, by, share)
        return mixture - likelihood >= -math.log(alpha)

    best = one.share - other.share
    return _edge(excluded, best, -1.0), _edge(excluded, best, 1.0)


def _best_likelihood(one: Counted, other: Counted, by: float, p: float) -> tuple[float, float]:
    """(the largest log likelihood of two shares p + by and p, that p), sought from a p near it.

    It is concave in p: Newton's steps find where its slope ends.
    """
    low, high = max(0.0, -by), min(1.0, 1.0 - by)
    if high <= low:
        return -math.inf, p
    parts = ((one.hits, one.of - one.hits, by), (other.hits, other.of - other.hits, 0.0))

    def slopes(p: float) -> tuple[float, float]:
        """(the slope at p, how fast it falls there)."""
        # Where there is hardly any room a share rounds to zero or one.
        shares = [(s, f, max(p + d, TINY), max(1 - p - d, TINY)) for s, f, d in parts]
        return sum(s / y - f / n for s, f, y, n in shares), sum(s / y**2 + f / n**2 for s, f, y, n in shares)

    # Not at a border, where the steps begin too short to be told from the end.
    p = min(max(p, low + NEAR), high - NEAR)
    # The best is at a border only when nothing that was seen is impossible there.
    (s1, f1, _), (s2, f2, _) = parts
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


def _errors(seen: Evidence, limits: RolloutLimits, alpha: float) -> Look:
    """Aborts when the candidate fails more often than the champion; promotes when by less than the limit.

    Against the champion's past it aborts only over the limit: the times are not the same.
    """
    if seen.failed is None:
        return _unseen("error_rate", limits.error_rate)
    if seen.champion_failed is None:
        low, high = interval(seen.failed, alpha)
        worse, text = low > limits.error_rate, f"{seen.failed.share:.2%} of {seen.failed.of:,} answers failed"
    else:
        low, high = difference(seen.failed, seen.champion_failed, alpha)
        worse = low > (limits.error_rate if seen.past else 0)
        text = (
            f"{seen.failed.share:.2%} of {seen.failed.of:,} answers failed, "
            f"{seen.champion_failed.share:.2%} of the champion's {seen.champion_failed.of:,}"
        )
    return _look("error_rate", seen.failed.share, low, high, limits.error_rate, seen.failed.of, worse, text)


def _refusals(seen: Evidence, limits: RolloutLimits, alpha: float) -> Look:
    """Requests that the candidate refuses (4xx) and the champion does not. Clients send bad ones to both alike, so that
    their number alone says nothing."""
    if seen.refused is None:
        return _unseen("refusal_rate", limits.refusal_rate)
    mine, text = seen.refused, f"{seen.refused.share:.2%} of {seen.refused.of:,} requests were refused"
    if seen.champion_refused is None:
        return Look("refusal_rate", mine.share, 0.0, 1.0, limits.refusal_rate, mine.of, "promote", text)
    low, high = difference(mine, seen.champion_refused, alpha)
    text += f", {seen.champion_refused.share:.2%} of the champion's {seen.champion_refused.of:,}"
    worse = low > (limits.refusal_rate if seen.past else 0)
    return _look("refusal_rate", mine.share, low, high, limits.refusal_rate, mine.of, worse, text)


def _latency(seen: Evidence, limits: RolloutLimits, alpha: float) -> Look:
    """A p99 is over its limit when more than one answer in a hundred is slower; and so is the champion's, it tells nothing."""
    if seen.slow is None:
        return _unseen("p99_ms", SLOW_SHARE)
    text = f"{seen.slow.share:.2%} of {seen.slow.of:,} answers took over {limits.p99_ms:g} ms"
    low, high = interval(seen.slow, alpha / 2)
    worse = low > SLOW_SHARE
    if seen.champion_slow is not None:
        low_by, high_by = difference(seen.slow, seen.champion_slow, alpha / 2)
        worse = worse and low_by > 0
        high = min(high, high_by)
        text += f", {seen.champion_slow.share:.2%} of the champion's {seen.champion_slow.of:,}"
    return _look("p99_ms", seen.slow.share, low, high, SLOW_SHARE, seen.slow.of, worse, text)


def _prediction_rate(sides: Paired | None, limits: RolloutLimits, alpha: float) -> Look:
    if sides is None:
        return _unseen("prediction_rate", limits.prediction_rate)
    low, high = _shift(sides, alpha)
    observed = abs(sides.up - sides.down) / sides.of if sides.of else 0.0
    text = f"the share of high predictions moved by {observed:.2%} on the same {sides.of:,} rows"
    return _look(
        "prediction_rate", observed, low, high, limits.prediction_rate, sides.of, low > limits.prediction_rate, text
    )


def _churn(sides: Paired | None, limits: RolloutLimits, alpha: float) -> Look:
    if sides is None:
        return _unseen("churn", limits.churn)
    changed = Counted(sides.up + sides.down, sides.of)
    low, high = interval(changed, alpha)
    text = f"{changed.share:.2%} of the same {sides.of:,} rows changed sides"
    return _look("churn", changed.share, low, high, limits.churn, sides.of, low > limits.churn, text)


def _drift(distribution: tuple[Paired, ...], limits: RolloutLimits, alpha: float) -> Look:
    """The Kolmogorov-Smirnov distance of the two versions' predictions on the same rows, at some cuts."""
    if not distribution:
        return _unseen("drift", limits.drift)
    shifts = [_shift(cut, alpha / len(distribution)) for cut in distribution]
    low, high = max(s[0] for s in shifts), max(s[1] for s in shifts)
    observed = max(abs(cut.up - cut.down) / cut.of if cut.of else 0.0 for cut in distribution)
    of = distribution[0].of
    text = f"the predictions' distribution moved by {observed:.2%} on the same {of:,} rows"
    return _look("drift", observed, low, high, limits.drift, of, low > limits.drift, text)


def _varied(look: Look, distinct: int, wanted: int) -> Look:
    """The look, but an abort takes as many different rows as requests are wanted: all traffic may be one row."""
    if look.verdict != "abort" or distinct >= wanted:
        return look
    return replace(look, verdict="hold", reason=f"{look.reason}, but on {distinct} different rows, {wanted} wanted")


def _shift(sides: Paired, alpha: float) -> tuple[float, float]:
    """Encloses |share with the candidate - share with the champion|."""
    # Both counts come from the same rows: only enclosures of each alone hold whatever binds them.
    (up_low, up_high), (down_low, down_high) = (
        interval(Counted(hits, sides.of), alpha / 2) for hits in (sides.up, sides.down)
    )
    return max(0.0, up_low - down_high, down_low - up_high), max(up_high - down_low, down_high - up_low)


def _look(figure: str, observed: float, low: float, high: float, limit: float, of: int, worse: bool, text: str) -> Look:
    if worse:
        return Look(figure, observed, low, high, limit, of, "abort", f"{text}: over the limit of {limit:g}")
    if high <= limit:
        return Look(figure, observed, low, high, limit, of, "promote", text)
    reason = f"{text}: up to {high:.2%} is possible, the limit is {limit:.2%}"
    return Look(figure, observed, low, high, limit, of, "hold", reason)


def _unseen(figure: str, limit: float) -> Look:
    return Look(figure, None, 0.0, 1.0, limit, 0, "hold", f"nothing was seen of {figure}")
