"""A target of three or more labels. A prediction is one probability for each class that the rows taught, in the order of the classes.

A held-out row of a class that was never learnt counts as wrong: its class has the probability 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from pipeline.errors import StageError
from pipeline.training.tasks.base import Answers, Metric, Task
from pipeline.training.tasks.binary import ACCURACY, LOG_LOSS, SMALLEST

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from sklearn.base import BaseEstimator

MOST_CLASSES = 1000
# A class of fewer rows is learnt, and said.
FEW_ROWS = 5
SHOWN = 5


class Multiclass(Task):
    """Answers are float64 (rows, classes), a probability each. Learning raises StageError for fewer than 3 classes, and
    for over MOST_CLASSES."""

    name = "multiclass"
    estimator = "classifier"
    output = "probabilities"
    metrics = (LOG_LOSS, ACCURACY, Metric("macro_f1", "score"), Metric("roc_auc_ovr", "score"))
    usual_metric = "log_loss"
    usual_metric_why = "how right the probabilities of all classes are"
    mean_losses = ("log_loss", "accuracy")
    usual_loss = "log_loss"
    of_labels = True
    guess_is = "share of each class"

    def learnt(self, target: pd.Series) -> tuple[np.ndarray, tuple[str, ...]]:
        """Each class's place among the classes."""
        import numpy as np

        classes = in_order(target.unique())
        shown = _shown(repr(label[:40]) for label in classes)
        if len(classes) < 3:
            check = "set training.task: binary" if len(classes) == 2 else "check the source"
            if len(classes) == 2:
                check += f" and training.positive: {classes[0]!r} or {classes[1]!r}, or widen source.window_days"
            raise StageError(
                "train",
                f"the target {self.settings.target} has {len(classes)} of the three or more labels of a multiclass task: {shown}",
                check,
            )
        if len(classes) > MOST_CLASSES:
            raise StageError(
                "train",
                f"the target {self.settings.target} has {len(classes):,} labels, {shown}; at most {MOST_CLASSES:,} can be learnt",
                "set training.task: regression for numbers, or give rare labels one name in the source",
            )
        places = {label: place for place, label in enumerate(classes)}
        return np.array([places[label] for label in target], "int64"), classes

    def remarks(self, learnt: np.ndarray, held_out: np.ndarray) -> list[str]:
        from collections import Counter

        counts, later = Counter(learnt.tolist()), Counter(held_out.tolist())
        found = []
        if few := {label: counts[label] for label in in_order(counts) if counts[label] < FEW_ROWS}:
            told = _shown(f"{label!r:.40} in {rows}" for label, rows in few.items())
            found.append(f"classes learnt from fewer than {FEW_ROWS} rows: {told}")
        if new := {label: later[label] for label in in_order(later) if label not in counts}:
            told = _shown(f"{label!r:.40} in {rows}" for label, rows in new.items())
            found.append(f"classes of held-out rows that were never learnt, each row counts as wrong: {told}")
        if none := [label for label in in_order(counts) if label not in later]:
            found.append(f"classes in no held-out row: {_shown(f'{label!r:.40}' for label in none)}")
        return found

    def predict(self, fitted: BaseEstimator, features: pd.DataFrame) -> np.ndarray:
        import numpy as np

        return np.ascontiguousarray(fitted.predict_proba(features), "float64")

    def outcomes(self, answers: Answers) -> tuple[np.ndarray, np.ndarray]:
        import numpy as np

        return np.array(answers.classes, object), answers.values

    def score(self, metric: str, target: np.ndarray, answers: Answers, weight: np.ndarray | None = None) -> float:
        import numpy as np
        from sklearn import metrics as sk

        match metric:
            case "log_loss":
                return float(np.average(_log_losses(target, answers), weights=weight))
            case "accuracy":
                return float(np.average(_likeliest(answers) == target, weights=weight))
            case "macro_f1":
                labels = target.astype(str), _likeliest(answers).astype(str)
                return float(sk.f1_score(*labels, average="macro", zero_division=0, sample_weight=weight))
            case "roc_auc_ovr":
                return _one_against_rest(target, answers, weight)
        raise KeyError(metric)

    def row_losses(self, metric: str, target: np.ndarray, answers: Answers) -> np.ndarray | None:
        match metric:
            case "log_loss":
                return _log_losses(target, answers)
            case "accuracy":
                return (_likeliest(answers) != target).astype("float64")
        return None

    def of_mean_loss(self, metric: str, mean: float) -> float:
        return 1 - mean if metric == "accuracy" else mean

    def guess(
        self, learnt: np.ndarray, rows: int, classes: tuple[str, ...] = (), weight: np.ndarray | None = None
    ) -> Answers:
        """The share of each class."""
        import numpy as np

        names, places = np.unique(learnt.astype(str), return_inverse=True)
        counts = np.bincount(places, weights=weight)
        share = dict(zip(names.tolist(), counts / counts.sum(), strict=True))
        known = classes or in_order(share)
        return Answers(np.tile([share.get(label, 0.0) for label in known], (rows, 1)), known)

    def losses(self, target: np.ndarray, answers: Answers, other: Answers) -> np.ndarray:
        """Half the squared distance between the probabilities and the truth, the Brier score of several classes."""
        import numpy as np

        values, own = answers.values, _of_own_class(target, answers)
        # (1 - own)^2 for the own class in place of own^2.
        return np.clip(((values**2).sum(axis=1) + 1 - 2 * own) / 2, 0.0, 1.0)

    def scale(self, values: np.ndarray) -> float:
        """A probability is its own measure."""
        return 1.0

    @staticmethod
    def sides(reference: Answers) -> Callable[[Answers], np.ndarray]:
        """Which class is the likeliest: first its place among the classes, so that each change of it is one of sides; then yes or no
        for each class, so that a class's share cannot move unseen."""
        import numpy as np

        known = reference.classes

        def side(answers: Answers) -> np.ndarray:
            # A class that the champion does not know comes after its own.
            later = [label for label in in_order(answers.classes) if label not in known]
            place = {label: i for i, label in enumerate([*known, *later])}
            likeliest = np.array([place[label] for label in answers.classes])[answers.values.argmax(axis=1)]
            return np.column_stack([likeliest, likeliest[:, None] == np.arange(len(known))]).astype("int64")

        return side

    def answer(self, classes: tuple[str, ...] = ()) -> str:
        return f"one probability for each {self.settings.target}: {', '.join(classes)}"


