"""Judges whether a candidate may get more traffic: promote, abort or hold, valid however often it is asked.

Every figure is a share of yes-or-no observations: answers that failed, requests that were refused, answers slower than the
limit, predictions that changed sides. A confidence sequence encloses each share (pipeline.policy.confidence). It holds at all
looks at once, not only at one that was fixed in advance.

A look aborts when a share is proven over its limit, promotes when all are proven within, and holds otherwise. Fewer requests
than `rollout.limits.min_requests` hold a promotion back; they excuse no proven failure. A figure whose limit is null is off:
nobody looks at it. alpha is divided by the number of figures that are on, so that an equal version is aborted with a probability
of at most alpha over all looks of a step. Where nothing is left to judge, it holds.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from pipeline.policy.confidence import Counted, at_least, difference, interval
from pipeline.settings.rollout import RolloutLimits

SLOW_SHARE = 0.01  # a p99 is within its limit while at most this share of the answers is slower
MAJORITY = 0.5
Verdict = Literal["promote", "abort", "hold"]


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
    among those compared, and `distinct_sides` and `distinct_distribution` count each of these once: one row that is requested
    again and again tells little about a model. `missing` says why nothing was observed, `not_compared` why the versions'
    predictions were not compared. `answered_before`: the requests are logged ones, each of which was answered then.
    """

    failed: Counted | None = None
    champion_failed: Counted | None = None
    slow: Counted | None = None
    champion_slow: Counted | None = None
    sides: Paired | None = None
    distribution: tuple[Paired, ...] = ()
    distinct_rows: int = 0
    distinct_sides: Paired | None = None
    distinct_distribution: tuple[Paired, ...] = ()
    refused: Counted | None = None
    champion_refused: Counted | None = None
    past: bool = False
    answered_before: bool = False
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
    """The verdict with its reason, and every figure behind it.

    `suspicion` names failures or refusals that are over their limit beside the champion's and not proven to be; '' for none.
    `improbable` says that an equal version shows them with a probability of at most alpha. That holds for one look, so it
    may be used once: when a hold ends. `warning` is what a person must hear also when the version goes live.
    """

    verdict: Verdict
    reason: str
    looks: tuple[Look, ...] = ()
    suspicion: str = ""
    improbable: bool = False
    warning: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {"verdict": self.verdict, "reason": self.reason, "looks": [look.as_dict() for look in self.looks]}


def judge(evidence: Evidence, limits: RolloutLimits) -> Judgement:
    """Judges all evidence since the step began."""
    requests = evidence.failed.of if evidence.failed is not None else 0
    looks = _looks(evidence, limits)
    over = [look for look in looks if look.verdict == "abort"]
    if over:
        return Judgement("abort", "; ".join(look.reason for look in over), looks)
    suspicion, improbable = _suspicion(evidence, limits)
    warning = suspicion or _majority_refused(evidence, limits)
    undecided = [look.reason for look in looks if look.verdict == "hold"]
    verdict: Verdict = "hold"
    if evidence.missing:
        reasons = [evidence.missing]
    elif requests < limits.min_requests:
        reasons = [f"{requests} requests, at least {limits.min_requests} required", warning]
    elif undecided:
        reasons = undecided
    elif not looks:
        reasons = [evidence.not_compared, f"nothing is left to judge: {off_keys(limits)} null (off)"]
    else:
        verdict, reasons = "promote", [*(look.reason for look in looks), warning, evidence.not_compared]
    return Judgement(verdict, "; ".join(filter(None, reasons)), looks, suspicion, improbable, warning)


def off_keys(limits: RolloutLimits) -> str:
    """The keys of the limits that are off, with their verb."""
    keys = [f"rollout.limits.{figure}" for figure in limits.off]
    return f"{', '.join(keys)} {'is' if len(keys) == 1 else 'are'}"


