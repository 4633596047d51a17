"""Is the model good enough on days that it has not seen?"""

from __future__ import annotations

from pipeline.gates.base import PackagedModel, Verdict
from pipeline.training.evaluate import better_by, shown


def verdict(packaged: PackagedModel) -> Verdict:
    evaluation, limit = packaged.evaluation, packaged.model.gates.metric_limit
    observed = evaluation.metrics[evaluation.metric]
    # A metric that could not be computed is NaN, which compares false, so the gate fails.
    return Verdict(
        "metric_limit",
        better_by(evaluation.metric, observed, limit) >= 0,
        observed,
        limit,
        f"{evaluation.metric} {shown(evaluation.metric, observed)} on {evaluation.rows:,} held-out rows, limit {limit:g}",
    )
