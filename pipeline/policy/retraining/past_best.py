"""Whether an older version that is kept would answer better than the live one, by the last windows that both are scored on."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from pipeline.policy.retraining.base import Known
from pipeline.policy.retraining.same_change import FIRST, noise
from pipeline.policy.retraining.staleness import NOTHING_KNOWN, Staleness

# A rise counts as far as it is above so many of its standard errors.
SURE_RISE = 3.0


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


def past_best(
    known: Known, recent: int, least: int, curve: Staleness = NOTHING_KNOWN, cures: float = 0.0
) -> PastBest | None:
    """The kept version that lost least on the last `recent` labelled windows of the live one; None where that is the live one itself, or
    where they share fewer than `least` windows. A window is a block: its rows have their weather in common.

    Where the live one has fewer, the newest that has as many stands for it. What it is older counts by the curve, and so does the share
    `cures` of its proven rise since it was new: for that the live one was trained, and nobody knows yet that it has not cured it.
    """
    stands = _labelled(known, least)
    if stands is None:
        return None
    windows = np.flatnonzero(~np.isnan(known.losses[stands]))[-recent:]
    gaps = known.losses[stands, windows] - known.losses[:, windows]
    gaps[np.isnan(gaps).any(axis=1)] = -math.inf
    growth = float(np.diff(replace(curve, b=1.0).excess(known.now - known.born[[known.live, stands]]))[0])
    gains = gaps.mean(axis=1) - max(0.0, curve.b) * growth
    if stands != known.live:
        gains -= cures * _proven_rise(known.losses[stands], recent)
    best = int(np.argmax(gains))
    if best == known.live or gains[best] <= 0:
        return None
    error = math.hypot(float(gaps[best].std(ddof=1) / math.sqrt(len(windows))), curve.error * growth)
    return PastBest(best, float(gains[best]), error, len(windows))


def _labelled(known: Known, least: int) -> int | None:
    """The live version, or the newest before it that has so many labelled windows."""
    counted = (~np.isnan(known.losses[: known.live + 1])).sum(axis=1)
    enough = np.flatnonzero(counted >= least)
    return int(enough[-1]) if len(enough) and len(known.losses) > 1 else None


def _proven_rise(losses: np.ndarray, recent: int) -> float:
    """By how much the last ones are above the first ones for sure, 0 at least."""
    losses = losses[~np.isnan(losses)]
    last = losses[FIRST:][-recent:]
    if not len(last):
        return 0.0
    error = noise(np.diff(losses)) * math.sqrt(1 / len(last) + 1 / FIRST)
    return max(0.0, float(last.mean() - losses[:FIRST].mean()) - SURE_RISE * error)
