"""Does what is served, which learnt from the held-out rows too, still answer as the model that was judged on them?

The other gates judge a model that never saw the held-out days. What is served learnt from them as well, so nobody can measure how good
it is; this gate says that it is nearly the model that was measured. A refit that answers much otherwise learnt something else: a label
that broke in the newest days, or options under which few rows decide.
"""

from __future__ import annotations

from pipeline.gates.base import PackagedModel, Verdict
from pipeline.training import refit
from pipeline.training.tasks import Answers


def verdict(packaged: PackagedModel) -> Verdict | None:
    """None for a model that is served as it was judged."""
    if packaged.served is None or not packaged.model.evaluation.refit:
        return None
    limit, classes = packaged.model.gates.refit_churn, packaged.package.classes
    churn = refit.churn(Answers.of(packaged.held_out, classes), Answers.of(packaged.served, classes))
    reason = (
        f"on {len(packaged.held_out):,} held-out rows the refitted model's answers are {churn:.3f} of the answers' spread from those of the "
        f"model that was judged, limit {limit:g} (gates.refit_churn)"
    )
    # An answer of NaN makes the churn NaN, which compares false, so the gate fails.
    passed = churn <= limit
    if not passed:
        reason += "; look at the newest days' labels, or serve the judged model (evaluation.refit: false)"
    return Verdict("refit", passed, churn, limit, reason)
