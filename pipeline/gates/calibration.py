"""Do probabilities come true as often as they say?

The expected calibration error is the mean distance between what was said and what came, over ten bins of equally many rows. Few rows have
one by chance alone, so the gate also asks how large it would be if each probability were right. For classes the likeliest one's is meant.
The limit stops where params.yaml states it; else it warns, for a model that only ranks needs no calibration.

Source: Naeini, Cooper & Hauskrecht 2015 (the error); Bröcker & Smith 2007 (what it is by chance).
"""

from __future__ import annotations

import numpy as np

from pipeline.gates.base import PackagedModel, Table, Verdict
from pipeline.gates.time_blocks import MANY, Blocks, of_times
from pipeline.settings.gates import Mode
from pipeline.training import tasks, weights
from pipeline.training.tasks import Answers

BINS = 10
LEVEL = 0.99
RESAMPLES, SEED = 1000, 0
COLUMNS = ("said from", "said to", "rows", "said", "came true")


def verdict(packaged: PackagedModel) -> Verdict | None:
    """None for a task of numbers. The observed figure is the expected calibration error."""
    model, held_out = packaged.model, packaged.held_out
    if tasks.TASKS[model.training.task].output == "number":
        return None
    answers = Answers.of(held_out, packaged.package.classes)
    limit = model.gates.calibration.error
    mode: Mode = "on" if "error" in model.gates.calibration.model_fields_set else "warn"
    if not np.isfinite(answers.values).all():
        reason = "an answer that is no number comes true at no rate; the gate constant_prediction counts them"
        return Verdict("calibration", False, 0.0, limit, reason, judged=False, mode=mode)
    said, came, brier = outcome(answers, held_out[model.training.target].to_numpy())
    weight = weights.of(held_out, model.training, "evaluate")
    weight = np.ones(len(said)) if weight is None else weight
    bins = equal_bins(said)
    error = calibration_error(said, came, bins, weight)
    chance = by_chance(said, bins, weight)
    interval = _interval(said - came, bins, weight, of_times(held_out[model.source.event_time], MANY))
    passed = error <= limit or error <= chance
    reason = (
        f"expected calibration error {error:.3f} [{interval[0]:.3f}, {interval[1]:.3f}], up to {chance:.3f} by chance on these "
        f"{len(said):,} rows; Brier score {float(np.average(brier, weights=weight)):.4f}; at most {limit:g} (gates.calibration.error)"
    )
    if not passed:
        reason += "; set training.calibration"
    return Verdict(
        "calibration", passed, error, limit, reason, interval, mode=mode, table=_curve(said, came, bins, weight)
    )


def outcome(answers: Answers, target: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(the probability said, whether it came true, the squared error) of each row, (rows,) each; of several classes the likeliest one's."""
    if not answers.classes:
        came = (target == 1).astype("float64")
        return answers.values, came, (answers.values - came) ** 2
    likeliest = answers.values.argmax(axis=1)
    is_class = np.array(answers.classes, object)[None, :] == np.asarray(target, object)[:, None]
    came = is_class[np.arange(len(target)), likeliest].astype("float64")
    unknown = ~is_class.any(axis=1)
    return answers.values.max(axis=1), came, ((answers.values - is_class) ** 2).sum(axis=1) + unknown


def equal_bins(said: np.ndarray) -> np.ndarray:
    """The bin of each row, int (rows,): rows of one probability are in one bin, and a bin has a tenth of the rows where it can."""
    edges = np.unique(np.quantile(said, np.linspace(0, 1, BINS + 1)[1:-1]))
    return np.searchsorted(edges, said, side="left")


def calibration_error(said: np.ndarray, came: np.ndarray, bins: np.ndarray, weight: np.ndarray) -> float:
    """The mean distance of the bins, each by its weight."""
    return float(np.abs(np.bincount(bins, (said - came) * weight)).sum() / weight.sum())


def by_chance(said: np.ndarray, bins: np.ndarray, weight: np.ndarray) -> float:
    """What the error of probabilities that are right is below, LEVEL of the time: from a normal distribution of each bin's sum."""
    random, bounded = np.random.default_rng(SEED), np.clip(said, 0, 1)
    variance = np.bincount(bins, bounded * (1 - bounded) * weight**2)
    sums = random.normal(0, np.sqrt(variance), (RESAMPLES, len(variance)))
    return float(np.quantile(np.abs(sums).sum(axis=1) / weight.sum(), LEVEL))


def _interval(gap: np.ndarray, bins: np.ndarray, weight: np.ndarray, blocks: Blocks) -> tuple[float, float]:
    """The 95 % interval of the error. A resample's error has the chance of two samples in it, so the error's own share is taken off."""
    count, of = blocks.count, int(bins.max()) + 1
    sums = np.bincount(blocks.of_row * of + bins, gap * weight, count * of).reshape(count, of)
    rows, drawn = blocks.sums(weight), blocks.drawn(RESAMPLES)
    errors = np.abs(drawn @ sums).sum(axis=1) / np.maximum(drawn @ rows, 1e-12)
    observed = float(np.abs(sums.sum(axis=0)).sum() / rows.sum())
    low, high = np.quantile(errors, (0.025, 0.975))
    return max(0.0, float(2 * observed - high)), max(observed, float(2 * observed - low))


def _curve(said: np.ndarray, came: np.ndarray, bins: np.ndarray, weight: np.ndarray) -> Table:
    """The reliability curve."""
    rows = []
    for each in np.unique(bins):
        of = bins == each
        if weight[of].any():
            means = (float(np.average(values[of], weights=weight[of])) for values in (said, came))
            rows.append((float(said[of].min()), float(said[of].max()), int(of.sum()), *means))
    return Table(COLUMNS, tuple(rows))
