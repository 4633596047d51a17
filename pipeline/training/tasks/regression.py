"""A target of numbers. A prediction is a number in the target's own unit."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pipeline.errors import StageError
from pipeline.training.tasks.base import Answers, Metric, Task, above
from pipeline.training.tasks.binary import DECILES, SMALLEST

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from sklearn.base import BaseEstimator


class Regression(Task):
    """Answers are float64 (rows,) in the target's unit. Learning raises StageError for a target of one value, and for
    negative counts."""

    name = "regression"
    estimator = "regressor"
    output = "number"
    metrics = (
        Metric("mae", "error in the target's unit"),
        Metric("rmse", "error in the target's unit"),
        Metric("r2", "score"),
        Metric("pinball", "error in the target's unit"),
        Metric("poisson_deviance", "error"),
    )
    usual_metric = "mae"
    usual_metric_why = "in the target's own unit"
    mean_losses = ("mae", "rmse", "pinball", "poisson_deviance")
    usual_loss = "mae"
    guess_is = "mean"

    def learnt(self, target: pd.Series) -> tuple[np.ndarray, tuple[str, ...]]:
        if target.nunique() == 1:
            raise StageError(
                "train", f"the target {self.settings.target} is {target.iloc[0]:g} in every row", "check the source"
            )
        if self._counts and (negative := int((target < 0).sum())):
            raise StageError(
                "train",
                f"the target {self.settings.target} is negative in {negative:,} of {len(target):,} rows, e.g. {target.min():g}, "
                "and a Poisson loss takes none",
                f"correct the source, or quarantine such rows by gates.contract.columns.{self.settings.target}.min: 0",
            )
        if self._counts and target.sum() == 0:
            raise StageError("train", f"the target {self.settings.target} is 0 in every row", "check the source")
        return target.to_numpy(), ()

    @property
    def _counts(self) -> bool:
        """Whether the loss is that of counts."""
        options = self.settings.options
        poisson = options.get("loss") == "poisson" or options.get("objective") in ("poisson", "count:poisson")
        return poisson or "Poisson" in self.settings.estimator

    @property
    def quantile(self) -> float:
        """The quantile that is predicted, the median where no option names one: what `pinball` is measured at."""
        return 0.5 if self._asked is None else self._asked

    @property
    def _asked(self) -> float | None:
        """The quantile that the options name, as scikit-learn, XGBoost and LightGBM have it."""
        options = self.settings.options
        names = {"reg:quantileerror": ("quantile_alpha", 0.5), "quantile": ("alpha", 0.9)}
        name, usual = names.get(str(options.get("objective")), ("quantile", None))
        if options.get("loss") == "quantile" and self.settings.estimator.endswith(".GradientBoostingRegressor"):
            name, usual = "alpha", 0.9
        given = options.get(name, usual)
        return None if given is None else float(given)

    def predict(self, fitted: BaseEstimator, features: pd.DataFrame) -> np.ndarray:
        import numpy as np

        return np.asarray(fitted.predict(features), dtype="float64").reshape(-1)

    def score(self, metric: str, target: np.ndarray, answers: Answers, weight: np.ndarray | None = None) -> float:
        from sklearn import metrics as sk

        prediction = answers.values
        match metric:
            case "mae":
                return float(sk.mean_absolute_error(target, prediction, sample_weight=weight))
            case "rmse":
                return float(sk.root_mean_squared_error(target, prediction, sample_weight=weight))
            case "r2":
                return float(sk.r2_score(target, prediction, sample_weight=weight)) if len(target) > 1 else float("nan")
            case "pinball":
                return float(sk.mean_pinball_loss(target, prediction, alpha=self.quantile, sample_weight=weight))
            case "poisson_deviance":
                return _poisson_deviance(target, prediction, weight)
        raise KeyError(metric)

    def row_losses(self, metric: str, target: np.ndarray, answers: Answers) -> np.ndarray | None:
        import numpy as np

        error = target - answers.values
        match metric:
            case "mae":
                return np.abs(error)
            case "rmse":
                return error**2
            case "pinball":
                return np.maximum(self.quantile * error, (self.quantile - 1) * error)
            case "poisson_deviance" if not (target < 0).any():
                expected = np.maximum(answers.values, SMALLEST)
                logs = np.log(np.divide(target, expected, out=np.ones_like(expected), where=target > 0))
                return 2 * (target * logs - target + expected)
        return None

    def of_mean_loss(self, metric: str, mean: float) -> float:
        return mean**0.5 if metric == "rmse" else mean

    def guess(
        self, learnt: np.ndarray, rows: int, classes: tuple[str, ...] = (), weight: np.ndarray | None = None
    ) -> Answers:
        """The mean; for a quantile loss that quantile."""
        import numpy as np

        if self._asked is not None:
            return Answers(np.full(rows, _quantile(learnt, self.quantile, weight)))
        return Answers(np.full(rows, np.average(learnt, weights=weight)))

    def guesses(
        self, learnt: np.ndarray, classes: tuple[str, ...] = (), weight: np.ndarray | None = None
    ) -> dict[str, float | list[float]]:
        """The mean, and the median, which has the smallest mean error; for a quantile loss that quantile too."""
        import numpy as np

        found: dict[str, float | list[float]] = {
            self.guess_is: float(np.average(learnt, weights=weight)),
            "median": _quantile(learnt, 0.5, weight),
        }
        if self._asked is not None:
            found[f"quantile {self.quantile:g}"] = _quantile(learnt, self.quantile, weight)
        return found

    def losses(self, target: np.ndarray, answers: Answers, other: Answers) -> np.ndarray:
        """The absolute error as a share of the larger error of the two versions, so that one outlier does not outweigh the other rows."""
        import numpy as np

        error, other_error = np.abs(answers.values - target), np.abs(other.values - target)
        larger = np.maximum(error, other_error)
        return np.divide(error, larger, out=np.zeros_like(larger), where=larger > 0)

    def scale(self, values: np.ndarray) -> float:
        """The predictions' spread, or their size where all are equal."""
        import numpy as np

        # Rounded: processors differ in the last digits of a sum, and it goes into a package.
        rounded = (float(f"{value:.3g}") for value in (np.std(values), np.max(np.abs(values))))
        return next((value for value in rounded if value != 0), 1.0)

    @staticmethod
    def sides(reference: Answers) -> Callable[[Answers], np.ndarray]:
        """Above the median; then above each decile."""
        import numpy as np

        return above(np.array([float(np.median(reference.values)), *np.percentile(reference.values, DECILES)]))

    def answer(self, classes: tuple[str, ...] = ()) -> str:
        if self._asked is not None:
            return f"the quantile {self.quantile:g} of {self.settings.target}"
        return f"the predicted {self.settings.target}"


def _quantile(values: np.ndarray, at: float, weight: np.ndarray | None) -> float:
    import numpy as np

    if weight is None:
        return float(np.quantile(values, at))
    # Only this way of numpy's takes weights.
    return float(np.quantile(values, at, weights=weight, method="inverted_cdf"))


def _poisson_deviance(target: np.ndarray, prediction: np.ndarray, weight: np.ndarray | None) -> float:
    """NaN where it is not defined: for negative targets. A prediction that is not above 0 counts as next to 0, and costs much."""
    import numpy as np
    from sklearn.metrics import mean_poisson_deviance

    if (target < 0).any():
        return float("nan")
    return float(mean_poisson_deviance(target, np.maximum(prediction, SMALLEST), sample_weight=weight))
