"""Does what is served, which learnt from the held-out rows too, still answer as the model that was judged on them?

The other gates judge a model that never saw the held-out days. What is served learnt from them as well, so nobody can measure how good
it is; this gate says that it is the model that was measured, and what the newest rows taught it. See `pipeline.training.refit.churn`.

And it must know these rows, since it learnt them: whoever lowers a loss on more rows has none that is higher on the new ones. A fit that has
went wrong, and its answers may still have moved by less than the limit: boosting diverges where a class has a handful of rows, and a learner
that draws (the order of rows, weights to begin with) may have drawn badly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pipeline.gates import group_means
from pipeline.gates.base import PackagedModel, Verdict
from pipeline.gates.compared_rows import compared_rows
from pipeline.settings import estimators
from pipeline.settings.training import Training
from pipeline.training import refit, tasks
from pipeline.training.tasks import Answers

# Of a learner that knows each row by heart the churn is 1, but for the last digits.
ROUNDING = 1e-6
# By so much of the naive guess's loss, or of its own where that is larger, may what is served be worse than the judged model on rows that
# it alone learnt.
WORSE, LEVEL = 0.1, 0.95
# By the begin of a class's name: why its fits go wrong, and (option, from, to) which keeps them from it.
STEADIER = {
    "HistGradientBoostingClassifier": ("a class of few rows does that to boosting", ("l2_regularization", 0.0, 1.0)),
    "SGDClassifier": ("its steps follow single rows in a random order", ("alpha", 0.0001, 0.01)),
}


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
            "this fit went wrong"
        )
    if not passed:
        reason += f"{_steadier(packaged.model.training)}; look at the newest days' labels, or serve the judged model (evaluation.refit: false)"
    return Verdict("refit", passed, churn, limit, reason)


def _losses(packaged: PackagedModel) -> _Losses:
    assert packaged.served is not None
    before = compared_rows(replace(packaged, champion=None))
    target = packaged.held_out[packaged.model.training.target].to_numpy()
    task = tasks.of(packaged.model.training)
    served = task.row_losses(before.loss, target, Answers.of(packaged.served, packaged.package.classes))
    assert served is not None
    judged, now = (float(np.average(each, weights=before.weight)) for each in (before.own, served))
    found = group_means.means(
        (served - before.own) / max(before.unit, judged),
        [np.ones(len(served), bool)],
        before.blocks,
        before.weight,
        LEVEL,
    )
    worse = bool(found.mean[0] > WORSE and found.low[0] > 0)
    return _Losses(before.loss, task.of_mean_loss(before.loss, judged), task.of_mean_loss(before.loss, now), worse)


def _steadier(training: Training) -> str:
    """What steadies this learner, in words that follow a sentence; '' where we know nothing that does, or the options have it."""
    name = estimators.class_named(training.estimator, estimators.kind_of(training.task)).rpartition(".")[2]
    for begin, (why, (option, usual, steady)) in STEADIER.items():
        if name.startswith(begin):
            given = training.options.get(option, usual)
            return (
                ""
                if not isinstance(given, float | int) or given >= steady
                else f"; {why}, which training.options.{option}: {steady:g} cures"
            )
    return ""
