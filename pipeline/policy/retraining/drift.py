"""Retrains at an alarm of the inputs, for those who must.

An alarm says that the inputs moved, not that a retrain would gain: docs/when-to-retrain.md has the figures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.policy.retraining.base import Decision, Known


@dataclass(frozen=True)
class Drift:
    """Retrains once in each episode: an unbroken run of looks with an alarm."""

    name: str = "drift"

    def decide(self, known: Known) -> Decision:
        calm = np.flatnonzero(~known.drifted[: known.now + 1])
        began = int(calm[-1]) + 1 if len(calm) else 0
        looks = known.now + 1 - began
        if looks <= 0:
            return Decision("wait", "the inputs have no alarm", "an alarm of the inputs", 0.0, 1.0)
        lasting = f"the inputs have had an alarm for {looks} look{'s' if looks > 1 else ''}"
        newest = int(known.born.max())
        if newest >= began:
            why = f"{lasting}, and {known.called(len(known.born) - 1)} was trained {known.now - newest} windows ago, within it"
            return Decision("wait", why, "an end of the alarm, and a new one", 0.0, 1.0)
        return Decision("retrain", f"{lasting}, and no version was trained within it", "no alarm", 1.0, 1.0)
