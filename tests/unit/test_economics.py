"""What a loss and a retrain cost, and how each part is known."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from harness.project import CHURN, write_params
from pipeline.errors import SettingsError
from pipeline.ledger.costs import RunCosts, StepCost
from pipeline.policy.economics import GUESSED_VALUE, Figure, worth
from pipeline.settings.accounts import Prices
from pipeline.settings.economics import Decisions, Economics
from pipeline.settings.models import Model, load
from pipeline.training import economic_loss, tasks
from pipeline.training.tasks import Answers

PRICES = Prices(currency="EUR", cpu_core_hour=0.05, memory_gb_hour=0.01, engineer_hour=60)
ROWS = Figure(1000, "measured", "the prediction log")


def run_of(cost: float, last: str) -> RunCosts:
    return RunCosts("r", "m", "", (StepCost(last, "success", cost=cost),), 1, 1, 1, cost, "EUR")


def test_a_retrain_costs_its_machine_its_people_and_its_risk() -> None:
    """The machine's part is the median of whole runs; a run that made no version is none."""
    runs = [run_of(cost, "register") for cost in (1.0, 2.0, 9.0)] + [run_of(100, "train")]
    of = worth(Economics(value=0.5, retrain_minutes=30, release_risk=3), "brier", PRICES, runs, ROWS)
    assert of.retrain == pytest.approx(2 + 30 + 3)
    assert of.retrain_in_loss(7) == pytest.approx(35 / (0.5 * 1000 * 7))
    assert of.guesses == []
    assert of.machine.known == "measured"


def test_what_nobody_stated_is_a_guess_and_says_its_key() -> None:
    """Each default is named as one, and rows of the log are none."""
    of = worth(Economics(), "brier", PRICES, [], ROWS)
    assert of.value.value == GUESSED_VALUE
    assert of.guesses == ["economics.value", "economics.retrain_minutes", "economics.release_risk"]
    assert of.machine.known == "guess"
    stated = worth(Economics(rows_a_day=5), "brier", PRICES, [], ROWS)
    assert (stated.rows_a_day.value, stated.rows_a_day.known) == (5, "yours")


def test_each_outcome_of_a_decision_costs_its_money() -> None:
    """The threshold itself is a yes, and the loss needs no value."""
    costs = Decisions(threshold=0.3, true_positive=-1, false_positive=5, false_negative=60)
    answers = Answers(np.array([0.3, 0.9, 0.2, 0.1]))
    assert economic_loss.of_decisions(costs, np.array([1, 0, 1, 0]), answers).tolist() == [-1, 5, 60, 0]
    assert worth(Economics(decisions=costs), "money", PRICES, [], ROWS).value.value == 1


@pytest.mark.parametrize("kind", tasks.TASKS.values(), ids=lambda kind: kind.name)
def test_the_mean_of_the_row_losses_is_the_metric(kind) -> None:
    """Of each metric that a task calls a mean over rows."""
    training = type("T", (), {"task": kind.name, "target": "y", "positive": None, "estimator": "x", "options": {}})
    drawn, task = np.random.default_rng(1), kind(training)
    if kind.name == "multiclass":
        target, values = drawn.choice(["a", "b", "c", "new"], 50).astype(object), drawn.dirichlet([1, 1, 1], 50)
        answers = Answers(values, ("a", "b", "c"))
    else:
        target = drawn.integers(0, 2, 50).astype(float)
        answers = Answers(drawn.uniform(0, 1, 50))
    for metric in kind.mean_losses:
        losses = task.row_losses(metric, target, answers)
        assert task.of_mean_loss(metric, losses.mean()) == pytest.approx(task.score(metric, target, answers)), metric


@pytest.mark.parametrize(
    ("task", "metric", "expected"),
    [("binary", "roc_auc", "log_loss"), ("binary", "brier", "brier"), ("regression", "r2", "mae")],
)
def test_the_loss_is_the_metric_where_that_is_a_mean(task: str, metric: str, expected: str) -> None:
    """A ranking is no mean over rows, so another loss stands for it."""
    assert Economics().loss_of(task, metric) == expected


@pytest.mark.parametrize(
    ("economics", "line"),
    [
        (
            {"loss": "roc_auc"},
            "economics.loss: must be a mean over the rows of a binary model, log_loss, brier, accuracy",
        ),
        ({"value": 0}, "economics.value: "),
        ({"values": 1}, "economics.values"),
        (
            {"value": 1, "decisions": {"false_positive": 1, "false_negative": 2}},
            "economics.value: is not needed beside economics.decisions",
        ),
        ({"decisions": {"threshold": 1, "false_positive": 1, "false_negative": 2}}, "economics.decisions.threshold"),
    ],
)
def test_a_fault_names_its_key(project, economics: dict, line: str) -> None:
    """By the full name of the key, in one line."""
    whole = yaml.safe_load((project / "params.yaml").read_text())
    whole["models"]["churn"] = {**CHURN, "economics": economics}
    write_params(project, whole)
    with pytest.raises(SettingsError) as refused:
        load(project).model("churn")
    assert f"models.churn.{line}" in str(refused.value)


def test_decisions_are_for_two_outcomes() -> None:
    """A model of numbers says its value of a unit."""
    block = {**CHURN, "economics": {"decisions": {"false_positive": 1, "false_negative": 2}}}
    block["training"] = {**CHURN["training"], "task": "regression", "target": "spend", "numeric": ["calls"]}
    block["evaluation"] = {**CHURN["evaluation"], "metric": "mae"}
    with pytest.raises(ValueError, match=r"training.task is regression; give economics.value"):
        Model.model_validate(block)
