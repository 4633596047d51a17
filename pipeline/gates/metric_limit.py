"""Is the model good enough on days it has not seen?"""

from __future__ import annotations

from typing import Any

from pipeline.gates.base import Verdict
from pipeline.training.evaluate import better_by


def good_enough(report: dict[str, Any], limit: float) -> Verdict:
    metric = report["metric"]
    observed = report["metrics"][metric]
    # A metric that could not be computed (NaN) compares false, and so fails.
    return Verdict(
        "metric_limit",
        better_by(metric, observed, limit) >= 0,
        observed,
        limit,
        f"{metric} {observed:.4f} on {report['rows']:,} held-out rows, limit {limit:g}",
    )
