"""Chooses what params.yaml leaves to `auto` by its quality on the newest rows before the held-out days, and fits the model.

The held-out days themselves would leak: the gates judge by them. So the rows to learn from are split by time: each candidate learns from
the older ones and is scored on the newest, with the model's own estimator, options, seed and metric. Some rows of a large table are enough.
Another encoding than the first must be better by STEP, and in the older half of these rows as in the newer, so that noise does not turn
the choice from one week to the next.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.settings.models import Model
from pipeline.training import encoding_choice, encodings, evaluate, fit, frames, pipelines, tasks, weights
from pipeline.training.search.clocks import Recorded
from pipeline.training.tasks import Answers

if TYPE_CHECKING:
    import pandas as pd
    from sklearn.pipeline import Pipeline

# The newest share of the rows, by which candidates are scored.
SCORED = 0.25
# At most so many rows, evenly spread over the time; with many categories more, as each needs some rows of its own.
ROWS, ROWS_OF_MANY = 20_000, 100_000
# With fewer rows to score by nothing is measured.
FEWEST = 100
STEP = 0.005


@dataclass(frozen=True)
class Choice:
    """`by_column` has the encoding of each category. `scores` are those of each candidate by `metric`, on `rows` rows: empty where
    params.yaml left nothing open, or there was nothing to measure by."""

    by_column: Mapping[str, str]
    chosen: str = ""
    metric: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)
    rows: int = 0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Choice:
        """Reads `as_dict` back; of a version from before encodings there is nothing to read."""
        return cls(**values) if values else cls({})

    def __str__(self) -> str:
        """In words that follow a stage's summary; '' for a model without categories."""
        if not self.by_column:
            return ""
        if not self.scores:
            return f"categories: {', '.join(dict.fromkeys(self.by_column.values()))}"
        scores = ", ".join(f"{name} {evaluate.shown(self.metric, score)}" for name, score in self.scores.items())
        kept = ""
        if any(evaluate.better_by(self.metric, other, self.scores[self.chosen]) > 0 for other in self.scores.values()):
            kept = f", the first of these: no other is better by {STEP} in both halves of the rows"
        return f"categories: {self.chosen}, by {self.metric} on the {self.rows:,} newest rows before the held-out days ({scores}){kept}"


def fitted(
    rows: pd.DataFrame,
    model: Model,
    doubles: Collection[str] = (),
    recorded: Recorded | None = None,
    everything: bool = False,
) -> Pipeline:
    """Chooses the encodings and fits the model, with `everything` on the held-out rows too; raises StageError as `fit.fit` does. `choice_of`
    says what was chosen, and no choice is made by the held-out rows."""
    chosen = choice(rows, model, doubles)
    pipeline = fit.fit(rows, model, doubles, chosen.by_column or None, recorded, everything)
    setattr(pipeline, encodings.SAID, chosen.as_dict())
    return pipeline


def choice_of(pipeline: Pipeline) -> Choice:
    """How the encodings of a fitted pipeline were chosen."""
    return Choice.read(encodings.said(pipeline))


def choice(rows: pd.DataFrame, model: Model, doubles: Collection[str] = ()) -> Choice:
    """What is best of the candidates; the first where one cannot be told from another."""
    training = model.training
    if not training.categorical:
        return Choice({})
    learnt = frames.before_held_out(rows, model)
    taken_as = pipelines.columns_as(training)
    if learnt.empty or taken_as == "frame":
        return Choice({})
    found = encoding_choice.candidates(frames.categories(learnt, training), training, taken_as)
    first = Choice(found[0].by_column, found[0].name)
    if len(found) == 1:
        return first
    parts = parts_to_score(learnt, model)
    if parts is None:
        return first
    scores = compared([(model, candidate.by_column) for candidate in found], *parts, doubles)
    best = best_of(model.evaluation.metric, scores)
    named = {candidate.name: score.of_all for candidate, score in zip(found, scores, strict=True)}
    return Choice(found[best].by_column, found[best].name, model.evaluation.metric, named, len(parts[1]))


def parts_to_score(learnt: pd.DataFrame, model: Model) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    """`split`, the newest rows without classes that came later; None where there is too little to score by."""
    older, newest = split(learnt, model)
    if tasks.of(model.training).estimator == "classifier":
        # A class that came later has no probability.
        newest = newest[newest[model.training.target].isin(older[model.training.target])]
    return (older, newest) if _can_score(older, newest, model) else None


def split(learnt: pd.DataFrame, model: Model) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(the older rows, the newest), of some rows that are evenly spread over the time; rows of one time are on one side."""
    many = max((learnt[c].nunique() for c in model.training.categorical), default=0) > encodings.MANY
    some = ROWS_OF_MANY if many else ROWS
    in_order = np.argsort(frames.instants(learnt[model.source.event_time]), kind="stable")
    # Picked by their places: the whole table in another order would be a copy of it.
    spread = learnt.iloc[in_order[:: -(-len(in_order) // some)]]
    begin = spread[model.source.event_time].iloc[int(len(spread) * (1 - SCORED))]
    is_newest = (spread[model.source.event_time] >= begin).to_numpy()
    return spread[~is_newest], spread[is_newest]


def _can_score(older: pd.DataFrame, newest: pd.DataFrame, model: Model) -> bool:
    if min(len(older), len(newest)) < FEWEST:
        return False
    name = model.training.weight
    counted = [part if name is None else part[part[name] > 0] for part in (older, newest)]
    return all(part[model.training.target].nunique() > 1 for part in counted)


@dataclass(frozen=True)
class Score:
    """A candidate's score on all rows, and by which share or number it is better than the first one: on all, and in each half."""

    of_all: float
    gains: tuple[float, float, float]


def compared(
    tried: Sequence[tuple[Model, Mapping[str, str] | None]],
    older: pd.DataFrame,
    newest: pd.DataFrame,
    doubles: Collection[str] = (),
) -> list[Score]:
    """The score on `newest` of each that learns from `older`: models of one task and metric, each with the encodings of its categories.
    Raises StageError for what the estimator refuses."""
    model = tried[0][0]
    task, metric = tasks.of(model.training), model.evaluation.metric
    target, learnt = newest[model.training.target].to_numpy(), older[model.training.target]
    _, classes = task.learnt(learnt)
    weight = weights.of(newest, model.training, "train")
    half = len(newest) // 2
    parts = (slice(None), slice(None, half), slice(half, None))

    def by_part(answers: Answers) -> list[float]:
        return [
            task.score(
                metric,
                target[part],
                Answers(answers.values[part], answers.classes),
                None if weight is None else weight[part],
            )
            for part in parts
        ]

    naive = by_part(task.guess(learnt.to_numpy(), len(target), classes))
    scores: list[list[float]] = []
    for candidate, how in tried:
        pipeline = fit.on(older, candidate, doubles, how)
        asked = frames.features_of(newest, candidate, doubles)
        scores.append(by_part(Answers(task.predict(pipeline, asked), classes)))
    return [
        Score(each[0], tuple(evaluate.gain(metric, *three) for three in zip(each, scores[0], naive, strict=True)))  # type: ignore[arg-type]
        for each in scores
    ]


def best_of(metric: str, scores: Sequence[Score], step: float = STEP) -> int:
    """The place of the best score; 0 where none is better than the first by `step`. NaN, where a half has one class, is better than nothing."""
    best = 0
    for i, score in enumerate(scores):
        whole, *halves = score.gains
        if whole > step and min(halves) > 0 and evaluate.better_by(metric, score.of_all, scores[best].of_all) > 0:
            best = i
    return best
