"""Judges whether a candidate may get more traffic: promote, abort or hold, valid however often it is asked.

Every figure is a share of yes-or-no observations: answers that failed, requests that were refused, answers slower than the
limit, predictions that changed sides. A confidence sequence encloses each share. It holds at all looks at once, not only at one
that was fixed in advance: the beta-binomial mixture of Robbins (Statistical methods related to the law of the iterated
logarithm, 1970), with the prior of Jeffreys. Of n observations with s hits a share p is still possible while
B(s + 1/2, n - s + 1/2) / B(1/2, 1/2) < p^s (1 - p)^(n - s) / alpha; by Ville's inequality the true share is ever
excluded with a probability of at most alpha.

A look aborts when a share is proven over its limit, promotes when all are proven within, and holds otherwise. With fewer
requests than `rollout.limits.min_requests` it only holds. alpha is divided by the number of figures, so that an equal version
is aborted with a probability of at most alpha over all looks of a step.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from pipeline.settings.models import RolloutLimits

TINY, NEAR, CLOSE = 1e-15, 1e-6, 1e-6
SLOW_SHARE = 0.01  # a p99 is within its limit while at most this share of the answers is slower
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
    """Both versions on the same `of` rows: with the candidate `up` of them change from no to yes, `down` from yes to no."""

    up: int
    down: int
    of: int


@dataclass(frozen=True)
class Evidence:
    """The observations of a candidate; None is a figure that could not be observed.

    `failed` are answers with 5xx, `refused` with 4xx. The champion's figures are None where it had no traffic; then limits are
    absolute. With `past` they are from before all traffic moved away from it. `distinct_rows` is the number of different rows
    among those compared: one row that is requested again and again tells little about a model. `missing` says why nothing was
    observed, `not_compared` why the versions' predictions were not compared.
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
    """One figure at one look: [`low`, `high`] encloses its true value, which is compared with `limit`."""

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


def judge(evidence: Evidence, limits: RolloutLimits) -> Judgement:
    """Judges all evidence since the step began."""
    requests = evidence.failed.of if evidence.failed is not None else 0
    if evidence.past and (evidence.champion_failed is None or evidence.champion_failed.of < limits.min_requests):
        evidence = replace(evidence, champion_failed=None, champion_slow=None, champion_refused=None)
    figures = ("error_rate", "refusal_rate", "p99_ms", "prediction_rate", "churn", "drift")
    alpha = limits.alpha / len(figures)
    looks: tuple[Look, ...] = (
        _errors(evidence, limits, alpha),
        _refusals(evidence, limits, alpha),
        _latency(evidence, limits, alpha),
    )
    if not evidence.not_compared:
        compared = (
            _prediction_rate(evidence.sides, limits, alpha),
            _churn(evidence.sides, limits, alpha),
            _drift(evidence.distribution, limits, alpha),
        )
        looks += tuple(_varied(look, evidence.distinct_rows, limits.min_requests) for look in compared)
    over = [look for look in looks if look.verdict == "abort"]
    if over and requests >= limits.min_requests:
        return Judgement("abort", "; ".join(look.reason for look in over), looks)
    if evidence.missing:
        return Judgement("hold", evidence.missing, looks)
    if requests < limits.min_requests:
        return Judgement("hold", f"{requests} requests, at least {limits.min_requests} required", looks)
    undecided = [look for look in looks if look.verdict == "hold"]
    if undecided:
        return Judgement("hold", "; ".join(look.reason for look in undecided), looks)
    reasons = [look.reason for look in looks] + ([evidence.not_compared] if evidence.not_compared else [])
    return Judgement("promote", "; ".join(reasons), looks)


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

    def slopes(p: float) -> tuple[float, float]:
        """(the slope at p, how fast it falls there)."""
        # A share close to a border rounds to zero or one.
        shares = [(s, f, max(p + d, TINY), max(1 - p - d, TINY)) for s, f, d in parts]
        return sum(s / y - f / n for s, f, y, n in shares), sum(s / y**2 + f / n**2 for s, f, y, n in shares)

    # Not at a border: the first steps there are so short that the search would end at once.
    p = min(max(p, low + NEAR), high - NEAR)
    # The maximum is at a border only when every observation is possible there.
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


