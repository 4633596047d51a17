"""Is the model better than a guess that needs no model: the base rate, the mean or median, the last value?

The strongest of the guesses counts. The model must beat it by the margin, and the gain must be proven: the whole interval is above 0. A
model that learnt from shuffled labels is as good as a guess, and by chance a little better in half of the runs. Where the rows do not tell
how much chance is in the gain, as when one day has all of a rare label, there is no verdict.

Of a skewed target a good model of means loses to the median in absolute errors: the reason says so, for more rows or features would not help.
"""

from __future__ import annotations

import math

from pipeline.gates.base import PackagedModel, Verdict
from pipeline.gates.measured_rows import Figure, Measured, said
from pipeline.gates.naive_guesses import naive_guesses
from pipeline.training.evaluate import better_by, gain, shown, shown_gain
from pipeline.training.tasks import METRICS, Answers

# Of the guesses the best constant for absolute errors; by so much of the mean's error must the mean be apart from it.
MEDIAN, APART = "median", 0.1


def verdict(packaged: PackagedModel) -> Verdict:
    """`observed` is by how much it is better than the strongest guess; where the interval reaches 0, that is not proven
    and does not pass."""
    evaluation, margin = packaged.evaluation, packaged.model.gates.baseline_margin
    metric, score = evaluation.metric, evaluation.metrics[evaluation.metric]
    name, guess, by = _strongest(packaged)
    told, enough = by.interval is not None, by.value >= margin
    proven = by.interval is None or by.interval[0] > min(margin, 0.0)
    reason = (
        f"{metric} {shown(metric, score)} against {shown(metric, guess)} for {name}: {_shown(metric, by)}, at least "
        f"{shown_gain(metric, margin)} better required (gates.baseline_margin)"
    )
    if not enough:
        reason += _learns_means(packaged, name)
    if enough and not (told and proven):
        what = "it may be no better than that guess" if told else "how much chance is in it cannot be told"
        reason += f"; by these rows {what}: a longer evaluation.holdout_days has more of them"
    judged = told or not enough
    return Verdict("naive_baseline", enough and proven, by.value, margin, reason, by.interval, judged=judged)


def _shown(metric: str, by: Figure) -> str:
    if not by.value < 0:
        return f"{shown_gain(metric, by.value)} better{said(by.interval)}"
    interval = None if by.interval is None else (-by.interval[1], -by.interval[0])
    return f"{shown_gain(metric, -by.value)} worse{said(interval)}"


def _learns_means(packaged: PackagedModel, guess: str) -> str:
    """What to do about a model that loses to the median by absolute errors because it answers means; '' of any other."""
    metric, naive = packaged.evaluation.metric, packaged.evaluation.naive
    if guess != f"the {MEDIAN}" or metric not in ("mae", "pinball") or "mean" not in naive:
        return ""
    mean, median = float(naive["mean"]), float(naive[MEDIAN])
    answered = float(Answers.of(packaged.held_out, packaged.package.classes).values.mean())
    # Where the two are alike it is not this that makes the difference.
    alike = abs(mean - median) <= APART * packaged.evaluation.baseline.get(metric, 0.0)
    if alike or not abs(answered - mean) < abs(answered - median):
        return ""
    return (
        f"; its answers are {answered:.4g} in the mean, and those learnt from are {mean:.4g} with a median of {median:.4g}: it learns means, and "
        f"{metric} is lowest at the median. training.options.loss: absolute_error (training.estimator: boosting) learns that, or judge means by "
        "evaluation.metric: rmse"
    )


def _strongest(packaged: PackagedModel) -> tuple[str, float, Figure]:
    """(the guess that is hardest to beat, its metric, by how much the model is better)."""
    evaluation, metric = packaged.evaluation, packaged.evaluation.metric
    guesses = naive_guesses(packaged)
    measured = Measured.of(packaged.model, packaged.held_out)
    scores = {name: measured.score(answers) for name, answers in guesses.items()}
    known = {name: score for name, score in scores.items() if math.isfinite(score)}
    score, usual = evaluation.metrics[metric], evaluation.baseline[metric]
    if not known:
        return "the naive guess", usual, Figure(gain(metric, score, usual, usual))
    best = max(known, key=lambda name: better_by(metric, known[name], 0.0))
    unit = known[best] if METRICS[metric].in_targets_unit and known[best] > 0 else 1.0
    by = measured.gain(Answers.of(packaged.held_out, packaged.package.classes), guesses[best], unit)
    return f"the {best}", known[best], by
