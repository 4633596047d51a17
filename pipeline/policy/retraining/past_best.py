"""Whether an older version that is kept would answer better than the live one, by the last windows that both are scored on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pipeline.policy.retraining.base import Known


@dataclass(frozen=True)
class PastBest:
    """`gain` is what `version` lost less a window than the live one, with its standard `error`, over so many `windows`."""

    version: int
    gain: float
    error: float
    windows: int

    def proven(self, sure: float) -> bool:
        """Whether the gain is above zero by more than `sure` standard errors."""
        return self.gain > sure * self.error


def past_best(known: Known, recent: int, least: int) -> PastBest | None:
    """The kept version that lost least on the last `recent` labelled windows of the live one; None where that is the live one itself, or
    where they share fewer than `least` windows. A window is a block: its rows have their weather in common."""
    windows = known.labelled[-recent:]
    if len(windows) < least or len(known.losses) < 2:
        return None
    gaps = known.losses[known.live, windows] - known.losses[:, windows]
    gaps[np.isnan(gaps).any(axis=1)] = -math.inf
    means = gaps.mean(axis=1)
    best = int(np.argmax(means))
    if best == known.live or means[best] <= 0:
        return None
    error = float(gaps[best].std(ddof=1) / math.sqrt(len(windows)))
    return PastBest(best, float(means[best]), error, len(windows))