def in_order(labels: Iterable[str]) -> tuple[str, ...]:
    """Sorted: by number where all are numbers, else as texts."""
    different = set(labels)
    try:
        return tuple(sorted(different, key=float))
    except ValueError:
        return tuple(sorted(different))


def _places(target: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Each label's place among the classes; -1 for one that was never learnt."""
    import numpy as np

    places = {label: place for place, label in enumerate(classes)}
    return np.array([places.get(label, -1) for label in target], "int64")


def _of_own_class(target: np.ndarray, answers: Answers) -> np.ndarray:
    """The probability of each row's own class; 0 for one that was never learnt."""
    import numpy as np

    place = _places(target, answers.classes)
    return np.where(place >= 0, answers.values[np.arange(len(place)), place], 0.0)


def _log_losses(target: np.ndarray, answers: Answers) -> np.ndarray:
    import numpy as np

    return -np.log(np.clip(_of_own_class(target, answers), SMALLEST, 1.0))


def _likeliest(answers: Answers) -> np.ndarray:
    import numpy as np

    return np.array(answers.classes, object)[answers.values.argmax(axis=1)]


def _one_against_rest(target: np.ndarray, answers: Answers, weight: np.ndarray | None) -> float:
    """The mean, over the classes in these rows, of how well a class's probability ranks its rows first; 0.5 for one never learnt."""
    import numpy as np
    from sklearn.metrics import roc_auc_score

    areas = []
    values = answers.values
    if weight is not None:
        # A row that counts nothing has no class either.
        target, values, weight = target[weight > 0], values[weight > 0], weight[weight > 0]
    for label in sorted(set(target.tolist())):
        of_it = target == label
        if of_it.all():
            return float("nan")
        known = label in answers.classes
        areas.append(
            roc_auc_score(of_it, values[:, answers.classes.index(label)], sample_weight=weight) if known else 0.5
        )
    return float(np.mean(areas)) if areas else float("nan")


def _shown(words: Iterable[str]) -> str:
    several = list(words)
    return ", ".join(several[:SHOWN]) + (f" and {len(several) - SHOWN} more" if len(several) > SHOWN else "")
