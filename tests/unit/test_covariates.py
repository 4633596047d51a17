"""Alarms of inputs, answers and estimated quality count for what they have earned on the model's own past, and for nothing else."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from harness.project import CHURN
from pipeline.ledger.decision_events import Backtested
from pipeline.policy.retraining import covariates, of_model
from pipeline.runs.backtest import signals
from pipeline.settings.models import Model
from pipeline.settings.policy import Policy
from pipeline.training.tasks import Answers
from tests.support.decision_bodies import BACKTEST

WINDOWS = 40
MODEL = Model.model_validate(CHURN)


def past(told_by_answers=True):
    """A past in which versions age a little, and four times as much once a version's answers have moved, which comes at window 20."""
    rng = np.random.default_rng(3)
    age = np.arange(WINDOWS)[None, :] - np.arange(WINDOWS)[:, None]
    moved = (np.arange(WINDOWS)[None, :] >= 20) & (np.arange(WINDOWS)[:, None] < 20)
    factor = np.where(moved & told_by_answers, 4.0, 1.0)
    losses = 0.5 + 0.05 * factor * (1 - np.exp(-np.maximum(age, 0) / 8.0)) + rng.normal(0, 0.002, (WINDOWS, WINDOWS))
    figure = np.where(moved, 0.3, 0.0) + rng.uniform(0, 0.05, (WINDOWS, WINDOWS))
    # The version of just before has not moved within its first window, so the step there says nothing.
    figure[np.arange(WINDOWS - 1), np.arange(1, WINDOWS)] = 0.05
    below = np.tril_indices(WINDOWS, -1)
    losses[below], figure[below] = np.nan, np.nan
    return losses, figure


def backtest(**more):
    return Backtested.read({**BACKTEST, **more})


def test_a_signal_counts_for_what_its_versions_lost_after_its_alarm():
    """The one that tells is chosen, with the limit that it came to between neighbouring windows; what tells of nothing earns nothing."""
    losses, figure = past()
    noise = np.random.default_rng(4).uniform(0, 1, figure.shape)
    found = covariates.measured(losses, np.zeros(WINDOWS, bool), {"answers": figure, "estimate": noise})
    assert found["answers"]["alarmed"] > 1.1 and found["answers"]["limit"] == pytest.approx(0.05)
    best = covariates.earned(backtest(covariates=found))
    assert (best.name, best.words) == ("answers", "a shift of the answers")
    assert of_model.value(Policy(), backtest(covariates=found), 1.0).prior.alarmed == best.alarmed
    calm, same = past(told_by_answers=False)
    nothing = covariates.measured(calm, np.zeros(WINDOWS, bool), {"answers": same})
    assert nothing["answers"]["alarmed"] == pytest.approx(1.0, abs=0.1)


def test_without_a_backtest_no_alarm_counts_and_one_of_before_knows_the_inputs():
    """What is said of it is what is so."""
    assert covariates.earned(None) is None
    assert covariates.said(None) == "no backtest has shown that an alarm tells of a loss, so none counts"
    none = backtest(covariates={})
    assert covariates.earned(none) is None and "in the backtest none told of a loss" in covariates.said(none)
    old = replace(none, staleness={**none.staleness, "alarmed": 1.5})
    assert covariates.earned(old) == covariates.Covariate("inputs", 1.5)
    assert "an alarm of the inputs alone counts: in the backtest versions lost 1.50 times as much" in covariates.said(
        old
    )


def test_the_figures_of_a_window_are_those_beside_a_versions_first_one():
    """The same answers come to nothing; others are apart, and surer ones lead to expect a better metric."""
    rng = np.random.default_rng(0)
    own, other = Answers(rng.uniform(0.3, 0.7, 6000)), Answers(rng.choice([0.02, 0.98], 6000))
    rows = pd.DataFrame(index=range(6000)), np.zeros(6000)
    own, other = signals.Answered(own, *rows), signals.Answered(other, *rows)
    kept = signals.kept_of(MODEL, own)
    assert signals.figures(MODEL, own, kept) == {"answers": 0.0, "estimate": 0.0}
    figures = signals.figures(MODEL, other, kept)
    assert figures["answers"] > 0.5 and figures["estimate"] < -0.2
    found = signals.matrix([(0, [0.0, 0.1]), (1, [0.0])], 2)
    assert np.isnan(found[1, 0]) and found[0].tolist() == [0.0, 0.1]


def test_a_regressions_estimate_is_what_its_losses_were_on_such_rows():
    """More of the rows on which it lost much is a worse quality, whatever their labels; too few rows, or r2, say nothing."""
    settings = MODEL.training.model_copy(update={"task": "regression", "positive": None})
    evaluation = MODEL.evaluation.model_copy(update={"metric": "mae"})
    model = MODEL.model_copy(update={"training": settings, "evaluation": evaluation})
    rng = np.random.default_rng(0)

    def window(rows, hard):
        is_hard = rng.random(rows) < hard
        features = pd.DataFrame({"spend": is_hard * 10.0, "calls": rng.normal(size=rows), "plan": "plus"})
        return signals.Answered(Answers(np.zeros(rows)), features, np.where(is_hard, 5.0, 1.0) * rng.normal(size=rows))

    own, alike, harder = window(3000, 0.1), window(3000, 0.1), window(3000, 0.6)
    kept = json.loads(json.dumps(signals.kept_of(model, own)))
    assert signals.figures(model, own, kept)["estimate"] == pytest.approx(0, abs=1e-9)
    assert abs(signals.figures(model, alike, kept)["estimate"]) < 0.1
    unlabelled = replace(harder, target=np.full(3000, np.nan))
    assert signals.figures(model, unlabelled, kept)["estimate"] == pytest.approx(1.6, abs=0.3)
    assert np.isnan(signals.figures(model, harder, signals.kept_of(model, window(60, 0.1)))["estimate"])
    by_r2 = model.model_copy(update={"evaluation": evaluation.model_copy(update={"metric": "r2"})})
    assert np.isnan(signals.figures(by_r2, harder, signals.kept_of(by_r2, own))["estimate"])
