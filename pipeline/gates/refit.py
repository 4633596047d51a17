"""Does what is served, which learnt from the held-out rows too, still answer as the model that was judged on them?

The other gates judge a model that never saw the held-out days. What is served learnt from them as well, so nobody can measure how good
it is; this gate says that it is the model that was measured, and what the newest rows taught it. See `pipeline.training.refit.churn`.
"""

from __future__ import annotations

from pipeline.gates.base import PackagedModel, Verdict
from pipeline.training import refit
from pipeline.training.tasks import Answers

# Of a learner that knows each row by heart the churn is 1, but for the last digits.
ROUNDING = 1e-6


def verdict(packaged: PackagedModel) -> Verdict | None:
    """None for a model that is served as it was judged."""
    if packaged.served is None or not packaged.model.evaluation.refit:
        return None
    limit, classes = packaged.model.gates.refit_churn, packaged.package.classes
    target = packaged.held_out[packaged.model.training.target].to_numpy()
    churn = refit.churn(target, Answers.of(packaged.held_out, classes), Answers.of(packaged.served, classes))
    reason = (
        f"on {len(packaged.held_out):,} held-out rows the refitted model's answers moved by {churn:.3f} of the judged model's own error, "
        f"limit {limit:g} (gates.refit_churn)"
    )
    # An answer of NaN makes the churn NaN, which compares false, so the gate fails.
    passed = churn <= limit + ROUNDING
    if not passed:
        reason += "; look at the newest days' labels, or serve the judged model (evaluation.refit: false)"
    return Verdict("refit", passed, churn, limit, reason)
