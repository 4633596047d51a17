"""How many requests a step needs until the judge can promote a candidate that is as the champion is, and the time for them.

The same judge looks at made-up evidence: the candidate answers as the champion usually does, and no prediction changes. That is the
least that a step takes; a candidate that differs within its limits takes more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from types import MappingProxyType

from pipeline.policy.canary import Evidence, Paired, judge
from pipeline.policy.confidence import Counted
from pipeline.settings.rollout import PREDICTION_FIGURES, RolloutLimits

MOST = 1 << 23
CUTS = 9
# The search ends when it knows the number to one in fifty.
PRECISION = 50
UNITS = ((86_400, "d"), (3600, "h"), (60, "min"))


@dataclass(frozen=True)
class Usual:
    """The champion's shares of failed, refused and slow answers."""

    failed: float = 0.0
    refused: float = 0.0
    slow: float = 0.0

    @classmethod
    def of(cls, failed: Counted, slow: Counted, refused: Counted, at_least: int) -> Usual:
        """The observed shares; those of fewer than `at_least` answers are no usual ones yet."""
        shares = (counted.share if counted.of >= at_least else 0.0 for counted in (failed, refused, slow))
        return cls(*shares)


@dataclass(frozen=True)
class Comparison:
    """What a step compares. For each request of the candidate there are `beside` of the champion, and `rows` compared rows.

    `beside` None: the requests are logged ones that were answered then. Without `predictions` these are not compared.
    """

    beside: float | None
    rows: float = 1.0
    predictions: bool = True


@dataclass(frozen=True)
class Traffic:
    """`requests` of the model, with together `rows` rows, were answered in the last `hours`; damaged files of the log are not in it."""

    requests: int
    rows: int
    hours: float
    damaged_files: int = 0

    @property
    def a_second(self) -> float:
        return self.requests / (self.hours * 3600)

    def __str__(self) -> str:
        last = f"the last {span(self.hours * 3600)}"
        without = f", without {self.damaged_files} damaged files of the log" if self.damaged_files else ""
        return (
            f"the {self.requests:,} requests of {last}" if self.requests else f"no requests came in {last}"
        ) + without


@dataclass(frozen=True)
class Needs:
    """What a step needs: of the candidate's requests by figure, and `requests` in all, of which it gets the share `share`."""

    figures: Mapping[str, int | None]
    requests: int
    share: float

    @property
    def of_model(self) -> int:
        return math.ceil(self.requests / self.share)

    def takes_s(self, traffic: Traffic) -> float | None:
        """The seconds that they take; None when there is no traffic."""
        return self.of_model / traffic.a_second if traffic.requests else None

    def late(self, limits: RolloutLimits, traffic: Traffic, allowed_s: float) -> list[str]:
        """The keys of `rollout.limits` that cannot be proven in the allowed time."""
        return self.more_than(allowed_s * traffic.a_second * self.share, limits)

    def more_than(self, requests: float, limits: RolloutLimits) -> list[str]:
        """The keys of `rollout.limits` that so many requests of the candidate cannot prove."""
        wanted = {**self.figures, "min_requests": limits.min_requests}
        return [key for key, fewest in wanted.items() if fewest is None or fewest > requests]

    def __str__(self) -> str:
        named = [f"{figure} {'more than any number' if n is None else f'{n:,}'}" for figure, n in self.figures.items()]
        of = f", {self.of_model:,} of the model" if self.share < 1 else ""
        return (
            f"at least {self.requests:,} requests to the candidate for a proof ({', '.join(named) or 'no figure'}){of}"
        )


def step_needs(limits: RolloutLimits, comparison: Comparison, usual: Usual, share: float = 1.0) -> Needs:
    """What a step needs in which the candidate gets `share` of the requests, from 0 to 1, or copies of these."""
    figures = needed(limits, comparison, usual)
    return Needs(figures, max([limits.min_requests, *(n for n in figures.values() if n is not None)]), share)


def span(seconds: float) -> str:
    """A time for a person: 40 s, 15 min, 3.5 d."""
    for unit, name in UNITS:
        if seconds >= 2 * unit:
            return f"{f'{seconds / unit:,.1f}'.removesuffix('.0')} {name}"
    return f"{seconds:g} s" if seconds < 10 else f"{seconds:.0f} s"


@lru_cache(maxsize=16)
def needed(limits: RolloutLimits, comparison: Comparison, usual: Usual) -> Mapping[str, int | None]:
    """The requests of the candidate that a proof takes, by figure that is on; None when no number is enough.

    The last results are kept: each costs some eighty judgements, and each step of a linear rollout asks for the same.
    """
    known: dict[int, Mapping[str, bool]] = {}

    def proven(figure: str, requests: int) -> bool:
        if requests not in known:
            looks = judge(_evidence(requests, comparison, usual), limits).looks
            known[requests] = {look.figure: look.verdict == "promote" for look in looks}
        return known[requests][figure]

    on = [figure for figure in limits.on if comparison.predictions or figure not in PREDICTION_FIGURES]
    return MappingProxyType({figure: _fewest(partial(proven, figure)) for figure in on})


def _fewest(proven: Callable[[int], bool]) -> int | None:
    """The fewest requests that prove it; None when MOST do not."""
    enough = 1
    while not proven(enough):
        enough *= 2
        if enough > MOST:
            return None
    low = enough // 2
    while enough - low > max(1, enough // PRECISION):
        middle = (low + enough) // 2
        low, enough = (low, middle) if proven(middle) else (middle, enough)
    return enough


def _evidence(requests: int, comparison: Comparison, usual: Usual) -> Evidence:
    beside = None if comparison.beside is None else math.ceil(requests * comparison.beside)
    same = Paired(0, 0, max(1, int(requests * comparison.rows)))

    def counted(share: float, of: int) -> Counted:
        return Counted(round(share * of), of)

    return Evidence(
        failed=counted(usual.failed, requests),
        champion_failed=None if beside is None else counted(usual.failed, beside),
        slow=counted(usual.slow, requests),
        champion_slow=None if beside is None else counted(usual.slow, beside),
        sides=same,
        distribution=(same,) * CUTS,
        distinct_rows=same.of,
        distinct_sides=same,
        distinct_distribution=(same,) * CUTS,
        refused=counted(usual.refused, requests),
        champion_refused=None if beside is None else counted(usual.refused, beside),
        answered_before=beside is None,
    )
