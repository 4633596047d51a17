"""What a policy would have cost on a model's past, and the cheapest that anybody could have done who had known it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.policy.retraining.base import History, Policy


@dataclass(frozen=True)
class Outcome:
    """`by_window` (windows,) float64 is the loss of the version that answered, times the window's weight; a retrain comes to `cost`.

    `retrained` are the windows at whose start a version was trained, `went_back` those at which an older one was taken again.
    """

    by_window: np.ndarray
    cost: float
    retrained: tuple[int, ...] = ()
    went_back: tuple[int, ...] = ()

    @property
    def loss(self) -> float:
        return float(self.by_window.sum())

    @property
    def total(self) -> float:
        return self.loss + self.cost * len(self.retrained)


def replay(history: History, policy: Policy, cost: float, first: int = 0) -> Outcome:
    """The policy's looks at the start of each window after `first`, which version `first` serves. A retrain that the history could not
    have made is none, and costs nothing."""
    kept, live = [first], 0
    served = np.full(history.windows, -1)
    retrained, went_back = [], []
    for now in range(first, history.windows):
        if now > first:
            known = history.known(now, np.array(kept), served, live, cost)
            said = policy.decide(known)
            if said.action == "retrain" and not np.isnan(history.losses[now, now]):
                kept.append(now)
                live = len(kept) - 1
                retrained.append(now)
            elif said.action == "go back" and said.version is not None and said.version != live:
                live = said.version
                went_back.append(now)
        served[now] = live
    answering = np.array(kept)[served[first:]]
    windows = np.arange(first, history.windows)
    by_window = history.losses[answering, windows] * history.weights[windows]
    return Outcome(by_window, cost, tuple(retrained), tuple(went_back))


def oracle(history: History, cost: float, first: int = 0) -> Outcome:
    """The cheapest retrains in hindsight where the newest version answers: exact, by dynamic programming over the last retrain."""
    weighted = history.losses * history.weights
    windows = history.windows
    cheapest = np.full(windows + 1, np.inf)
    cheapest[windows] = 0.0
    following = np.full(windows + 1, windows)
    for start in range(windows - 1, first - 1, -1):
        if np.isnan(history.losses[start, start]):
            continue
        stretches = np.cumsum(weighted[start, start:])
        ends = np.arange(start + 1, windows + 1)
        totals = stretches + cheapest[ends] + np.where(ends < windows, cost, 0.0)
        best = int(np.argmin(totals))
        cheapest[start], following[start] = totals[best], ends[best]
    retrained, by_window, start = [], [], first
    while start < windows:
        end = int(following[start])
        by_window.append(weighted[start, start:end])
        if end < windows:
            retrained.append(end)
        start = end
    return Outcome(np.concatenate(by_window), cost, tuple(retrained))