def _errors(evidence: Evidence, limits: RolloutLimits, alpha: float) -> Look:
    """Aborts when the candidate fails more often than the champion; promotes when by less than the limit.

    Against the champion's past it aborts only over the limit: the times are not the same.
    """
    if evidence.failed is None:
        return _unseen("error_rate", limits.error_rate)
    if evidence.champion_failed is None:
        low, high = interval(evidence.failed, alpha)
        worse, text = low > limits.error_rate, f"{evidence.failed.share:.2%} of {evidence.failed.of:,} answers failed"
    else:
        low, high = difference(evidence.failed, evidence.champion_failed, alpha)
        worse = low > (limits.error_rate if evidence.past else 0)
        text = (
            f"{evidence.failed.share:.2%} of {evidence.failed.of:,} answers failed, "
            f"{evidence.champion_failed.share:.2%} of the champion's {evidence.champion_failed.of:,}"
        )
    return _look("error_rate", evidence.failed.share, low, high, limits.error_rate, evidence.failed.of, worse, text)


def _refusals(evidence: Evidence, limits: RolloutLimits, alpha: float) -> Look:
    """Aborts when the candidate refuses (4xx) more requests than the champion. Clients send bad requests to both, so the
    number alone proves nothing."""
    if evidence.refused is None:
        return _unseen("refusal_rate", limits.refusal_rate)
    mine, text = evidence.refused, f"{evidence.refused.share:.2%} of {evidence.refused.of:,} requests were refused"
    if evidence.champion_refused is None:
        return Look("refusal_rate", mine.share, 0.0, 1.0, limits.refusal_rate, mine.of, "promote", text)
    low, high = difference(mine, evidence.champion_refused, alpha)
    text += f", {evidence.champion_refused.share:.2%} of the champion's {evidence.champion_refused.of:,}"
    worse = low > (limits.refusal_rate if evidence.past else 0)
    return _look("refusal_rate", mine.share, low, high, limits.refusal_rate, mine.of, worse, text)


def _latency(evidence: Evidence, limits: RolloutLimits, alpha: float) -> Look:
    """A p99 is over its limit when more than one answer in a hundred is slower. A champion that is as slow excuses the candidate."""
    if evidence.slow is None:
        return _unseen("p99_ms", SLOW_SHARE)
    text = f"{evidence.slow.share:.2%} of {evidence.slow.of:,} answers took over {limits.p99_ms:g} ms"
    low, high = interval(evidence.slow, alpha / 2)
    worse = low > SLOW_SHARE
    if evidence.champion_slow is not None:
        low_by, high_by = difference(evidence.slow, evidence.champion_slow, alpha / 2)
        worse = worse and low_by > 0
        high = min(high, high_by)
        text += f", {evidence.champion_slow.share:.2%} of the champion's {evidence.champion_slow.of:,}"
    return _look("p99_ms", evidence.slow.share, low, high, SLOW_SHARE, evidence.slow.of, worse, text)


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


def _varied(look: Look, distinct: int, required: int) -> Look:
    """The look; an abort on fewer different rows than `required` becomes a hold, because all traffic may be one row."""
    if look.verdict != "abort" or distinct >= required:
        return look
    return replace(look, verdict="hold", reason=f"{look.reason}, but on {distinct} different rows, {required} required")


def _shift(sides: Paired, alpha: float) -> tuple[float, float]:
    """Encloses |share with the candidate - share with the champion|."""
    # Both counts come from the same rows and depend on each other, so each is enclosed by itself.
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
    return Look(figure, None, 0.0, 1.0, limit, 0, "hold", f"{figure} was not observed")
