"""Is the model good enough on days that it has not seen?

The metric itself must keep the limit. Its interval says how far it would be elsewhere on other days like these; it stops nothing.
"""

from __future__ import annotations

from pipeline.gates.base import PackagedModel, Verdict
from pipeline.gates.measured_rows import Measured
from pipeline.training.evaluate import better_by, shown
from pipeline.training.tasks import Answers


def verdict(packaged: PackagedModel) -> Verdict:
    """`observed` and `limit` are in the metric's own unit; the interval is told and decides nothing."""
    evaluation, limit = packaged.evaluation, packaged.model.gates.metric_limit
    metric, observed = evaluation.metric, evaluation.metrics[evaluation.metric]
    answers = Answers.of(packaged.held_out, packaged.package.classes)
    interval = Measured.of(packaged.model, packaged.held_out).metric_figure(observed, answers).interval
    around = f" (95 % interval {shown(metric, interval[0])} to {shown(metric, interval[1])})" if interval else ""
    # A metric that could not be computed is NaN, which compares false, so the gate fails.
    return Verdict(
        "metric_limit",
        better_by(metric, observed, limit) >= 0,
        observed,
        limit,
        f"{metric} {shown(metric, observed)}{around} on {evaluation.rows:,} held-out rows, limit {limit:g} (gates.metric_limit)",
        interval,
    )
