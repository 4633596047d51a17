"""Fits the model once more, on the held-out days too: what is served should know the newest days, and those have judged by then.

The refit chooses nothing. Encodings and options are those that were found without the held-out rows; encoders, estimator and calibrator
learn again, from all rows that `fit.all_to_learn_from` gives. Its answers to the held-out rows are in-sample, so no figure of quality
comes from them: they say what a slot must answer (parity, golden requests), and how far the refit is from what was judged (the gate
`refit`). With `evaluation.refit: false` the files are those of the model that was judged.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from pipeline.errors import PerennialError, StageError
from pipeline.settings.models import Model
from pipeline.training import encodings, evaluate, fit, frames, measured, skops_file
from pipeline.training.search.run import ATTRIBUTE
from pipeline.training.tasks import Answers, classes_of

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

# The categories that the judged model knows: the refitted one knows those of the held-out rows too.
JUDGED = "judged.json"
LEAST = 1e-3


@dataclass(frozen=True)
class Refitted:
    """It learnt from `rows` rows, `new` of them held out; 0 for a model that is served as it was judged. `churn` is that of
    `churn`, `left_out` counts rows of classes that only the held-out days have."""

    rows: int
    new: int
    churn: float
    left_out: int = 0


def write(
    model: Model, rows: pd.DataFrame, model_file: Path, predictions: Path, folder: Path, doubles: Collection[str] = ()
) -> Refitted:
    """Writes the fitted pipeline that is served, its answers to the held-out rows, and what the judged one knew, into `folder`.

    `model_file` and `predictions` are of the judged model. Raises StageError where it cannot be fitted with the held-out rows.
    """
    folder.mkdir(parents=True, exist_ok=True)
    judged = skops_file.load(model_file)
    known = {column: sorted(learnt) for column, learnt in encodings.categories_of(judged).items()}
    (folder / JUDGED).write_text(json.dumps({"categories": known}, indent=1) + "\n", encoding="utf-8")
    file, answered = folder / model_file.name, folder / predictions.name
    out = frames.held_out(rows, model)
    if not model.evaluation.refit:
        shutil.copyfile(model_file, file)
        shutil.copyfile(predictions, answered)
        return Refitted(int((~out).sum()), 0, 0.0)
    again = refitted(rows, model, judged, doubles)
    skops_file.save(again, file)
    # Of the file, which is what is served.
    now = evaluate.scored(skops_file.load(file), rows[out], model, doubles)
    now.to_parquet(answered, index=False)
    learnt, classes = len(fit.all_to_learn_from(rows, model)), classes_of(again)
    before = Answers.of(pd.read_parquet(predictions), classes)
    left_out = len(rows) - learnt
    moved = churn(now[model.training.target].to_numpy(), before, Answers.of(now, classes))
    return Refitted(learnt, int(out.sum()) - left_out, moved, left_out)


def refitted(rows: pd.DataFrame, model: Model, judged: Pipeline, doubles: Collection[str] = ()) -> Pipeline:
    """The pipeline that was `judged`, fitted on all rows by the same encodings and options. Raises StageError."""
    chosen, found = measured.choice_of(judged), getattr(judged, ATTRIBUTE, None)
    training = model.training.model_copy(
        update={"search": None, "options": {**model.training.options, **(found["chosen"] if found else {})}}
    )
    settled = model.model_copy(update={"training": training})
    try:
        pipeline = fit.on(fit.all_to_learn_from(rows, model), settled, doubles, chosen.by_column or None)
    except PerennialError as error:
        raise StageError(
            "refit", f"with the held-out rows: {error.observation}", f"{error.next_check}; evaluation.refit: false"
        ) from error
    setattr(pipeline, encodings.SAID, chosen.as_dict())
    if found:
        setattr(pipeline, ATTRIBUTE, found)
    return pipeline


def churn(target: np.ndarray, before: Answers, after: Answers) -> float:
    """How far answers to the same rows moved, as a share of how far those `before` were from the `target`: the mean absolute difference of
    the two, of classes over all of their probabilities.

    A learner that knows each row by heart answers with its label, which is 1; one that moves further did not learn these rows. 0 for the
    same answers, NaN where one is no number. Errors under LEAST of the target's spread count as that: their last digits would decide.
    """
    truth = _as_answers(target, before)
    values, others = before.values, after.values
    if not all(np.isfinite(each).all() for each in (truth, values, others)):
        return float("nan")
    # Squares of large answers have no place in a float64.
    largest = max(*(float(np.abs(each).max()) for each in (truth, values, others)), np.finfo("float64").tiny)
    truth, values, others = truth / largest, values / largest, others / largest
    moved, error = float(np.abs(others - values).mean()), float(np.abs(truth - values).mean())
    error = max(error, LEAST * float(truth.std()))
    return moved / error if error > 0 else 0.0 if moved == 0 else float("inf")


def _as_answers(target: np.ndarray, answers: Answers) -> np.ndarray:
    """The target as one who knows it would answer. A class that was never learnt is none of the classes."""
    if answers.classes:
        return (target[:, None] == np.array(answers.classes, object)).astype("float64")
    return np.asarray(target, "float64")


def known_before(folder: Path) -> dict[str, frozenset[str]] | None:
    """The categories that the judged model knows, by column; None for a run from before refits."""
    file = folder / JUDGED
    if not file.is_file():
        return None
    categories = json.loads(file.read_text(encoding="utf-8"))["categories"]
    return {column: frozenset(learnt) for column, learnt in categories.items()}
