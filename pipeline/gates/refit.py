"""Does what is served, which learnt from the held-out rows too, still answer as the model that was judged on them?

The other gates judge a model that never saw the held-out days. What is served learnt from them as well, so nobody can measure how good
it is; this gate says that it is the model that was measured, and what the newest rows taught it. See `pipeline.training.refit.churn`.

And it must know these rows, since it learnt them: whoever lowers a loss on more rows has none that is higher on the new ones. One that has
did not learn but diverge, as boosting does where a class has a handful of rows, and its answers may still have moved by less than the limit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pipeline.gates import group_means
from pipeline.gates.base import PackagedModel, Verdict
from pipeline.gates.compared_rows import compared_rows
from pipeline.training import refit, tasks
from pipeline.training.tasks import Answers

# Of a learner that knows each row by heart the churn is 1, but for the last digits.
ROUNDING = 1e-6
# By so much of the naive guess's loss may what is served be worse than the judged model on rows that it alone learnt.
WORSE, LEVEL = 0.1, 0.95
FEW = "; a class of few rows does that to boosting, which training.options.l2_regularization: 1 cures"


@dataclass(frozen=True)
class _Losses:
    """The metric `name`, a mean loss of the held-out rows, by the judged model and by what is served; whether that is `worse` by more than WORSE, and proven."""

    name: str
    judged: float
    served: float
    worse: bool


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
    losses = _losses(packaged)
    # An answer of NaN makes the churn NaN, which compares false, so the gate fails.
    passed = churn <= limit + ROUNDING and not losses.worse
    if losses.worse:
        reason += (
            f"; it has a {losses.name} of {losses.served:.4g} on them, though it learnt them, and the judged model one of {losses.judged:.4g}: "
            f"it diverged{FEW if packaged.model.training.task != 'regression' else ''}"
        )
    if not passed:
        reason += "; look at the newest days' labels, or serve the judged model (evaluation.refit: false)"
    return Verdict("refit", passed, churn, limit, reason)


def _losses(packaged: PackagedModel) -> _Losses:
    assert packaged.served is not None
    before = compared_rows(replace(packaged, champion=None))
    target = packaged.held_out[packaged.model.training.target].to_numpy()
    task = tasks.of(packaged.model.training)
    served = task.row_losses(before.loss, target, Answers.of(packaged.served, packaged.package.classes))
    assert served is not None
    found = group_means.means(
        (served - before.own) / before.unit, [np.ones(len(served), bool)], before.blocks, before.weight, LEVEL
    )
    means = (float(np.average(each, weights=before.weight)) for each in (before.own, served))
    judged, now = (task.of_mean_loss(before.loss, each) for each in means)
    return _Losses(before.loss, judged, now, bool(found.mean[0] > WORSE and found.low[0] > 0))
