"""A target of two labels. A prediction is the probability of the one that is 1: `training.positive`, else 1 or true."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pipeline.errors import StageError
from pipeline.training.tasks.base import Answers, Metric, Task, above

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from sklearn.base import BaseEstimator

LOG_LOSS, ACCURACY = Metric("log_loss", "error"), Metric("accuracy", "score")
# No probability counts as impossible: one wrong row would make log_loss infinite.
SMALLEST = 1e-7
DECILES = tuple(range(10, 100, 10))


class Binary(Task):
    """Answers are float64 (rows,) in [0, 1]. Learning raises StageError for a target that is not both 0 and 1."""

    name = "binary"
    estimator = "classifier"
    output = "probability"
    metrics = (
        Metric("roc_auc", "score"),
        Metric("average_precision", "score"),
        LOG_LOSS,
        Metric("brier", "error"),
        ACCURACY,
    )
    usual_metric = "roc_auc"
    usual_metric_why = "how well it ranks, whatever the share of positives"
    mean_losses = ("log_loss", "brier", "accuracy")
    usual_loss = "log_loss"
    allowed = (0, 1)
    has_positive = True
    guess_is = "base rate"

    def learnt(self, target: pd.Series) -> tuple[np.ndarray, tuple[str, ...]]:
        if set(target.unique()) != {0.0, 1.0}:
            seen = ", ".join(f"{v:g}" for v in sorted(target.unique())[:5])
            raise StageError(
                "train",
                f"the target {self.settings.target} is {seen}, not both 0 and 1",
                "check the target, or set training.task: regression",
            )
        return target.astype("int64").to_numpy(), ()

    def predict(self, fitted: BaseEstimator, features: pd.DataFrame) -> np.ndarray:
        return fitted.predict_proba(features)[:, 1].astype("float64")

    def outcomes(self, answers: Answers) -> tuple[np.ndarray, np.ndarray]:
        import numpy as np

        return np.array([0.0, 1.0]), np.column_stack([1 - answers.values, answers.values])

    def score(self, metric: str, target: np.ndarray, answers: Answers, weight: np.ndarray | None = None) -> float:
        import numpy as np
        from sklearn import metrics as sk

        prediction = answers.values
        match metric:
            case "log_loss":
                held = np.clip(prediction, SMALLEST, 1 - SMALLEST)
                return float(sk.log_loss(target, held, labels=[0, 1], sample_weight=weight))
            case "brier":
                return float(sk.brier_score_loss(target, prediction, labels=[0, 1], sample_weight=weight))
            case "accuracy":
                return float(sk.accuracy_score(target, prediction >= 0.5, sample_weight=weight))
        # A ranking needs both classes.
        if len(np.unique(target if weight is None else target[weight > 0])) != 2:
            return float("nan")
        ranked = {"roc_auc": sk.roc_auc_score, "average_precision": sk.average_precision_score}[metric]
        return float(ranked(target, prediction, sample_weight=weight))

    def row_losses(self, metric: str, target: np.ndarray, answers: Answers) -> np.ndarray | None:
        import numpy as np

        match metric:
            case "log_loss":
                held = np.clip(answers.values, SMALLEST, 1 - SMALLEST)
                return -np.log(np.where(target == 1, held, 1 - held))
            case "brier":
                return (answers.values - target) ** 2
            case "accuracy":
                return ((answers.values >= 0.5) != (target == 1)).astype("float64")
        return None

    def of_mean_loss(self, metric: str, mean: float) -> float:
        return 1 - mean if metric == "accuracy" else mean

    def guess(
        self, learnt: np.ndarray, rows: int, classes: tuple[str, ...] = (), weight: np.ndarray | None = None
    ) -> Answers:
        """The share of 1."""
        import numpy as np

        return Answers(np.full(rows, np.average(learnt, weights=weight)))

    def losses(self, target: np.ndarray, answers: Answers, other: Answers) -> np.ndarray:
        """The squared error."""
        return (answers.values - target) ** 2

    def scale(self, values: np.ndarray) -> float:
        """A probability is its own measure."""
        return 1.0

    @staticmethod
    def sides(reference: Answers) -> Callable[[Answers], np.ndarray]:
        """Above 0.5; then above each decile."""
        import numpy as np

        return above(np.array([0.5, *np.percentile(reference.values, DECILES)]))

    def answer(self, classes: tuple[str, ...] = ()) -> str:
        positive = self.settings.positive
        return f"the probability that {self.settings.target} is {1 if positive is None else positive}"
