"""What a policy sees at a look, and what it says. One interface for the backtest, the benchmark and the live decision.

Time is cut into windows of equal length, numbered from 0; a look comes at the start of a window. A loss is the mean over the rows of a
window, in the model's unit of loss. Costs are in the same unit times windows: what a retrain costs in money, by what a unit of loss costs
in money on the rows of a usual window. So a retrain of cost 2 pays when it takes 0.1 off the loss for 20 windows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

Action = Literal["retrain", "go back", "wait"]


@dataclass(frozen=True)
class Known:
    """What is known at the look at the start of window `now`.

    `losses` (versions, windows up to `now`) float64 has the mean loss of each kept version on each window: NaN where the labels have not
    come, where the version is from after the window's start, or nobody scored it. `born` (versions,) int64 is the window at whose start
    each version was trained, rising. `weights` (windows,) float64 are the rows of a window as a share of those of a usual one. `served`
    (windows,) int64 is the version that answered in each window, -1 for none, and `live` the one that answers now, by its place in
    `losses`. `drifted` (windows + 1,) bool says at which looks, that at the start of each window, the inputs had an alarm. `cost` is that
    of a retrain. `names` are what people call the versions, where that is not their place. `alarm` says what `drifted` is of.
    """

    now: int
    losses: np.ndarray
    born: np.ndarray
    weights: np.ndarray
    served: np.ndarray
    live: int
    cost: float
    drifted: np.ndarray
    names: tuple[str, ...] = ()
    alarm: str = "an alarm of the inputs"

    def called(self, version: int) -> str:
        """What people call the version at that place."""
        return f"version {self.names[version]}" if self.names else f"version {version}"

    @property
    def age(self) -> int:
        """How many windows ago the live version was trained."""
        return self.now - int(self.born[self.live])

    @property
    def labelled(self) -> np.ndarray:
        """The windows in which the live version has a known loss, rising, int64."""
        return np.flatnonzero(~np.isnan(self.losses[self.live]))


@dataclass(frozen=True)
class Decision:
    """What a policy says, and why. It acts where `score` reaches `limit`, both in the cost's unit where the policy weighs costs.

    `version` is the one to go back to. `saving` is what acting is expected to save over the next `ahead` windows, before its cost, with the
    interval `low` to `high`; None where the policy does not say. `flips` is the change of its inputs that would give another decision.
    """

    action: Action
    why: str
    flips: str
    score: float
    limit: float
    version: int | None = None
    saving: float | None = None
    low: float | None = None
    high: float | None = None
    ahead: int | None = None


class Policy(Protocol):
    """A rule, with its numbers. It is pure: the same `known` gives the same decision."""

    @property
    def name(self) -> str: ...

    def decide(self, known: Known) -> Decision: ...


@dataclass(frozen=True)
class History:
    """The loss matrix of a model's past: `losses` (windows, windows) float64, where row v is the version trained as of the start of window
    v, and NaN for windows before it. Where a version could not be trained its row is NaN, and no policy can retrain then.

    `weights` and `drifted` (windows,) are as in `Known`. The labels of window w are known at the look at the start of window
    w + 1 + `delay`. Window 0 is served by version 0, which every policy has.
    """

    losses: np.ndarray
    weights: np.ndarray
    delay: int
    drifted: np.ndarray
    starts: tuple[str, ...] = ()

    @property
    def windows(self) -> int:
        return len(self.losses)

    def known(self, now: int, kept: np.ndarray, served: np.ndarray, live: int, cost: float) -> Known:
        """What a policy that trained the versions `kept` (rising, int64) sees at the look `now`; `live` and `served` are places in `kept`."""
        seen = np.full((len(kept), now), np.nan)
        until = max(now - self.delay, 0)
        seen[:, :until] = self.losses[kept, :until]
        return Known(now, seen, kept, self.weights[:now], served[:now], live, cost, self.drifted[: now + 1])
