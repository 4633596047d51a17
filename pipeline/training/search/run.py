"""Searches the options of a model: candidates learn from the earlier three quarters of the training rows, and are scored on the newest quarter.

The held-out days are never touched. What was found goes with the fitted pipeline into its file, and from there into metrics.json.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from pipeline.errors import PerennialError, StageError
from pipeline.settings import estimators
from pipeline.settings.models import Model
from pipeline.settings.search import ranges_of
from pipeline.settings.training import Training
from pipeline.training import tasks, weights
from pipeline.training.search import candidates, halving
from pipeline.training.search.clocks import Recorded, TimeBox

log = logging.getLogger(__name__)

LATER = 0.25
# Of a fitted pipeline.
ATTRIBUTE = "searched_"

Learn = Callable[[np.ndarray, Training], Any]


@dataclass(frozen=True)
class Found:
    """A search's candidates (options laid over those of params.yaml), their fits, and the choice. `candidates` and `fits` are the two
    counts that the clock decided."""

    metric: str
    options: tuple[Mapping[str, Any], ...]
    fits: tuple[halving.Fit, ...]
    chosen: int
    # On as many rows as the choice: None where the search ended before.
    score: float | None
    as_given: float | None

    def as_dict(self) -> dict[str, Any]:
        return {
            "metric": self.metric,
            "candidates": len(self.options),
            "fits": len(self.fits),
            "chosen": dict(self.options[self.chosen]),
            "score": self.score,
            "score_as_given": self.as_given,
            "options": [dict(options) for options in self.options],
            "scores": [asdict(fit) for fit in self.fits],
        }


def said(found: Mapping[str, Any]) -> str:
    """What a search found, in words that follow a stage's line; '' for none."""
    if not found:
        return ""
    options = ", ".join(f"{name} {value}" for name, value in found["chosen"].items()) or "the options as given"
    score, given = (_shown(found[name]) for name in ("score", "score_as_given"))
    return (
        f"search: {options} ({found['metric']} {score} on later rows, {given} as given), "
        f"of {found['candidates']} candidates in {found['fits']} fits"
    )


def _shown(score: float | None) -> str:
    return "unknown" if score is None else f"{score:.4g}"


def search(
    taught: pd.DataFrame, features: pd.DataFrame, model: Model, learn: Learn, recorded: Recorded | None = None
) -> tuple[Training, Found]:
    """(the settings with the chosen options, what was found). `taught` are the training rows with their `features`; `learn` fits the
    rows at those places by other settings. `recorded` has the counts of a search that is to be repeated."""
    training, metric, settings = model.training, model.evaluation.metric, model.training.search
    assert settings is not None
    order = np.argsort(taught[model.source.event_time].to_numpy(), kind="stable")
    cut = int(len(order) * (1 - LATER))
    earlier, later = order[:cut], order[cut:]
    if not len(earlier):
        raise StageError("train", f"a search needs more than {len(order)} training rows", "raise source.window_days")
    task, of = tasks.of(training), tasks.METRICS[metric]
    labels, weight = taught[training.target].to_numpy(), weights.of(taught.iloc[later], training, "train")

    failed: list[PerennialError] = []

    def score(options: halving.Options, rows: int) -> float | None:
        places = earlier[np.linspace(0, cut - 1, rows).round().astype(int)]
        try:
            fitted = learn(places, _with(training, options))
            answers = tasks.Answers(task.predict(fitted, features.iloc[later]), *_classes(labels[places], task))
            return _number(task.score(metric, labels[later], answers, weight))
        except PerennialError as error:
            if not options:
                raise
            log.info("search: %s: %s", _options(options), error)
            failed.append(error)
            return None

    clock = recorded or TimeBox(settings.minutes * 60)

    def told(fit: halving.Fit, options: halving.Options) -> None:
        shown = f"{metric} {_shown(fit.score)}"
        log.info(
            "search: candidate %d, rung %d (%s rows), %s, %s: %s",
            fit.candidate,
            fit.rung + 1,
            f"{fit.rows:,}",
            shown,
            clock.left(),
            _options(options),
        )

    ranges = ranges_of(settings, training.estimator, estimators.kind_of(training.task), training.options)
    several = candidates.drawn(ranges, training.seed, settings.candidates)
    drawn, fits = halving.search(several, score, cut, of.higher_is_better, clock, told)
    _refuse_if_none_fits(drawn, fits, failed)
    best = halving.chosen(fits, of.higher_is_better)
    last = {fit.candidate: fit.score for fit in fits if fit.rung == fits[-1].rung}
    found = Found(metric, tuple(drawn), tuple(fits), best, last[best], last.get(0))
    log.info("%s", said(found.as_dict()))
    return _with(training, drawn[best]), found


def _refuse_if_none_fits(drawn: list[halving.Options], fits: list[halving.Fit], failed: list[PerennialError]) -> None:
    """Raises StageError where no candidate but the options as given could be fitted: then nothing was searched."""
    others = {fit.candidate for fit in fits if drawn[fit.candidate]}
    if failed and not any(fit.score is not None for fit in fits if fit.candidate in others):
        raise StageError(
            "train",
            f"none of the {len(others)} candidates of the search could be fitted, the first: {failed[0].observation}",
            "correct training.search.ranges",
        )


def _with(training: Training, options: halving.Options) -> Training:
    return training.model_copy(update={"search": None, "options": {**training.options, **options}})


def _classes(labels: np.ndarray, task: tasks.Task) -> tuple[tuple[str, ...], ...]:
    """The classes that these rows taught, for a task that has some."""
    if task.output != "probabilities":
        return ()
    return (task.learnt(pd.Series(labels))[1],)


def _number(score: float) -> float | None:
    """Without the digits by which processors differ, and None for one that these rows cannot tell."""
    return None if np.isnan(score) else float(f"{score:.12g}")


def _options(options: halving.Options) -> str:
    return ", ".join(f"{name} {value}" for name, value in options.items()) or "as given"
