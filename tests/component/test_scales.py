"""Three ordinary regressions and one of small numbers, through package, gate and golden requests, at the default tolerance."""

from functools import cache
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from harness.project import CHURN, churn_rows
from pipeline.errors import RolloutError
from pipeline.gates import onnx_parity
from pipeline.gates.base import PackagedModel
from pipeline.serving.runtime import Runtime
from pipeline.settings.models import Model
from pipeline.training import evaluate, fit, package, skops_file
from tests.support.golden import golden_answers

OPTIONS = {"hist_gradient_boosting": {"max_iter": 30}, "random_forest": {"n_estimators": 30}, "linear": {}}
TARGETS = {
    "0 to 1,000": lambda known, noise: np.clip(500 + 180 * known + 90 * noise, 0, 1000),
    "log-normal": lambda known, noise: np.exp(8 + 1.2 * known + 0.5 * noise),
    "1e6 +- 1": lambda known, noise: 1e6 + 0.7 * known + 0.5 * noise,
    "1e-6": lambda known, noise: 1e-6 * (1 + 0.7 * known + 0.5 * noise),
}


def regression(estimator, runtime="auto"):
    training = {"task": "regression", "estimator": estimator, "options": OPTIONS[estimator], "runtime": runtime}
    changed = {"training": CHURN["training"] | training, "evaluation": CHURN["evaluation"] | {"metric": "rmse"}}
    return Model.model_validate(CHURN | changed)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Makes the package of a model for a target: its settings, the held-out rows, the folder and the manifest. Each is made once."""

    @cache
    def build(target, estimator, runtime="auto"):
        model, folder = regression(estimator, runtime), tmp_path_factory.mktemp("built")
        rows = churn_rows(model)
        known = rows["spend"].fillna(0).rank() / len(rows) + (rows["plan"] == "plus")
        known = ((known - known.mean()) / known.std()).to_numpy()
        noise = np.random.default_rng(7).normal(size=len(rows))
        rows = rows.assign(left=TARGETS[target](known, noise))
        skops_file.save(fit.fit(rows, model), folder / "m")
        evaluate.evaluate(model, rows, folder / "m", folder / "p", folder / "r", folder / "e")
        manifest = package.build("churn", model, folder / "m", folder / "p", folder / "package")
        held_out = pd.read_parquet(folder / "p")
        return SimpleNamespace(model=model, held_out=held_out, package=folder / "package", manifest=manifest)

    return build


def parity(of, served):
    """The gate's verdict on a package, against the held-out rows of a model."""
    return onnx_parity.verdict(PackagedModel(of.model, {}, None, of.held_out, Runtime.load(served)))


@pytest.mark.parametrize("estimator", OPTIONS)
@pytest.mark.parametrize("target", TARGETS)
def test_a_right_package_passes_at_every_scale_and_a_wrong_one_at_none(built, monkeypatch, target, estimator):
    """Where float32 cannot tell the predictions apart, the model is served from skops. The wrong one is another model's package."""
    right = built(target, estimator)
    assert right.model.gates.parity_tolerance == 1e-4
    assert right.manifest["runtime"] == ("skops" if target == "1e6 +- 1" else "onnx")
    assert parity(right, right.package).passed
    assert golden_answers(right.package, right.package, monkeypatch) == right.model.evaluation.golden_rows

    wrong = built(target, next(other for other in OPTIONS if other != estimator)).package
    verdict = parity(right, wrong)
    assert not verdict.passed
    assert "limit 0.0001 (gates.parity_tolerance)" in verdict.reason
    with pytest.raises(
        RolloutError, match=r"golden answers are wrong, by up to .*\(gates.parity_tolerance was 0.0001\)"
    ):
        golden_answers(wrong, right.package, monkeypatch)


def test_onnx_that_was_asked_for_is_kept_and_fails_the_gate(built):
    """`training.runtime: onnx` is a choice: a model that ONNX answers otherwise is refused by name, not served in another way."""
    forest = built("1e6 +- 1", "random_forest", "onnx")
    verdict = parity(forest, forest.package)
    assert (forest.manifest["runtime"], verdict.passed) == ("onnx", False)
    assert "of the predictions' spread" in verdict.reason
