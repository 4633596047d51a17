"""Does the model tell rows apart? One that gives the same answer to all has learnt nothing, or has lost its features."""

from __future__ import annotations

import numpy as np

from pipeline.gates.base import PackagedModel, Verdict
from pipeline.training import tasks
from pipeline.training.tasks import Answers

# Answers closer than this share of their scale are the same.
SAME = 1e-6


def verdict(packaged: PackagedModel) -> Verdict:
    """The observed figure is the share of held-out rows with the answer that most rows have."""
    limit = packaged.model.gates.sanity.same_answer
    values = Answers.of(packaged.held_out, packaged.package.classes).values
    scale = tasks.of(packaged.model.training).scale(values)
    # Beside the first answer, so that a target in millions has no steps of its own size.
    steps = np.round((values - values[0]) / (scale * SAME)).reshape(len(values), -1)
    _, rows = np.unique(steps, axis=0, return_counts=True)
    share = float(rows.max() / len(values))
    different = f"{len(rows):,} different answers to {len(values):,} held-out rows"
    reason = f"{different}, {share:.1%} of them the same one, at most {limit:.1%} (gates.sanity.same_answer)"
    return Verdict("constant_prediction", share <= limit, share, limit, reason)
