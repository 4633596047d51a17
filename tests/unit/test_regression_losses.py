"""Losses of a regression that are not the mean's: a quantile, and counts."""

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from harness.project import churn_rows
from pipeline.errors import StageError
from pipeline.serving.runtime import Runtime
from pipeline.settings.training import Training
from pipeline.training import tasks
from pipeline.training.tasks import Answers
from tests.unit.test_tasks import built, model_of

NUMBERS = tasks.of(Training(task="regression", target="spend"))


@pytest.mark.parametrize("quantile", [0.1, 0.5, 0.9])
def test_pinball_is_measured_at_the_quantile_that_is_predicted(quantile):
    """As scikit-learn has it, and the naive guess is that quantile; without the option it is the median's."""
    training = Training(task="regression", target="spend", options={"loss": "quantile", "quantile": quantile})
    task, target = tasks.of(training), np.arange(11.0)
    found = task.scores(target, Answers(np.full(11, 3.0)))["pinball"]
    assert found == pytest.approx(sk.mean_pinball_loss(target, np.full(11, 3.0), alpha=quantile))
    assert task.guess(target, 2).values.tolist() == [10 * quantile] * 2
    assert task.answer() == f"the quantile {quantile:g} of spend"
    half = NUMBERS.scores(target, Answers(np.full(11, 3.0)))
    assert half["pinball"] == pytest.approx(half["mae"] / 2)


def test_poisson_deviance_is_known_for_counts_alone():
    """As scikit-learn has it; a prediction of 0 or less costs much, and a negative target has none."""
    target = np.array([0.0, 1.0, 4.0])
    found = NUMBERS.scores(target, Answers(np.array([0.5, 1.5, 3.0])))["poisson_deviance"]
    assert found == pytest.approx(sk.mean_poisson_deviance(target, [0.5, 1.5, 3.0]))
    assert NUMBERS.scores(target, Answers(np.array([-1.0, 1.5, 3.0])))["poisson_deviance"] > 0.1
    assert np.isnan(NUMBERS.scores(-target, Answers(target))["poisson_deviance"])


def test_a_quantile_and_a_poisson_loss_go_through_the_package(tmp_path):
    """ONNX says what scikit-learn says, and the share of targets below a predicted quantile is near it."""
    for number, options in enumerate(({"loss": "quantile", "quantile": 0.9}, {"loss": "poisson"})):
        model = model_of("pinball", task="regression", target="spend", numeric=["calls"], options=options)
        (folder := tmp_path / str(number)).mkdir()
        held_out, result = built(folder, model, churn_rows(model))
        served = Runtime.load(folder / "package")
        assert served.manifest["runtime"] == "onnx"
        assert np.allclose(served.predict_frame(held_out), held_out["prediction"], rtol=1e-4)
        below = (held_out["spend"] <= held_out["prediction"]).mean()
        assert below == pytest.approx(0.9 if number == 0 else 0.5, abs=0.1)
        assert result.metrics["pinball"] <= result.baseline["pinball"] * 1.1


def test_a_negative_target_of_a_poisson_loss_is_refused_in_a_line():
    """With how many rows, one of them, and the key that leaves them out."""
    training = Training(task="regression", target="visits", options={"loss": "poisson"})
    line = (
        r"visits is negative in 1 of 3 rows, e.g. -2, and a Poisson loss takes none; .*contract.columns.visits.min: 0"
    )
    with pytest.raises(StageError, match=line):
        tasks.of(training).learnt(pd.Series([1.0, 0.0, -2.0]))
    with pytest.raises(StageError, match="visits is 0 in every row"):
        tasks.of(training).learnt(pd.Series([0.0, -0.0, 0.0, 0.0]))
