"""The windows that are answered since something began, up to a look, and what is known of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.policy.retraining.base import Known


@dataclass(frozen=True)
class Spell:
    """`start` is the first window of it. `windows` (n,) are its labelled ones, rising, with the `losses` of what answered, their `weights`, and
    which versions `served` in them."""

    start: int
    windows: np.ndarray
    losses: np.ndarray
    weights: np.ndarray
    served: np.ndarray


def spell_of(known: Known) -> Spell:
    """The live version's, without a break. Of a version that was taken again it is what came after, not its first life."""
    others = np.flatnonzero(known.served[: known.now] != known.live)
    start = max(int(others[-1]) + 1 if len(others) else 0, int(known.born[known.live]))
    labelled = known.labelled
    windows = labelled[labelled >= start]
    return Spell(
        start, windows, known.losses[known.live, windows], known.weights[windows], np.full(len(windows), known.live)
    )


def since_retrain(known: Known) -> Spell:
    """All that answered since the newest version that did went live, whichever it was: going back does not make the model new."""
    newest = max(known.live, int(known.served[: known.now].max(initial=-1)))
    begun = np.flatnonzero(known.served[: known.now] == newest)
    start = int(begun[0]) if len(begun) else known.now
    windows = np.arange(start, known.now)
    served = known.served[windows]
    losses = known.losses[served, windows]
    there = (served >= 0) & ~np.isnan(losses)
    return Spell(start, windows[there], losses[there], known.weights[windows[there]], served[there])
