"""The windows that the live version has answered without a break, up to a look, and what is known of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.policy.retraining.base import Known


@dataclass(frozen=True)
class Spell:
    """`start` is the first window of it. `windows` (n,) are its labelled ones, rising, with the live version's `losses` and their `weights`."""

    start: int
    windows: np.ndarray
    losses: np.ndarray
    weights: np.ndarray


def spell_of(known: Known) -> Spell:
    """Of a version that was taken again it is what came after, not its first life."""
    others = np.flatnonzero(known.served[: known.now] != known.live)
    start = max(int(others[-1]) + 1 if len(others) else 0, int(known.born[known.live]))
    labelled = known.labelled
    windows = labelled[labelled >= start]
    return Spell(start, windows, known.losses[known.live, windows], known.weights[windows])