def _looks(evidence: Evidence, limits: RolloutLimits) -> tuple[Look, ...]:
    """One look at each figure that is on; at predictions only where those were compared."""
    if not limits.on:
        return ()
    alpha = limits.alpha / len(limits.on)
    looks = [
        _errors(evidence, limits.error_rate, limits, alpha) if limits.error_rate is not None else None,
        _refusals(evidence, limits.refusal_rate, alpha) if limits.refusal_rate is not None else None,
        _latency(evidence, limits.p99_ms, limits, alpha) if limits.p99_ms is not None else None,
    ]
    if not evidence.not_compared:
        compared = _compared(evidence.sides, evidence.distribution, limits, alpha)
        if evidence.distinct_rows < limits.min_requests:
            once = _compared(evidence.distinct_sides, evidence.distinct_distribution, limits, alpha)
            pairs = zip(compared, once, strict=True)
            compared = [_varied(look, alone, evidence.distinct_rows) for look, alone in pairs]
        looks += compared
    return tuple(look for look in looks if look is not None)


def _compared(
    sides: Paired | None, distribution: tuple[Paired, ...], limits: RolloutLimits, alpha: float
) -> list[Look]:
    looks = (
        _prediction_rate(sides, limits.prediction_rate, alpha) if limits.prediction_rate is not None else None,
        _churn(sides, limits.churn, alpha) if limits.churn is not None else None,
        _drift(distribution, limits.drift, alpha) if limits.drift is not None else None,
    )
    return [look for look in looks if look is not None]


def _suspicion(evidence: Evidence, limits: RolloutLimits) -> tuple[str, bool]:
    """(the failures and refusals that, as observed, exceed the champion's by more than their limit; whether that is improbable).

    Nothing is suspected where the champion has no figure: a refusal may be the client's fault.
    """
    suspected, improbable = [], False
    for mine, champion, limit, what in (
        (evidence.failed, evidence.champion_failed, limits.error_rate, "answers failed"),
        (evidence.refused, evidence.champion_refused, limits.refusal_rate, "requests were refused"),
    ):
        if mine is None or champion is None or limit is None or not champion.of:
            continue
        if mine.share <= champion.share + limit:
            continue
        suspected.append(
            f"{mine.hits:,} of {mine.of:,} {what}, {champion.share:.2%} of the champion's {champion.of:,}: "
            f"over the limit of {limit:g}, not proven"
        )
        usual = min(1.0, (champion.hits + 0.5) / (champion.of + 1) + limit)
        improbable |= at_least(mine, usual) <= limits.alpha
    return "; ".join(suspected), improbable


def _majority_refused(evidence: Evidence, limits: RolloutLimits) -> str:
    """Says that most requests are proven to be refused where no champion's figure tells whose fault it is; '' otherwise."""
    mine, champion = evidence.refused, evidence.champion_refused
    if limits.refusal_rate is None or mine is None or (champion is not None and champion.of):
        return ""
    if interval(mine, limits.alpha)[0] <= MAJORITY:
        return ""
    return (
        f"{mine.hits:,} of {mine.of:,} requests were refused, and no champion's figure to compare with: "
        "do clients send the columns of this version?"
    )


def _errors(evidence: Evidence, limit: float, limits: RolloutLimits, alpha: float) -> Look:
    """Aborts when the candidate fails more often than the champion; promotes when by less than the limit.

    Against the champion's past it aborts only over the limit: the times are not the same. A past of fewer than
    `min_requests` answers is no usual figure yet, so the limit is absolute.
    """
    mine, champion = evidence.failed, evidence.champion_failed
    if mine is None:
        return _unseen("error_rate", limit)
    text = f"{mine.share:.2%} of {mine.of:,} answers failed"
    if champion is None or (evidence.past and champion.of < limits.min_requests):
        low, high = interval(mine, alpha)
        worse = low > limit
    else:
        low, high = difference(mine, champion, alpha)
        worse = low > (limit if evidence.past else 0)
        text += f", {champion.share:.2%} of the champion's {champion.of:,}"
    return _look("error_rate", mine.share, low, high, limit, mine.of, worse, text)


