"""Is the model better than a guess that needs no model (the base rate, or the mean)?"""

from __future__ import annotations

from pipeline.gates.base import PackagedModel, Verdict
from pipeline.training.evaluate import gain, shown, shown_gain


def verdict(packaged: PackagedModel) -> Verdict:
    evaluation, margin = packaged.evaluation, packaged.model.gates.baseline_margin
    metric = evaluation.metric
    score, guess = evaluation.metrics[metric], evaluation.baseline[metric]
    by = gain(metric, score, guess, guess)
    return Verdict(
        "naive_baseline",
        by >= margin,
        by,
        margin,
        f"{metric} {shown(metric, score)} against {shown(metric, guess)} for the naive guess, at least {shown_gain(metric, margin)} "
        "better required (gates.baseline_margin)",
    )
