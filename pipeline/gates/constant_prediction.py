"""Does the model tell rows apart? One that gives the same answer to all has learnt nothing, or has lost its features; an answer that is no
number tells nothing of its row either.

Of several classes one may have the same probability in all rows while the others move. The model may be of use for these, so that warns.
"""

from __future__ import annotations

import numpy as np

from pipeline.gates.base import PackagedModel, Verdict
from pipeline.training import tasks
from pipeline.training.tasks import Answers

# Answers closer than this share of their scale are the same.
SAME = 1e-6
NAMED = 3


def verdict(packaged: PackagedModel) -> Verdict:
    """The observed figure is the share of held-out rows with the answer that most rows have; of a class alone, with its probability."""
    limit = packaged.model.gates.sanity.same_answer
    answers = Answers.of(packaged.held_out, packaged.package.classes)
    if lacking := int((~np.isfinite(answers.values)).reshape(len(answers.values), -1).any(axis=1).sum()):
        reason = f"the answers to {lacking:,} of {len(answers.values):,} held-out rows are no numbers"
        return Verdict("constant_prediction", False, lacking / len(answers.values), 0.0, reason)
    values, step = answers.values, tasks.of(packaged.model.training).scale(answers.values) * SAME
    # Beside the first answer, so that a target in millions has no steps of its own size.
    steps = np.round((values - values[0]) / step).reshape(len(values), -1)
    _, rows = np.unique(steps, axis=0, return_counts=True)
    share = float(rows.max() / len(values))
    different = f"{len(rows):,} different answers to {len(values):,} held-out rows"
    reason = f"{different}, {share:.1%} of them the same one, at most {limit:.1%} (gates.sanity.same_answer)"
    if share <= limit and answers.classes:
        alike = {label: _alike(values[:, place], step) for place, label in enumerate(answers.classes)}
        if constant := [label for label, of in alike.items() if of > limit]:
            most = max(alike.values())
            named = ", ".join(constant[:NAMED]) + (f" and {len(constant) - NAMED} more" * (len(constant) > NAMED))
            why = f"{most:.1%} of the rows have the same probability of {named}; {reason}; are there rows of it to learn from?"
            return Verdict("constant_prediction", False, most, limit, why, mode="warn")
    return Verdict("constant_prediction", share <= limit, share, limit, reason)


def _alike(values: np.ndarray, step: float) -> float:
    """The share of `values`, (rows,), that are the middle one: what more than half of them have is in the middle."""
    return float((np.abs(values - np.median(values)) < step).mean())
