"""Is the model better than a guess that needs no model (the base rate, or the mean)?"""

from __future__ import annotations

from pipeline.gates.base import PackagedModel, Verdict
from pipeline.training.evaluate import better_by


def verdict(packaged: PackagedModel) -> Verdict:
    evaluation, margin = packaged.evaluation, packaged.model.gates.baseline_margin
    metric = evaluation.metric
    score, guess = evaluation.metrics[metric], evaluation.baseline[metric]
    gain = better_by(metric, score, guess)
    return Verdict(
        "naive_baseline",
        gain >= margin,
        gain,
        margin,
        f"{metric} {score:.4f} against {guess:.4f} for the naive guess, at least {margin:g} better required",
    )
