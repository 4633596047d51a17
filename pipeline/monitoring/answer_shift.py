"""How the answers of a window differ from those to the held-out rows: what a change of the inputs did to what people get.

It is a figure beside an alarm and raises none: a forecast is there to move with its inputs, and one that moves is no fault by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.monitoring.answer_profile import ANSWERS
from pipeline.monitoring.profiles.profile import Profile
from pipeline.training.tasks import PROBABILITIES, Answers

if TYPE_CHECKING:
    import pandas as pd

# Fewer answers say nothing of how answers are distributed.
FEWEST = 100
BUCKETS = 10
# By so much of their spread answers may differ and be the same.
LAST_DIGITS = 1e-4


@dataclass(frozen=True)
class AnswerShift:
    """The mean of the answers to the held-out rows, `before`, and of those of the window, `now`. With classes: the shares in which `label`
    is the likeliest one, of the class whose share changed most.

    `jensen_shannon` is the distance of the two distributions, over deciles of the held-out answers or over the likeliest classes (0 to 0.83,
    as scipy.spatial.distance.jensenshannon).
    """

    before: float
    now: float
    jensen_shannon: float
    rows: int
    label: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def held_out_answers(answered: pd.DataFrame, classes: Sequence[str] = ()) -> dict[str, Any]:
    """What is kept of the answers to the held-out rows: the edges of their buckets and the share of each, and their mean."""
    return distribution(Answers.of(answered, tuple(classes)))


def distribution(answers: Answers) -> dict[str, Any]:
    """The same of answers that are here."""
    if answers.classes:
        return {"edges": [], "shares": _of_classes(answers).tolist(), "mean": 0.0}
    edges = _edges(answers.values)
    return {
        "edges": edges.tolist(),
        "shares": _of_numbers(answers, edges).tolist(),
        "mean": float(answers.values.mean()),
    }


def counted_shift(
    profile: Profile, summed: float, kept: Mapping[str, Any], classes: Sequence[str] = ()
) -> AnswerShift | None:
    """Of the profile of a window, which has the answers as its column ANSWERS, and their sum. None for too few, or where it has none."""
    before = np.array(kept["shares"]) if kept else np.empty(0)
    if ANSWERS not in profile.cells or not len(before):
        return None
    counts = profile.cells[ANSWERS][: len(before)]
    if counts.sum() < FEWEST:
        return None
    return _shift(kept, counts / counts.sum(), summed / counts.sum(), int(counts.sum()), classes)


def shift(requests: pd.DataFrame, kept: Mapping[str, Any], classes: Sequence[str] = ()) -> AnswerShift | None:
    """Of answered requests, as the prediction log has them. None for too few, or without the probabilities of their classes."""
    if len(requests) < FEWEST or not kept:
        return None
    if classes and (PROBABILITIES not in requests.columns or requests[PROBABILITIES].isna().any()):
        return None
    answers, before = Answers.of(requests, tuple(classes)), np.array(kept["shares"])
    now = _of_classes(answers) if classes else _of_numbers(answers, np.array(kept["edges"]))
    if len(now) != len(before) or not np.isfinite(answers.values).all():
        return None
    return _shift(kept, now, float(answers.values.mean()), len(requests), classes)


def _shift(kept: Mapping[str, Any], now: np.ndarray, mean: float, rows: int, classes: Sequence[str]) -> AnswerShift:
    from scipy.spatial.distance import jensenshannon

    before = np.array(kept["shares"])
    distance = float(jensenshannon(before, now))
    if not classes:
        return AnswerShift(kept["mean"], mean, distance, rows)
    most = int(np.abs(now - before).argmax())
    return AnswerShift(float(before[most]), float(now[most]), distance, rows, classes[most])


def distance(answers: Answers, kept: Mapping[str, Any]) -> float:
    """Jensen-Shannon's, of answers from what is kept of others; NaN where the two cannot be compared."""
    from scipy.spatial.distance import jensenshannon

    before = np.array(kept["shares"])
    now = _of_classes(answers) if answers.classes else _of_numbers(answers, np.array(kept["edges"]))
    if len(now) != len(before) or not np.isfinite(answers.values).all():
        return float("nan")
    return float(jensenshannon(before, now))


def _edges(values: np.ndarray) -> np.ndarray:
    """Deciles, each a little above the answers that it is made of: a slot gives the same answer with other last digits."""
    step = (float(values.std()) or 1.0) * LAST_DIGITS
    deciles = np.quantile(np.round(values / step), np.arange(1, BUCKETS) / BUCKETS, method="lower")
    return (np.unique(deciles) + 0.5) * step


def _of_classes(answers: Answers) -> np.ndarray:
    return np.bincount(answers.values.argmax(axis=1), minlength=len(answers.classes)) / len(answers.values)


def _of_numbers(answers: Answers, edges: np.ndarray) -> np.ndarray:
    return np.bincount(np.searchsorted(edges, answers.values), minlength=len(edges) + 1) / len(answers.values)
