"""What learning from the held-out days gains: a year of flights, retrained each week, with `evaluation.refit` and without.

The difference of the two, as a share of the loss, beside what never retraining costs more than retraining each week. Then how far the
refitted model is from the judged one, for estimators that learn much and little by heart: what `gates.refit_churn` is about.
"""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from benchmarks.limits import within_limit
from pipeline.data import contract, snapshot
from pipeline.runs.backtest.matrix import build
from pipeline.runs.backtest.past import Span
from pipeline.settings.environment import Environment
from pipeline.settings.models import Model, load
from pipeline.training import evaluate, frames, measured, refit
from pipeline.training.tasks import Answers, classes_of

MODEL, WEEKS = "flight-delay", 48
FIRST = datetime(2013, 1, 22, tzinfo=UTC)
# The weeks of whose versions answers are compared, and the estimators: from one that learns rows by heart to one that cannot.
LOOKED_AT = ("2013-04-01", "2013-07-01", "2013-10-14")
ESTIMATORS = ("random_forest", "forest", "hist_gradient_boosting", "linear")


def main() -> bool:
    root = Environment.read().project
    model = load(root).model(MODEL)
    with tempfile.TemporaryDirectory() as folder:
        lost = {on: _losses(model, root, Path(folder), on) for on in (True, False)}
    (weekly, never), (judged, judged_never) = lost[True], lost[False]
    print(f"log loss a flight, retrained each week: {weekly:.4f} refitted, {judged:.4f} as judged")
    print(f"never retrained: {never:.4f} refitted, {judged_never:.4f} as judged")
    print(
        f"as judged costs {judged / weekly - 1:.1%} more; never retraining what is served as judged {judged_never / judged - 1:.1%} more"
    )
    for name in ESTIMATORS:
        print(f"{name}: churn {', '.join(f'{_churn(model, root, name, day):.3f}' for day in LOOKED_AT)}", flush=True)
    return within_limit("log loss of the refitted versions, as a share of the judged ones'", weekly / judged, 1.0)


def _with(model: Model, section: str, **changed: object) -> Model:
    return model.model_copy(update={section: getattr(model, section).model_copy(update=changed)})


def _losses(model: Model, root: Path, folder: Path, refitted: bool) -> tuple[float, float]:
    """(the mean log loss a row of a version of each week in its own week, that of the first version in all weeks)."""
    span = Span(FIRST, FIRST + timedelta(days=7 * WEEKS), 7)
    model = _with(_with(model, "evaluation", refit=refitted), "economics", loss="log_loss")
    history = build(MODEL, model, root, folder, span).history
    always, never = np.diag(history.losses), history.losses[0]
    return tuple(float(np.average(each, weights=history.weights)) for each in (always, never))  # type: ignore[return-value]


def _churn(model: Model, root: Path, estimator: str, day: str) -> float:
    as_of = datetime.fromisoformat(day).replace(tzinfo=UTC)
    options = model.training.options if estimator == "hist_gradient_boosting" else {}
    model = _with(model, "training", estimator=estimator, options=options).model_copy(update={"as_of": as_of})
    start, end = snapshot.window(model.source, as_of)
    table, schema = snapshot.known_rows(MODEL, model, root, start, end, end)
    rows = contract.spelt(table, schema)
    rows = rows[contract.keeps(rows, model, schema)].reset_index(drop=True)
    judged = measured.fitted(rows, model, schema.doubles)
    again = refit.refitted(rows, model, judged, schema.doubles)
    out = rows[frames.held_out(rows, model)]
    before, after = (
        Answers.of(evaluate.scored(each, out, model, schema.doubles), classes_of(each)) for each in (judged, again)
    )
    return refit.churn(out[model.training.target].to_numpy(), before, after)
