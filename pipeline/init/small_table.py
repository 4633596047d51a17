"""The estimator of a small table on which the usual one is worse than guessing.

Boosted trees with their usual options learn some hundred rows by heart, and are then too sure: of four years of one city's weather by day
(1,168 rows, five classes) they have a log loss of 1.34, a guess 1.09 and a linear model 0.81. A version like that passes no gate. So where
the usual estimator is worse than guessing on the newest rows before the held-out days, which the gates judge by and nothing may be chosen
by, `init` takes the best of three, and says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from pipeline.errors import StageError
from pipeline.init import counts
from pipeline.init.request import Assumption, Draft
from pipeline.settings.models import Model
from pipeline.settings.training import Training
from pipeline.training import evaluate, fit, frames, tasks, weights
from pipeline.training.tasks import Answers

# From more rows than this scikit-learn's boosting stops by itself where it learns by heart. A count says less: of 16,000 rows with a weak
# effect boosted trees that stop are still no better than the mean, where a Poisson regression is.
MOST_ROWS, MOST_COUNTS = 10_000, 50_000
# The newest share of the rows to learn from, by which estimators are compared, and the fewest of them.
SCORED, FEWEST = 0.25, 50


@dataclass(frozen=True)
class _Estimator:
    """An estimator as `training` says it; `name` is for people."""

    name: str
    estimator: str
    options: Mapping[str, float]


USUAL = _Estimator("boosting", Training.model_fields["estimator"].default, {})
SMALL_STEPS = _Estimator("boosting in few small steps", USUAL.estimator, {"learning_rate": 0.05, "max_iter": 40})
LINEAR = _Estimator("linear", "linear", {})
# `linear` may answer a count with less than 0.
OF_COUNTS = _Estimator("Poisson regression", "sklearn.linear_model.PoissonRegressor", {"alpha": 0.001})


def with_estimator(draft: Draft, frame: pd.DataFrame, is_held_out: np.ndarray) -> Draft:
    """The draft, with another estimator where the usual one is worse than guessing. `frame` has the labelled rows in order of time, and that.

    Times are left out of the comparison, which then says so.
    """
    from threadpoolctl import threadpool_limits

    learnt = frame[~is_held_out]
    model = Model.model_validate(draft.settings)
    proxy = model.training.model_copy(update={"datetime": (), "calendar": ()})
    counts_things = model.evaluation.metric == counts.METRIC
    if len(learnt) > (MOST_COUNTS if counts_things else MOST_ROWS) or not proxy.features:
        return draft
    begin = int(len(learnt) * (1 - SCORED))
    try:
        # Threads that wait for each other cost more than so few rows: on a busy machine a hundred times more.
        with threadpool_limits(1):
            compared = _Compared.of(
                model.model_copy(update={"training": proxy}), learnt.iloc[:begin], learnt.iloc[begin:]
            )
            if compared is None or compared.is_better(compared.usual, compared.guess):
                return draft
            others = (SMALL_STEPS, OF_COUNTS if counts_things else LINEAR)
            scores = [compared.score(other) for other in others]
    except StageError:
        # The run says what is wrong.
        return draft
    return _with_best(draft, compared, others, scores)


def _with_best(draft: Draft, compared: _Compared, others: Sequence[_Estimator], scores: Sequence[float]) -> Draft:
    best = 0
    for i, score in enumerate(scores):
        if compared.is_better(score, scores[best]):
            best = i
    if not compared.is_better(scores[best], compared.guess):
        return draft
    chosen, metric = others[best], compared.metric
    shown = [evaluate.shown(metric, score) for score in (scores[best], compared.usual, compared.guess)]
    without = ", without its times" if draft.settings["training"].get("datetime") else ""
    why = (
        f"{metric} {shown[0]}{without} on the {len(compared.newest):,} newest rows before the held-out days, where {USUAL.name} as usual has "
        f"{shown[1]}, worse than the {shown[2]} of a guess"
    )
    training = draft.settings["training"] | {"estimator": chosen.estimator}
    training["options"] = compared.options_of(chosen)
    if not training["options"]:
        del training["options"]
    said = [*draft.assumptions, Assumption("estimator", chosen.name, why)]
    return replace(draft, settings=draft.settings | {"training": training}, assumptions=said)


@dataclass(frozen=True)
class _Compared:
    """Scores on `newest` of what learnt from `older`: of a guess, of the usual estimator, and of others."""

    model: Model
    older: pd.DataFrame
    newest: pd.DataFrame
    guess: float
    usual: float

    @classmethod
    def of(cls, model: Model, older: pd.DataFrame, newest: pd.DataFrame) -> _Compared | None:
        """None where there is too little to compare by."""
        target = model.training.target
        if tasks.of(model.training).estimator == "classifier":
            # A class that came later has no probability.
            newest = newest[newest[target].isin(older[target])]
        if len(newest) < FEWEST or older[target].nunique() < 2 or newest[target].nunique() < 2:
            return None
        compared = cls(model, older, newest, 0.0, 0.0)
        return replace(compared, guess=compared._guessed(), usual=compared.score(USUAL))

    @property
    def metric(self) -> str:
        return self.model.evaluation.metric

    def is_better(self, score: float, other: float) -> bool:
        return evaluate.better_by(self.metric, score, other) > 0

    def options_of(self, other: _Estimator) -> dict[str, object]:
        """Its own beside the draft's, such as the loss, which are those of the usual estimator."""
        kept = self.model.training.options if other.estimator == USUAL.estimator else {}
        return {**kept, **other.options}

    def score(self, other: _Estimator) -> float:
        update = {"estimator": other.estimator, "options": self.options_of(other)}
        training = self.model.training.model_copy(update=update)
        model = self.model.model_copy(update={"training": training})
        pipeline = fit.on(self.older, model)
        asked = frames.features_of(self.newest, model)
        return self._scored(Answers(tasks.of(training).predict(pipeline, asked), self._classes))

    def _guessed(self) -> float:
        training = self.model.training
        learnt, weight = self.older[training.target].to_numpy(), weights.of(self.older, training, "train")
        return self._scored(tasks.of(training).guess(learnt, len(self.newest), self._classes, weight))

    def _scored(self, answers: Answers) -> float:
        training = self.model.training
        weight = weights.of(self.newest, training, "train")
        return tasks.of(training).score(self.metric, self.newest[training.target].to_numpy(), answers, weight)

    @property
    def _classes(self) -> tuple[str, ...]:
        training = self.model.training
        return tasks.of(training).learnt(self.older[training.target])[1]
