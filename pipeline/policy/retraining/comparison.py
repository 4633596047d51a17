"""Every policy on one past, beside the cheapest possible, with intervals: what the history can tell, and what it cannot.

Policies take their numbers from the first part of the history and are compared on the rest. Windows that follow each other are alike, so
the intervals come from a bootstrap of blocks of windows (Politis and Romano 1992, circular blocks): which policy retrained when stays as
it was, and the windows' costs are drawn anew. They cover 90 %.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.policy.retraining import rules
from pipeline.policy.retraining.base import History, Policy
from pipeline.policy.retraining.replay import Outcome, oracle, replay

# The share of the history that policies take their numbers from.
FIRST_PART = 0.3
ORACLE = "oracle"
RESAMPLES, SEED = 2000, 20130101
LOW, HIGH = 0.05, 0.95


@dataclass(frozen=True)
class Saved:
    """What a policy saves against another, in the cost's unit, with its interval."""

    value: float
    low: float
    high: float

    @property
    def proven(self) -> bool:
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Compared:
    """A policy's outcome on the windows that were compared. `costs` (windows,) float64 has each window's loss and retrain together."""

    policy: str
    outcome: Outcome
    costs: np.ndarray
    against_never: Saved
    against_tuned: Saved

    @property
    def total(self) -> float:
        return self.outcome.total


@dataclass(frozen=True)
class Comparison:
    """`first` is the first window that was compared. The `oracle` knew the losses before; `policies` are in the order of their cost."""

    first: int
    cost: float
    schedule: int | None
    policies: tuple[Compared, ...]
    oracle: Compared
    alike: tuple[str, ...]

    @property
    def best(self) -> Compared:
        """The cheapest."""
        return self.policies[0]

    def of(self, policy: str) -> Compared:
        return next(each for each in self.policies if each.policy == policy)

    @property
    def tells(self) -> bool:
        """Whether the history tells the best from never retraining; where that is the best, from each other policy."""
        if self.best.policy == rules.NEVER.name:
            return not self.alike
        return self.best.against_never.low > 0


def compare(
    history: History,
    cost: float,
    policies: Callable[[History, float], Sequence[Policy]] = rules.policies,
) -> Comparison:
    """Replays what `policies` gives for the first part of the history on the rest. A retrain comes to `cost`."""
    first = _first(history)
    before = part(history, first)
    schedule = rules.tuned(before, cost)
    outcomes = {each.name: replay(history, each, cost, first) for each in policies(before, cost)}
    outcomes.setdefault(rules.NEVER.name, replay(history, rules.NEVER, cost, first))
    outcomes.setdefault(rules.TUNED, replay(history, schedule, cost, first))
    costs = {name: costs_of(outcome, first) for name, outcome in outcomes.items()}
    draws = _blocks(history.windows - first)
    never, tuned = costs[rules.NEVER.name], costs[rules.TUNED]

    def compared(name: str, outcome: Outcome, of: np.ndarray) -> Compared:
        return Compared(name, outcome, of, saved(of, never, draws), saved(of, tuned, draws))

    found = sorted((compared(name, outcomes[name], costs[name]) for name in outcomes), key=lambda each: each.total)
    best = found[0]
    alike = tuple(each.policy for each in found[1:] if not saved(best.costs, each.costs, draws).proven)
    cheapest = oracle(history, cost, first)
    of_oracle = compared(ORACLE, cheapest, costs_of(cheapest, first))
    return Comparison(first, cost, schedule.every, tuple(found), of_oracle, alike)


def part(history: History, until: int) -> History:
    """The history of its first windows alone."""
    return History(
        history.losses[:until, :until],
        history.weights[:until],
        history.delay,
        history.drifted[:until],
        history.starts[:until],
    )


def costs_of(outcome: Outcome, first: int) -> np.ndarray:
    """Each window's loss, with what a retrain at its start cost."""
    costs = outcome.by_window.copy()
    costs[np.array(outcome.retrained, "int64") - first] += outcome.cost
    return costs


def saved(costs: np.ndarray, reference: np.ndarray, draws: np.ndarray) -> Saved:
    """What costs less than the reference, in sum."""
    differences = reference - costs
    sums = differences[draws].sum(axis=1)
    low, high = np.quantile(sums, [LOW, HIGH])
    return Saved(float(differences.sum()), float(low), float(high))


def saving(costs: np.ndarray, reference: np.ndarray) -> Saved:
    """`saved` of windows that follow each other, by blocks of them."""
    return saved(costs, reference, _blocks(len(costs)))


def excess_by_age(history: History) -> list[tuple[int, float, int]]:
    """(age in windows, how much more a version of that age lost than a new one on the same rows, the pairs that say so)."""
    fresh = np.diag(history.losses)
    found = []
    for age in range(1, history.windows):
        excess = np.diag(history.losses, age) - fresh[age:]
        there = ~np.isnan(excess)
        if there.any():
            found.append(
                (age, float(np.average(excess[there], weights=history.weights[age:][there])), int(there.sum()))
            )
    return found


def _first(history: History) -> int:
    """The first window after the first part whose version could be trained."""
    trained = ~np.isnan(np.diag(history.losses))
    begin = max(1, round(history.windows * FIRST_PART))
    later = np.flatnonzero(trained[begin:])
    # The history itself begins with one.
    return begin + int(later[0]) if len(later) else 0


def _blocks(windows: int) -> np.ndarray:
    """The windows of each resample, (resamples, windows): circular blocks, as long as the root of their number."""
    length = max(2, math.isqrt(windows))
    count = -(-windows // length)
    begins = np.random.default_rng(SEED).integers(0, windows, (RESAMPLES, count, 1))
    return ((begins + np.arange(length)) % windows).reshape(RESAMPLES, -1)[:, :windows]
