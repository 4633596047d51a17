"""Is the model better than a guess that needs no model (the base rate, or the mean)?"""

from __future__ import annotations

from typing import Any

from pipeline.gates.base import Verdict
from pipeline.training.evaluate import better_by


def beats_guess(report: dict[str, Any], margin: float) -> Verdict:
    metric = report["metric"]
    ours, guess = report["metrics"][metric], report["baseline"][metric]
    gain = better_by(metric, ours, guess)
    return Verdict(
        "naive_baseline",
        gain >= margin,
        gain,
        margin,
        f"{metric} {ours:.4f} against {guess:.4f} for the naive guess, at least {margin:g} better wanted",
    )