def _refusals(evidence: Evidence, limit: float, alpha: float) -> Look:
    """Aborts when the candidate refuses (4xx) more requests than the champion. Clients send bad requests to both, so the
    number alone proves nothing without a champion's figure, unless the champion is known to have answered each request.

    However short the champion's past is, the difference is valid, so it always counts.
    """
    mine, champion = evidence.refused, evidence.champion_refused
    if mine is None:
        return _unseen("refusal_rate", limit)
    text = f"{mine.share:.2%} of {mine.of:,} requests were refused"
    if evidence.answered_before:
        low, high = interval(mine, alpha)
        return _look("refusal_rate", mine.share, low, high, limit, mine.of, low > limit, text)
    if champion is None or champion.of == 0 and evidence.past:
        low, high = interval(mine, alpha)
        return Look("refusal_rate", mine.share, low, high, limit, mine.of, "promote", text)
    low, high = difference(mine, champion, alpha)
    text += f", {champion.share:.2%} of the champion's {champion.of:,}"
    worse = low > (limit if evidence.past else 0)
    return _look("refusal_rate", mine.share, low, high, limit, mine.of, worse, text)


def _latency(evidence: Evidence, p99_ms: float, limits: RolloutLimits, alpha: float) -> Look:
    """A p99 is over its limit when more than one answer in a hundred is slower. A champion that is as slow excuses the candidate.

    One stall of a moment slows all answers that are under way, so slow answers come together. With fewer than
    `min_requests` answers a majority must be proven slow.
    """
    mine, champion = evidence.slow, evidence.champion_slow
    if mine is None:
        return _unseen("p99_ms", SLOW_SHARE)
    text = f"{mine.share:.2%} of {mine.of:,} answers took over {p99_ms:g} ms"
    low, high = interval(mine, alpha / 2)
    worse = low > (SLOW_SHARE if mine.of >= limits.min_requests else MAJORITY)
    if champion is not None and not (evidence.past and champion.of < limits.min_requests):
        low_by, high_by = difference(mine, champion, alpha / 2)
        worse = worse and low_by > 0
        high = min(high, high_by)
        text += f", {champion.share:.2%} of the champion's {champion.of:,}"
    return _look("p99_ms", mine.share, low, high, SLOW_SHARE, mine.of, worse, text)


def _prediction_rate(sides: Paired | None, limit: float, alpha: float) -> Look:
    if sides is None:
        return _unseen("prediction_rate", limit)
    low, high = _shift(sides, alpha)
    observed = abs(sides.up - sides.down) / sides.of if sides.of else 0.0
    text = f"the share of high predictions moved by {observed:.2%} on the same {sides.of:,} rows"
    return _look("prediction_rate", observed, low, high, limit, sides.of, low > limit, text)


def _churn(sides: Paired | None, limit: float, alpha: float) -> Look:
    if sides is None:
        return _unseen("churn", limit)
    changed = Counted(sides.up + sides.down, sides.of)
    low, high = interval(changed, alpha)
    text = f"{changed.share:.2%} of the same {sides.of:,} rows changed sides"
    return _look("churn", changed.share, low, high, limit, sides.of, low > limit, text)


def _drift(distribution: tuple[Paired, ...], limit: float, alpha: float) -> Look:
    """The Kolmogorov-Smirnov distance of the two versions' predictions on the same rows, at some cuts."""
    if not distribution:
        return _unseen("drift", limit)
    shifts = [_shift(cut, alpha / len(distribution)) for cut in distribution]
    low, high = max(s[0] for s in shifts), max(s[1] for s in shifts)
    observed = max(abs(cut.up - cut.down) / cut.of if cut.of else 0.0 for cut in distribution)
    of = distribution[0].of
    text = f"the predictions' distribution moved by {observed:.2%} on the same {of:,} rows"
    return _look("drift", observed, low, high, limit, of, low > limit, text)


def _varied(look: Look, once: Look, distinct: int) -> Look:
    """The look; an abort on few different rows becomes a hold, unless `once`, which counts each of them once, aborts too.

    All traffic may be one row.
    """
    if look.verdict != "abort" or once.verdict == "abort":
        return look
    return replace(
        look, verdict="hold", reason=f"{look.reason}, but on {distinct} different rows, which prove too little"
    )


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
